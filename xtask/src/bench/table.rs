//! The table that `vmbench` prints.

use anyhow::{Context, Result, bail};

/// Kinds of events in a row, as the table calls them.
pub const EVENTS: [&str; 5] = ["C", "T-page", "T-all", "P", "F"];

/// What one operation costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Instructions, if they were counted.
    pub instructions: Option<u64>,
    /// Events, in hundredths.
    pub events: [u64; EVENTS.len()],
}

impl Row {
    /// The row in words that begin so: name, instructions, events.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let [name, instructions, events @ ..] = words else {
            return None;
        };
        let instructions = match *instructions {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        let events: Vec<u64> = events
            .get(..EVENTS.len())?
            .iter()
            .map(|word| hundredths(word))
            .collect::<Option<_>>()?;
        Some(Self {
            name: (*name).to_owned(),
            instructions,
            events: events.try_into().ok()?,
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

/// The rows in what the machine has printed, and the lines of the table as they stand.
pub fn find(serial: &str) -> Result<(Vec<Row>, Vec<&str>)> {
    let mut lines = serial.lines().map(str::trim_end);
    let title = lines
        .find(|line| line.starts_with("operation "))
        .context("vmbench has printed no table")?;
    let columns: Vec<&str> = title.split_whitespace().collect();
    let known: Vec<&str> = ["operation", "I"].into_iter().chain(EVENTS).collect();
    if !columns.starts_with(&known) {
        bail!("vmbench's table has the columns {columns:?}, not {known:?}");
    }
    let mut table = vec![title];
    let mut rows = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(row) = Row::parse(&words) else { break };
        rows.push(row);
        table.push(line);
    }
    Ok((rows, table))
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
        let (rows, lines) = find(SERIAL).unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!(rows[0].instructions, Some(220));
        assert_eq!(
            rows[1],
            Row {
                name: "inval-1-on-2".to_owned(),
                instructions: None,
                events: [0, 150, 0, 100, 2],
            }
        );
        assert_eq!(rows.len(), 2);
        assert!(find("nothing").is_err());
        assert!(find("operation I X\n").is_err());
    }

    #[test]
    fn rows_survive_being_written() {
        for row in find(SERIAL).unwrap().0 {
            let text = row.print();
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(Row::parse(&words), Some(row));
        }
        assert_eq!(hundredths("1.234"), None);
        assert_eq!(hundredths("1.x"), None);
    }
}
