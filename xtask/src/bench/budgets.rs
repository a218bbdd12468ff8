//! What operations may cost: the file in the repository, and how a measurement is held against it.

use anyhow::{Context, Result};

use super::table::{Row, decimal};

/// Instructions may grow by so many parts in a hundred.
const TOLERANCE: u64 = 2;

const HEADING: &str = "\
# What an operation may cost: instructions (`-` if they are not counted), then events, as the book's chapter on measuring
# explains them. Written by `cargo xtask bench --update`; `cargo xtask bench` compares.
";

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// The compiler that built what was measured.
    pub compiler: String,
    /// The kinds of events in each row.
    pub events: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The result of a comparison.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is worse than it may be.
    pub failures: Vec<String>,
    /// What is worth knowing.
    pub remarks: Vec<String>,
}

impl Budgets {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut budgets = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(compiler) = line.strip_prefix("compiler ") {
                compiler.trim().clone_into(&mut budgets.compiler);
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["events", kinds @ ..] = words.as_slice() {
                budgets.events = kinds.iter().map(|&kind| kind.to_owned()).collect();
                continue;
            }
            let kinds = budgets.events.len();
            let row = Row::parse(&words, kinds).filter(|_| words.len() == 2 + kinds);
            budgets
                .rows
                .push(row.with_context(|| format!("line {} is not a row: {line}", number + 1))?);
        }
        Ok(budgets)
    }

    /// The file's text.
    pub fn print(&self) -> String {
        let events = self.events.join(" ");
        let mut text = format!("{HEADING}compiler {}\nevents {events}\n", self.compiler);
        for row in &self.rows {
            text.push_str(&row.print());
            text.push('\n');
        }
        text
    }

    /// Holds what was measured against the budgets. Instructions depend on the compiler: with another one they are only
    /// remarked on.
    pub fn compare(&self, measured: &Self) -> Verdict {
        let mut verdict = Verdict::default();
        let same_compiler = self.compiler == measured.compiler;
        if !same_compiler {
            verdict.remarks.push(format!(
                "the budgets are those of {}, this is {}: instructions are not judged",
                self.compiler, measured.compiler
            ));
        }
        if self.events != measured.events {
            verdict.failures.push(format!(
                "the budgets are for the events {}, measured were {}",
                self.events.join(" "),
                measured.events.join(" ")
            ));
            return verdict;
        }
        for row in &measured.rows {
            let Some(budget) = self.rows.iter().find(|budget| budget.name == row.name) else {
                verdict.failures.push(format!("{}: has no budget", row.name));
                continue;
            };
            for (kind, (&seen, &allowed)) in self.events.iter().zip(row.events.iter().zip(&budget.events)) {
                if seen > allowed {
                    verdict.failures.push(format!(
                        "{}: {kind} is {}, was {}",
                        row.name,
                        decimal(seen),
                        decimal(allowed)
                    ));
                }
            }
            let (Some(seen), Some(allowed)) = (row.instructions, budget.instructions) else {
                continue;
            };
            let text = format!("{}: {seen} instructions, were {allowed}", row.name);
            if seen * 100 > allowed * (100 + TOLERANCE) {
                let place = if same_compiler {
                    &mut verdict.failures
                } else {
                    &mut verdict.remarks
                };
                place.push(text);
            } else if seen * 100 < allowed * (100 - TOLERANCE) {
                verdict.remarks.push(text);
            }
        }
        for budget in &self.rows {
            if measured.rows.iter().all(|row| row.name != budget.name) {
                verdict
                    .failures
                    .push(format!("{}: was not measured", budget.name));
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets(compiler: &str, rows: &[&str]) -> Budgets {
        let events = "events C T-page T-all P F";
        Budgets::parse(&format!("compiler {compiler}\n{events}\n{}", rows.join("\n"))).unwrap()
    }

    #[test]
    fn the_file_survives_being_written() {
        let before = budgets("rustc 1.2", &["a 100 0 1 0 0 0", "b - 0 0 0 2.5 0"]);
        assert_eq!(Budgets::parse(&before.print()).unwrap(), before);
        for wrong in ["a", "a 1 2 3", "a x 0 0 0 0 0", "a 1 0 0 0 0 0 0"] {
            let text = format!("events A B C D E\n{wrong}");
            assert!(Budgets::parse(&text).is_err(), "{wrong}");
        }
    }

    #[test]
    fn instructions_may_grow_a_little_and_events_not_at_all() {
        let allowed = budgets("r", &["a 100 0 1 0 0 0"]);
        let failures = |row: &str| allowed.compare(&budgets("r", &[row])).failures;
        assert!(failures("a 102 0 1 0 0 0").is_empty());
        assert_eq!(failures("a 103 0 1 0 0 0"), ["a: 103 instructions, were 100"]);
        assert_eq!(failures("a 90 0 1.01 0 0 0"), ["a: T-page is 1.01, was 1"]);
        assert_eq!(failures("a 100 0 0 0 1 0"), ["a: P is 1, was 0"]);
    }

    #[test]
    fn rows_must_be_the_same() {
        let allowed = budgets("r", &["a 1 0 0 0 0 0"]);
        let verdict = allowed.compare(&budgets("r", &["b 1 0 0 0 0 0"]));
        assert_eq!(verdict.failures, ["b: has no budget", "a: was not measured"]);
    }

    #[test]
    fn events_must_be_the_same() {
        let allowed = Budgets::parse("events X P\na 1 0 0").unwrap();
        let verdict = allowed.compare(&Budgets::parse("events X\na 1 0").unwrap());
        assert_eq!(
            verdict.failures,
            ["the budgets are for the events X P, measured were X"]
        );
    }

    #[test]
    fn another_compiler_makes_other_code() {
        let verdict = budgets("old", &["a 100 0 0 0 0 0"]).compare(&budgets("new", &["a 200 0 0 0 1 0"]));
        assert_eq!(verdict.failures, ["a: P is 1, was 0"]);
        assert_eq!(verdict.remarks.len(), 2);
    }
}
