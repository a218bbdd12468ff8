//! Progress of long work: a bar or a spinner on a terminal, one line when it begins and one when it ends elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One piece of long work.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    begin: Instant,
}

impl Progress {
    /// Begins work of unknown length.
    pub fn spinner(what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
        Self::begin(ProgressBar::new_spinner(), style, what)
    }

    /// Begins work of `steps` steps.
    pub fn bar(what: &str, steps: u64) -> Self {
        let style =
            ProgressStyle::with_template("{prefix} [{elapsed}] {bar:30.green} {pos}/{len} {wide_msg:.dim}");
        Self::begin(ProgressBar::new(steps), style, what)
    }

    fn begin(
        bar: ProgressBar,
        style: Result<ProgressStyle, indicatif::style::TemplateError>,
        what: &str,
    ) -> Self {
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            eprintln!("{what} ...");
        }
        Self {
            bar,
            what: what.to_owned(),
            begin: Instant::now(),
        }
    }

    /// Shows what is being done just now.
    pub fn now(&self, text: &str) {
        self.bar.set_message(text.trim().to_owned());
    }

    /// One step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// Prints a line that stays, above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// The work is done.
    pub fn done(self) {
        self.bar.finish_and_clear();
        eprintln!(
            "{}: done in {:.1} s",
            self.what,
            self.begin.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
