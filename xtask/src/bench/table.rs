//! The table that `vmbench` prints.

use anyhow::{Context, Result, bail};

/// What stands before the events in a row, and what behind them.
const BEFORE: [&str; 2] = ["operation", "I"];
const BEHIND: &str = "cycles";

/// What one operation costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Instructions, if they were counted.
    pub instructions: Option<u64>,
    /// Events, in hundredths.
    pub events: Vec<u64>,
}

impl Row {
    /// The row in words that begin so: name, instructions, so many kinds of events.
    pub fn parse(words: &[&str], kinds: usize) -> Option<Self> {
        let [name, instructions, events @ ..] = words else {
            return None;
        };
        let instructions = match *instructions {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        let events: Vec<u64> = events
            .get(..kinds)?
            .iter()
            .map(|word| hundredths(word))
            .collect::<Option<_>>()?;
        Some(Self {
            name: (*name).to_owned(),
            instructions,
            events,
        })
    }

    /// The words that [`Self::parse`] reads.
    pub fn print(&self) -> String {
        let instructions = self
            .instructions
            .map_or_else(|| "-".to_owned(), |count| count.to_string());
        let mut line = format!("{:24}{instructions:>9}", self.name);
        for &event in &self.events {
            line.push_str(&format!("{:>8}", decimal(event)));
        }
        line
    }
}

/// `1.5` -> 150.
fn hundredths(word: &str) -> Option<u64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    if part.len() > 2 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(whole.parse::<u64>().ok()?.checked_mul(100)? + format!("{part:0<2}").parse::<u64>().ok()?)
}

/// 150 -> `1.5`.
pub fn decimal(hundredths: u64) -> String {
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table<'text> {
    /// The kinds of events, as the table calls them.
    pub events: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The lines as they stand.
    pub lines: Vec<&'text str>,
}

/// The last table in what the machine has printed.
pub fn find(serial: &str) -> Result<Table<'_>> {
    let lines: Vec<&str> = serial.lines().map(str::trim_end).collect();
    let start = lines
        .iter()
        .rposition(|line| line.starts_with("operation "))
        .context("vmbench has printed no table")?;
    let (title, lines) = (lines[start], &lines[start + 1..]);
    let columns: Vec<&str> = title.split_whitespace().collect();
    let end = columns.iter().position(|&column| column == BEHIND);
    let Some(end) = end.filter(|_| columns.starts_with(&BEFORE)) else {
        bail!("vmbench's table has the columns {columns:?}, not {BEFORE:?}, events, {BEHIND:?}");
    };
    let mut table = Table {
        events: columns[BEFORE.len()..end]
            .iter()
            .map(|&kind| kind.to_owned())
            .collect(),
        rows: Vec::new(),
        lines: vec![title],
    };
    for &line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(row) = Row::parse(&words, table.events.len()) else {
            break;
        };
        table.rows.push(row);
        table.lines.push(line);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: &str = "\
        vmbench: some CPU\r\n\
        operation       I     C  T-page  T-all     P     F   cycles   goal                    Linux\r\n\
        null-syscall  220     0       0      0     0     0      356     60  MISSED-by-160       340\r\n\
        inval-1-on-2    -     0     1.5      0     1  0.02        -      -  -                     -\r\n\
        cycles = I/1.5 + 157 a SYSCALL+SYSRET\r\n";

    #[test]
    fn the_table_is_found_among_other_lines() {
        let Table { events, rows, lines } = find(SERIAL).unwrap();
        assert_eq!(events, ["C", "T-page", "T-all", "P", "F"]);
        assert_eq!(lines.len(), 3);
        assert_eq!(rows[0].instructions, Some(220));
        assert_eq!(
            rows[1],
            Row {
                name: "inval-1-on-2".to_owned(),
                instructions: None,
                events: vec![0, 150, 0, 100, 2],
            }
        );
        assert_eq!(rows.len(), 2);
        assert!(find("nothing").is_err());
        assert!(find("operation I X\n").is_err());
        assert!(find("operation X cycles\n").is_err());
    }

    #[test]
    fn of_two_tables_the_last_counts() {
        let both = format!("{SERIAL}operation I X cycles\ncpuid 9 1 2 met\n");
        let table = find(&both).unwrap();
        assert_eq!(table.events, ["X"]);
        assert_eq!(table.rows.len(), 1);
    }

    #[test]
    fn rows_survive_being_written() {
        for row in find(SERIAL).unwrap().rows {
            let text = row.print();
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(Row::parse(&words, row.events.len()), Some(row));
        }
        assert_eq!(hundredths("1.234"), None);
        assert_eq!(hundredths("1.x"), None);
    }
}
