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

/// A column of events.
struct Column {
    title: &'static str,
    width: usize,
    /// The events, counted together.
    counters: &'static [Counter],
    /// Cycles that one costs, as published, besides the instructions.
    weight: u64,
}

const fn column(title: &'static str, width: usize, counter: &'static [Counter], weight: u64) -> Column {
    Column {
        title,
        width,
        counters: counter,
        weight,
    }
}

const CR3_LOADS: Column = column("C", 6, &[Counter::Cr3Load], 190);
/// What a load of CR3 costs less if it keeps translations.
const KEPT: u64 = 75;
const PAGE_FLUSHES: Column = column("T-page", 8, &[Counter::FlushPage], 150);
const WHOLE_FLUSHES: Column = column("T-all", 7, &[Counter::FlushAll], 190);
const INTERRUPTS: Column = column("P", 6, &[Counter::IpiSent], 1900);

/// Which events a table shows, and what its rows are compared with.
pub struct Table {
    columns: &'static [Column],
    /// Cycles of the instruction that makes a system call, and of its return.
    call: u64,
    peer: &'static str,
    /// The weights, in words.
    pub weights: &'static str,
}

impl Table {
    /// Operations of ordinary threads, beside Linux'.
    pub const HOST: Table = Table {
        columns: &[
            CR3_LOADS,
            PAGE_FLUSHES,
            WHOLE_FLUSHES,
            INTERRUPTS,
            column("F", 6, &[Counter::PageFault], 500 + 2 * 26),
        ],
        call: 157 + 2 * 26,
        peer: "Linux",
        weights: "cycles = I/1.5 + 157 a SYSCALL+SYSRET + 26 a SWAPGS + 190 a load of CR3 (115 if it keeps translations) \
            + 150 an INVLPG + 190 a flush of everything + 1900 an IPI + 500 a page fault",
    };

    /// Operations of threads in guest mode, whose system calls are exits, beside KVM's.
    pub const GUEST: Table = Table {
        columns: &[
            column("X", 6, &[Counter::GuestExit], 1050),
            CR3_LOADS,
            PAGE_FLUSHES,
            WHOLE_FLUSHES,
            column("T-vpid", 8, &[Counter::FlushGuest], 350),
            column("T-ept", 7, &[Counter::FlushNested], 1000),
            INTERRUPTS,
            column("N", 6, &[Counter::ExitNestedFault], 0),
            column(
                "V",
                6,
                &[
                    Counter::VmcsRead,
                    Counter::VmcsWriteRegister,
                    Counter::VmcsWriteOther,
                ],
                35,
            ),
        ],
        call: 0,
        peer: "KVM",
        weights: "cycles = I/1.5 + 1050 an exit with its entry + 190 a load of CR3 (115 if it keeps translations) \
            + 150 an INVLPG + 190 a flush of everything + 350 an INVVPID + 1000 an INVEPT + 1900 an IPI + 35 a VMREAD or VMWRITE",
    };

    /// Titles of [`Self::line`].
    #[must_use]
    pub fn titles(&self) -> String {
        self.print(
            "operation",
            "I",
            |column| String::from(column.title),
            &["cycles", "goal", "", self.peer],
        )
    }

    /// A row: instructions, events, modelled cycles, goal and verdict, the peer's instructions. `-` stands for what is not known.
    #[must_use]
    pub fn line(&self, row: &Row) -> String {
        let cost = &row.cost;
        let number = |value: Option<u64>| value.map_or_else(|| String::from("-"), |value| format!("{value}"));
        let verdict = match (row.goal, cost.per_operation()) {
            (Some(goal), Some(took)) if took > goal => format!("MISSED-by-{}", took - goal),
            (Some(_), Some(_)) => String::from("met"),
            _ => String::from("-"),
        };
        self.print(
            &row.name,
            &number(cost.per_operation()),
            |column| decimal(hundredths(cost.sum(column.counters), cost.operations)),
            &[
                &number(self.cycles(cost)),
                &number(row.goal),
                &verdict,
                &number(row.peer),
            ],
        )
    }

    /// Modelled cycles per operation.
    #[must_use]
    pub fn cycles(&self, cost: &Cost) -> Option<u64> {
        let weighted = |column: &Column| column.weight * cost.sum(column.counters);
        let events: u64 = self.columns.iter().map(weighted).sum();
        let events = events + self.call * cost.count(Counter::Syscall) - KEPT * cost.count(Counter::PcidHit);
        let instructions = cost.instructions? * 2 / 3;
        Some((instructions + events + cost.operations / 2) / cost.operations)
    }

    fn print(
        &self,
        name: &str,
        instructions: &str,
        event: impl Fn(&Column) -> String,
        rest: &[&str; 4],
    ) -> String {
        let mut line = format!("{name:24}{instructions:>9}");
        for column in self.columns {
            line.push_str(&format!("{:>width$}", event(column), width = column.width));
        }
        let [cycles, goal, verdict, peer] = rest;
        line.push_str(&format!("{cycles:>9}{goal:>7}  {verdict:16}{peer:>7}"));
        line
    }
}

impl Cost {
    /// Events of one kind in all operations.
    #[must_use]
    pub const fn count(&self, counter: Counter) -> u64 {
        self.events[counter as usize]
    }

    /// Events of several kinds.
    fn sum(&self, counters: &[Counter]) -> u64 {
        counters.iter().map(|&counter| self.count(counter)).sum()
    }

    /// Instructions per operation, rounded.
    #[must_use]
    pub fn per_operation(&self) -> Option<u64> {
        let instructions = self.instructions?;
        Some((instructions + self.operations / 2) / self.operations)
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
    /// Instructions that the table's peer takes for it.
    pub peer: Option<u64>,
}

impl Row {
    /// An operation without a goal.
    #[must_use]
    pub fn new(name: impl Into<String>, cost: Cost) -> Self {
        Row {
            name: name.into(),
            cost,
            goal: None,
            peer: None,
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

    /// With the instructions that the table's peer takes.
    #[must_use]
    pub fn peer(self, peer: u64) -> Self {
        Row {
            peer: Some(peer),
            ..self
        }
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
        assert_eq!(Table::HOST.cycles(&call), Some(40 + 157 + 52));
        assert_eq!(Table::GUEST.cycles(&call), Some(40));
        let fault = cost(1, Some(300), &[(Counter::PageFault, 1), (Counter::FlushPage, 2)]);
        assert_eq!(Table::HOST.cycles(&fault), Some(200 + 500 + 52 + 300));
        let load = [(Counter::Cr3Load, 1)];
        assert_eq!(Table::HOST.cycles(&cost(1, Some(0), &load)), Some(190));
        let tagged = [(Counter::Cr3Load, 1), (Counter::PcidHit, 1)];
        assert_eq!(Table::HOST.cycles(&cost(1, Some(0), &tagged)), Some(115));
        assert_eq!(Table::HOST.cycles(&cost(1, None, &load)), None);
        let exit = [(Counter::GuestExit, 2), (Counter::Syscall, 1)];
        assert_eq!(Table::GUEST.cycles(&cost(1, Some(300), &exit)), Some(200 + 2100));
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
        let line = Table::HOST.line(&row);
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
        let met = Table::HOST.line(&Row::new("x", cost(1, Some(60), &[])).goal(60).peer(340));
        assert!(met.contains(" met ") && met.ends_with(" 340"), "{met}");
        let unknown = Table::HOST.line(&Row::new("x", cost(1, None, &[])).goal(60));
        assert!(!unknown.contains("met"), "{unknown}");
        for table in [Table::HOST, Table::GUEST] {
            let titles = table.titles();
            // The verdict has no title.
            assert_eq!(
                titles.split_whitespace().count() + 1,
                table.line(&row).split_whitespace().count(),
                "{titles}"
            );
        }
    }
}
