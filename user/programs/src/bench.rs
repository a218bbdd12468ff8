//! What `vmbench` makes of what it has measured: costs per operation, modelled cycles, and the table.
//!
//! The model and its weights are explained in the book's chapter on measuring, which prints them with the table.

use alloc::format;
use alloc::string::String;
use dragonet_abi::counters::{COUNTERS, Counter};

/// What a number of like operations cost together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Operations, above 0.
    pub operations: u64,
    /// Instructions, if they can be counted here.
    pub instructions: Option<u64>,
    /// Events, by counter.
    pub events: [u64; COUNTERS],
}

/// A value per operation, in hundredths, rounded.
fn hundredths(total: u64, operations: u64) -> u64 {
    (total * 100 + operations / 2) / operations
}

/// Hundredths as text, without a fraction that is zero.
fn decimal(value: u64) -> String {
    match (value / 100, value % 100) {
        (whole, 0) => format!("{whole}"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{}", part / 10),
        (whole, part) => format!("{whole}.{part:02}"),
    }
}

/// Published costs of events in cycles. Instructions are taken to run at 1.5 a cycle.
pub const WEIGHTS: &str = "cycles = I/1.5 + 157 a SYSCALL+SYSRET + 26 a SWAPGS + 190 a load of CR3 (115 if it keeps translations) \
    + 150 an INVLPG + 190 a flush of everything + 1900 an IPI + 500 a page fault";

impl Cost {
    /// Events of one kind in all operations.
    #[must_use]
    pub const fn count(&self, counter: Counter) -> u64 {
        self.events[counter as usize]
    }

    /// Instructions per operation, rounded.
    #[must_use]
    pub fn per_operation(&self) -> Option<u64> {
        let instructions = self.instructions?;
        Some((instructions + self.operations / 2) / self.operations)
    }

    /// Modelled cycles per operation.
    #[must_use]
    pub fn cycles(&self) -> Option<u64> {
        let count = |counter| self.count(counter);
        let (calls, faults) = (count(Counter::Syscall), count(Counter::PageFault));
        let kept = count(Counter::PcidHit);
        let events = 157 * calls
            + 26 * 2 * (calls + faults)
            + 115 * kept
            + 190 * (count(Counter::Cr3Load) - kept)
            + 150 * count(Counter::FlushPage)
            + 190 * count(Counter::FlushAll)
            + 1900 * count(Counter::IpiSent)
            + 500 * faults;
        let instructions = self.instructions? * 2 / 3;
        Some((instructions + events + self.operations / 2) / self.operations)
    }
}

/// An operation with its goal and its peer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name without blanks, for the budgets.
    pub name: String,
    /// What it cost.
    pub cost: Cost,
    /// Instructions that it is to take at most.
    pub goal: Option<u64>,
    /// Instructions that Linux takes for it natively.
    pub linux: Option<u64>,
}

impl Row {
    /// An operation without a goal.
    #[must_use]
    pub fn new(name: impl Into<String>, cost: Cost) -> Self {
        Row {
            name: name.into(),
            cost,
            goal: None,
            linux: None,
        }
    }

    /// With the instructions that it is to take at most.
    #[must_use]
    pub fn goal(self, goal: u64) -> Self {
        Row {
            goal: Some(goal),
            ..self
        }
    }

    /// With the instructions that Linux takes.
    #[must_use]
    pub fn linux(self, linux: u64) -> Self {
        Row {
            linux: Some(linux),
            ..self
        }
    }

    /// Column titles of [`Self::line`].
    #[must_use]
    pub fn titles() -> String {
        Self::columns(
            "operation",
            &[
                "I", "C", "T-page", "T-all", "P", "F", "cycles", "goal", "", "Linux",
            ],
        )
    }

    /// The row of the table: instructions, loads of CR3, flushed pages, flushes of everything, IPIs, page faults, modelled
    /// cycles, goal and verdict, Linux' instructions. `-` stands for what is not known.
    #[must_use]
    pub fn line(&self) -> String {
        let cost = &self.cost;
        let number = |value: Option<u64>| value.map_or_else(|| String::from("-"), |value| format!("{value}"));
        let events = |total: u64| decimal(hundredths(total, cost.operations));
        let verdict = match (self.goal, cost.per_operation()) {
            (Some(goal), Some(took)) if took > goal => format!("MISSED-by-{}", took - goal),
            (Some(_), Some(_)) => String::from("met"),
            _ => String::from("-"),
        };
        Self::columns(
            &self.name,
            &[
                &number(cost.per_operation()),
                &events(cost.count(Counter::Cr3Load)),
                &events(cost.count(Counter::FlushPage)),
                &events(cost.count(Counter::FlushAll)),
                &events(cost.count(Counter::IpiSent)),
                &events(cost.count(Counter::PageFault)),
                &number(cost.cycles()),
                &number(self.goal),
                &verdict,
                &number(self.linux),
            ],
        )
    }

    fn columns(name: &str, values: &[&str; 10]) -> String {
        let [i, c, page, all, p, f, cycles, goal, verdict, linux] = values;
        format!(
            "{name:24}{i:>9}{c:>6}{page:>8}{all:>7}{p:>6}{f:>6}{cycles:>9}{goal:>7}  {verdict:16}{linux:>7}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(operations: u64, instructions: Option<u64>, events: &[(Counter, u64)]) -> Cost {
        let mut all = [0; COUNTERS];
        for &(counter, count) in events {
            all[counter as usize] = count;
        }
        Cost {
            operations,
            instructions,
            events: all,
        }
    }

    #[test]
    fn cycles_are_instructions_and_weighted_events() {
        let call = cost(10, Some(600), &[(Counter::Syscall, 10)]);
        assert_eq!(call.cycles(), Some(40 + 157 + 52));
        let fault = cost(1, Some(300), &[(Counter::PageFault, 1), (Counter::FlushPage, 2)]);
        assert_eq!(fault.cycles(), Some(200 + 500 + 52 + 300));
        let load = [(Counter::Cr3Load, 1)];
        assert_eq!(cost(1, Some(0), &load).cycles(), Some(190));
        let tagged = [(Counter::Cr3Load, 1), (Counter::PcidHit, 1)];
        assert_eq!(cost(1, Some(0), &tagged).cycles(), Some(115));
        assert_eq!(cost(1, None, &load).cycles(), None);
    }

    #[test]
    fn values_are_rounded_per_operation() {
        assert_eq!(cost(4, Some(10), &[]).per_operation(), Some(3));
        for (total, operations, text) in [
            (64, 64, "1"),
            (1, 2, "0.5"),
            (1, 3, "0.33"),
            (2, 3, "0.67"),
            (0, 7, "0"),
            (1, 64, "0.02"),
        ] {
            assert_eq!(decimal(hundredths(total, operations)), text);
        }
    }

    #[test]
    fn a_line_has_a_word_for_every_column() {
        let row = Row::new("some-call", cost(2, Some(121), &[(Counter::IpiSent, 3)])).goal(60);
        let line = row.line();
        let words: alloc::vec::Vec<&str> = line.split_whitespace().collect();
        let expected = [
            "some-call",
            "61",
            "0",
            "0",
            "0",
            "1.5",
            "0",
            "2890",
            "60",
            "MISSED-by-1",
            "-",
        ];
        assert_eq!(words, expected);
        let met = Row::new("x", cost(1, Some(60), &[])).goal(60).linux(340).line();
        assert!(met.contains(" met ") && met.ends_with(" 340"), "{met}");
        let unknown = Row::new("x", cost(1, None, &[])).goal(60).line();
        assert!(!unknown.contains("met"), "{unknown}");
    }
}
