//! What passed and what failed.

/// The results so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: Vec<Failure>,
}

#[derive(Debug)]
struct Failure {
    name: String,
    why: String,
}

impl Report {
    /// `count` tests passed.
    pub fn passed(&mut self, count: usize) {
        self.passed += count;
    }

    /// The test `name` failed; `why` may have many lines.
    pub fn failed(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.failed.push(Failure {
            name: name.into(),
            why: why.into(),
        });
    }

    /// Whether something ran and nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }

    /// Prints every failure with its reason, and the closing line.
    pub fn print(&self) {
        print!("{}", self.text());
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.failed.is_empty() {
            text.push_str("\nfailures:\n");
        }
        for failure in &self.failed {
            text.push_str(&format!("\n  {}\n", failure.name));
            failure
                .why
                .lines()
                .for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        for failure in &self.failed {
            text.push_str(&format!("\nfailed: {}", failure.name));
        }
        if self.failed.is_empty() && self.passed == 0 {
            text.push_str("\nno test has such a name\n");
        }
        text.push_str(&format!(
            "\n{} passed, {} failed\n",
            self.passed,
            self.failed.len()
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_every_failure_is_named_with_its_reason() {
        let mut report = Report::default();
        report.passed(3);
        assert!(report.is_good());
        report.failed("scenario::a", "first\nsecond");
        assert!(!report.is_good());
        let text = report.text();
        assert!(text.ends_with("\n3 passed, 1 failed\n"), "{text}");
        assert!(text.contains("  scenario::a\n    first\n    second\n"), "{text}");
    }

    #[test]
    fn nothing_at_all_is_not_good() {
        assert!(!Report::default().is_good());
        assert!(Report::default().text().contains("no test"));
    }
}
