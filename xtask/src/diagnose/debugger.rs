//! The debugger of an installed Bochs, by its standard input and output.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Monitor, Registers};
use crate::process::Running;

/// What the debugger prints when it waits for a command, without the number that follows.
const PROMPT: &str = "<bochs:";

/// A Bochs that stands still in its debugger.
pub struct Debugger<'a> {
    running: &'a mut Running,
    output: PathBuf,
    /// How much of the output has been read.
    read: usize,
    deadline: Instant,
}

impl<'a> Debugger<'a> {
    /// Stops the machine.
    pub fn stop(running: &'a mut Running, output: &Path) -> Result<Self> {
        let read = std::fs::read(output)?.len();
        let deadline = Instant::now() + Duration::from_secs(20);
        running.interrupt();
        let mut debugger = Self {
            running,
            output: output.to_owned(),
            read,
            deadline,
        };
        debugger.answer()?;
        Ok(debugger)
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        let input = self
            .running
            .child
            .stdin
            .as_mut()
            .context("Bochs has no standard input")?;
        writeln!(input, "{command}").context("Bochs' debugger takes no command")?;
        input.flush()?;
        self.answer()
    }

    /// Everything up to the next prompt.
    fn answer(&mut self) -> Result<String> {
        while Instant::now() < self.deadline {
            let bytes = std::fs::read(&self.output)?;
            let fresh = String::from_utf8_lossy(bytes.get(self.read..).unwrap_or_default()).into_owned();
            let last = fresh.lines().last().unwrap_or_default();
            if last.starts_with(PROMPT) && last.trim_end().ends_with('>') {
                self.read = bytes.len();
                return Ok(fresh);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("Bochs' debugger did not answer in time")
    }
}

impl Monitor for Debugger<'_> {
    fn registers(&mut self, cpu: u32) -> Result<Registers> {
        self.ask(&format!("set $cpu = {cpu}"))?;
        let mut text = self.ask("r")?;
        text.push_str(&self.ask("creg")?);
        let text: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with(PROMPT))
            .map(str::trim)
            .collect();
        let text = text.join("\n");
        Ok(Registers {
            instruction: register(&text, "rip"),
            frame: register(&text, "rbp"),
            text,
        })
    }

    fn pair(&mut self, address: u64) -> Result<Option<(u64, u64)>> {
        Ok(memory(&self.ask(&format!("x /2gx {address:#x}"))?))
    }
}

/// `rip: ffffffff_80001234` -> the number.
fn register(text: &str, name: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    u64::from_str_radix(&value.split_whitespace().next()?.replace('_', ""), 16).ok()
}

/// `0xADDRESS <bogus+ 0>: 0xNUMBER 0xNUMBER` -> the numbers.
fn memory(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find(|line| line.contains(">:"))?;
    let mut words = line.rsplit_once(">:")?.1.split_whitespace();
    let mut next = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_the_debuggers_words() {
        let text = "CPU0:\nrax: 00000000_36d76200\nrbp: ffffffff_80002000\nr8 : 00000000_00000001\nrip: ffffffff_80001234\n";
        assert_eq!(register(text, "rip"), Some(0xffff_ffff_8000_1234));
        assert_eq!(register(text, "r8"), Some(1));
        assert_eq!(register(text, "xyz"), None);
        let dump = "<bochs:4> x /2gx 0x1000\n[bochs]:\n0x0000000000001000 <bogus+       0>:\t0x0000000000000010\t0xffffffff80001000\n";
        assert_eq!(memory(dump), Some((0x10, 0xffff_ffff_8000_1000)));
        assert_eq!(memory("bx_dbg_read_linear: physical memory read error\n"), None);
    }
}
