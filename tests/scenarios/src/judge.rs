//! The verdict on a run.

use crate::Scenario;

/// What no machine may print unless its scenario says that it ends with this status.
const PANIC: (&str, u8) = ("dragonet: panic", 101);

impl Scenario {
    /// Whether a run that ended with `status` and printed `serial` is what the scenario asks for. An error says
    /// everything that is wrong.
    pub fn judge(&self, status: u8, serial: &str) -> Result<(), String> {
        let mut wrong = Vec::new();
        if status != self.status {
            wrong.push(format!(
                "status {status} instead of {}{}",
                self.status,
                meaning(status)
            ));
        }
        let mut rest = serial;
        for text in self.contains {
            match rest.split_once(text) {
                Some((_, behind)) => rest = behind,
                None if serial.contains(text) => wrong.push(format!("out of order: {text:?}")),
                None => wrong.push(format!("not printed: {text:?}")),
            }
        }
        let panic = (self.status != PANIC.1).then_some(&PANIC.0);
        for text in self
            .lacks
            .iter()
            .chain(panic)
            .filter(|text| serial.contains(**text))
        {
            wrong.push(format!("printed: {text:?}"));
        }
        wrong.extend(
            self.steady
                .iter()
                .filter_map(|&(beginning, tolerance)| unsteady(serial, beginning, tolerance)),
        );
        wrong.extend(failed_tests(serial).map(|line| format!("printed: {line:?}")));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}

/// What is wrong with the lines that begin with `beginning`, if anything is.
fn unsteady(serial: &str, beginning: &str, tolerance: u64) -> Option<String> {
    let mut lines = serial
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(beginning));
    let (Some(first), Some(last)) = (lines.next(), lines.next_back()) else {
        return Some(format!("not printed twice: {beginning:?}"));
    };
    let (before, after) = (numbers(first), numbers(last));
    let near = |(before, after): (&u64, &u64)| before.abs_diff(*after) <= tolerance;
    let alike = before.len() == after.len() && before.iter().zip(&after).all(near);
    (!alike).then(|| format!("not the same (tolerance {tolerance}):\n  {first}\n  {last}"))
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// The lines `test NAME ... FAILED: why` of programs and in-kernel tests.
fn failed_tests(serial: &str) -> impl Iterator<Item = &str> {
    let lines = serial.lines().map(str::trim);
    lines.filter(|line| line.contains("test ") && line.contains(" ... FAILED"))
}

/// The number of tests that the machine itself ran and passed.
pub(crate) fn passed_tests(serial: &str) -> usize {
    let lines = serial.lines().map(str::trim);
    lines
        .filter(|line| line.contains("test ") && line.ends_with(" ... ok"))
        .count()
}

/// Lines that tell with which seed something random was done.
pub(crate) fn seeds(serial: &str) -> Vec<&str> {
    let lines = serial.lines().map(str::trim);
    lines
        .filter(|line| {
            line.to_lowercase()
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| word == "seed")
        })
        .collect()
}

impl Scenario {
    /// The number of tests that the machine itself ran and passed, and its lines that tell a seed.
    pub fn remarks(serial: &str) -> (usize, Vec<&str>) {
        (passed_tests(serial), seeds(serial))
    }
}

fn meaning(status: u8) -> &'static str {
    match status {
        101 => " (a panic)",
        124 => " (a hang)",
        125 => " (the emulator died)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::qemu;

    #[test]
    fn texts_must_come_in_their_order() {
        let scenario = qemu("order").prints(&["one", "two"]);
        assert!(scenario.judge(0, "one\ntwo\n").is_ok());
        assert!(
            scenario
                .judge(0, "two\none\n")
                .unwrap_err()
                .contains("out of order: \"two\"")
        );
        assert!(
            scenario
                .judge(0, "one\n")
                .unwrap_err()
                .contains("not printed: \"two\"")
        );
        assert!(qemu("twice").prints(&["a", "a"]).judge(0, "a\n").is_err());
    }

    #[test]
    fn the_status_must_fit_and_is_explained() {
        assert!(qemu("status").status(3).judge(3, "").is_ok());
        let error = qemu("status").judge(124, "").unwrap_err();
        assert!(error.contains("status 124 instead of 0 (a hang)"), "{error}");
    }

    #[test]
    fn forbidden_texts_panics_and_failed_tests_are_failures() {
        assert!(
            qemu("lacks")
                .never_prints(&["leaked"])
                .judge(0, "3 frames leaked")
                .is_err()
        );
        assert!(qemu("panic").judge(0, "dragonet: panic: why").is_err());
        assert!(
            qemu("panic")
                .status(101)
                .judge(101, "dragonet: panic: why")
                .is_ok()
        );
        assert!(
            qemu("tests")
                .judge(0, "test a ... ok\ntest b ... FAILED: no\n")
                .is_err()
        );
    }

    #[test]
    fn what_must_be_steady_is_compared_first_to_last() {
        let scenario = qemu("steady").keeps(&[("objects:", 0), ("frames", 5)]);
        let lines = |frames, objects| {
            format!("frames 100 free\nobjects: 7 handles\nframes {frames} free\nobjects: {objects} handles\n")
        };
        assert!(scenario.judge(0, &lines(96, 7)).is_ok());
        assert!(
            scenario
                .judge(0, &lines(90, 7))
                .unwrap_err()
                .contains("frames 90")
        );
        assert!(
            scenario
                .judge(0, &lines(100, 8))
                .unwrap_err()
                .contains("objects: 8")
        );
        assert!(
            scenario
                .judge(0, "frames 1\nobjects: 2\n")
                .unwrap_err()
                .contains("not printed twice")
        );
    }

    #[test]
    fn remarks_count_tests_and_find_seeds() {
        let serial = "test a ... ok\ntest b ... ok\nseed: 0x17\nseedless line\n";
        assert_eq!(super::super::Scenario::remarks(serial), (2, vec!["seed: 0x17"]));
    }
}
