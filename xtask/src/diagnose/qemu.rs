//! QEMU's machine protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Monitor, Registers};

/// A QEMU that stands still.
pub struct Control {
    stream: BufReader<UnixStream>,
    cpu: u32,
}

impl Control {
    /// Connects to the socket and stops all CPUs. Every answer is waited for five seconds at most.
    pub fn stop(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's control socket does not answer")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let mut control = Self {
            stream: BufReader::new(stream),
            cpu: 0,
        };
        control.receive().context("QEMU does not greet")?;
        control.execute(&json!({"execute": "qmp_capabilities"}))?;
        control.execute(&json!({"execute": "stop"}))?;
        Ok(control)
    }

    /// A command of the human monitor, about one CPU.
    fn monitor(&mut self, command: &str) -> Result<String> {
        let arguments = json!({"command-line": command, "cpu-index": self.cpu});
        let answer = self.execute(&json!({"execute": "human-monitor-command", "arguments": arguments}))?;
        Ok(answer.as_str().unwrap_or_default().replace('\r', ""))
    }

    fn execute(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.stream.get_mut(), "{request}").context("QEMU takes no command")?;
        loop {
            let mut answer = self.receive()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {request}: {error}");
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            // Anything else is an event, such as STOP.
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self
            .stream
            .read_line(&mut line)
            .context("no answer from QEMU in time")?
            == 0
        {
            bail!("QEMU closed the connection");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Monitor for Control {
    fn registers(&mut self, cpu: u32) -> Result<Registers> {
        self.cpu = cpu;
        let all = self.monitor("info registers")?;
        // The general registers, segments and control registers; the rest is vector state.
        let lines = all
            .lines()
            .take_while(|line| !line.starts_with("FCW"))
            .filter(|line| !line.trim().is_empty());
        let any = |names: [&str; 2]| names.iter().find_map(|name| register(&all, name));
        Ok(Registers {
            instruction: any(["RIP", "EIP"]),
            frame: any(["RBP", "EBP"]),
            text: lines.collect::<Vec<_>>().join("\n"),
        })
    }

    fn pair(&mut self, address: u64) -> Result<Option<(u64, u64)>> {
        let words = memory(&self.monitor(&format!("x/2gx {address:#x}"))?);
        Ok(if let &[first, second] = words.as_slice() {
            Some((first, second))
        } else {
            None
        })
    }
}

/// The value of register `name` in the output of `info registers`.
fn register(registers: &str, name: &str) -> Option<u64> {
    let mut words = registers.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    u64::from_str_radix(value, 16).ok()
}

/// The numbers in the output of `x/Ngx ADDRESS`.
fn memory(dump: &str) -> Vec<u64> {
    let words = dump
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, rest)| rest.split_whitespace());
    words
        .map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_memory_are_read() {
        let registers = "\nCPU#0\nRAX=0000000000000001 RBX=ffff800000000000\nRBP=ffffffff80201f80 RSP=0000000000000000\nR8 =1 RIP=ffffffff80001234 RFL=00000046";
        assert_eq!(register(registers, "RIP"), Some(0xffff_ffff_8000_1234));
        assert_eq!(register(registers, "RBP"), Some(0xffff_ffff_8020_1f80));
        assert_eq!(register(registers, "XYZ"), None);
        assert_eq!(
            memory("ffffffff80201f80: 0x0000000000000010 0xffffffff80001000\n"),
            [0x10, 0xffff_ffff_8000_1000]
        );
        assert!(memory("Cannot access memory\n").is_empty());
    }
}
