//! Our Bochs' log: stopped by a signal, it ends, and logs the registers and the frames of every CPU.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Monitor, Registers};
use crate::bochs::STOPPED;
use crate::process::Running;

/// What a Bochs has logged at its end.
pub struct Log {
    /// The log from the stop on.
    text: String,
    /// The CPU that is looked at.
    cpu: u32,
}

impl Log {
    /// Stops the machine and ends its Bochs.
    pub fn stop(running: &mut Running, log: &Path) -> Result<Self> {
        running.interrupt();
        if running.wait(Some(Duration::from_secs(20)))?.is_none() {
            bail!("Bochs did not stop in time");
        }
        let bytes = std::fs::read(log).with_context(|| format!("could not read {}", log.display()))?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(log: &str) -> Result<Self> {
        let (_, text) = log
            .split_once(STOPPED)
            .context("Bochs' log does not say that it was stopped")?;
        Ok(Self {
            text: text.to_owned(),
            cpu: 0,
        })
    }

    /// What the log has of the CPU.
    fn lines(&self) -> impl Iterator<Item = &str> {
        let device = format!("CPU{}", self.cpu);
        self.text.lines().filter_map(move |line| {
            let (head, text) = line.split_once(']')?;
            let (_, logged_by) = head.split_once('[')?;
            (logged_by.trim() == device).then_some(text.trim())
        })
    }
}

impl Monitor for Log {
    fn registers(&mut self, cpu: u32) -> Result<Registers> {
        self.cpu = cpu;
        let lines = self
            .lines()
            .filter(|line| value(line, "FRAME").is_none())
            .map(|line| line.trim_start_matches("| "));
        let text = lines.collect::<Vec<_>>().join("\n");
        if text.is_empty() {
            bail!("Bochs' log has nothing of it");
        }
        let any = |names: [&str; 2]| names.iter().find_map(|name| value(&text, name));
        Ok(Registers {
            instruction: any(["RIP", "EIP"]),
            frame: any(["RBP", "EBP"]),
            text,
        })
    }

    fn pair(&mut self, address: u64) -> Result<Option<(u64, u64)>> {
        let mut frames = self.lines().filter(|line| value(line, "FRAME") == Some(address));
        Ok(frames
            .next()
            .and_then(|line| Some((value(line, "NEXT")?, value(line, "BACK")?))))
    }
}

/// `RIP=ffffffff80001234` -> the number.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    u64::from_str_radix(value, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_frames_are_read_from_the_log() {
        let log = "00000000001i[CPU0  ] | RIP=0000000000000001 (0000000000000001)\n\
                   00000000002p[SIM   ] >>PANIC<< SIGNAL 2 caught\n\
                   00000000002i[CPU0  ] CPU is in long mode (halted)\n\
                   00000000002i[CPU0  ] | RSP=ffff800000000fe0  RBP=ffff800000001000\n\
                   00000000002i[CPU0  ] | RIP=ffffffff80001234 (ffffffff80001234)\n\
                   00000000002i[CPU0  ] | FRAME=ffff800000001000 NEXT=ffff800000002000 BACK=ffffffff80005678\n\
                   00000000002i[CPU1  ] | EIP=00100060 (00100060)\n";
        let mut log = Log::parse(log).unwrap();
        let registers = log.registers(0).unwrap();
        assert_eq!(registers.instruction, Some(0xffff_ffff_8000_1234));
        assert_eq!(registers.frame, Some(0xffff_8000_0000_1000));
        assert!(registers.text.contains("halted") && !registers.text.contains("FRAME"));
        let frame = log.pair(0xffff_8000_0000_1000).unwrap();
        assert_eq!(frame, Some((0xffff_8000_0000_2000, 0xffff_ffff_8000_5678)));
        assert_eq!(log.pair(0x1000).unwrap(), None);
        assert_eq!(log.registers(1).unwrap().instruction, Some(0x10_0060));
        assert!(log.registers(2).is_err());
        assert!(Log::parse("00000000001i[CPU0  ] nothing has happened\n").is_err());
    }
}
