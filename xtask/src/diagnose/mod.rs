//! What a machine that hangs was doing: every CPU's registers and backtrace.
//!
//! `qemu` speaks QEMU's machine protocol, `bochs` stops our Bochs and reads what it logs of its CPUs, `debugger` types
//! into the debugger of an installed Bochs; all give registers and memory of one
//! CPU, from which [`Monitor::describe`] makes the text. Used by `session` and `run`.

mod bochs;
mod debugger;
mod qemu;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use symbolize::Symbols;

use crate::process::Running;

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 0xffff_8000_0000_0000;
/// Frames of a backtrace.
const DEEPEST: usize = 24;

/// What an emulator tells of one CPU.
struct Registers {
    /// The instruction pointer and the frame pointer, where they could be had.
    instruction: Option<u64>,
    frame: Option<u64>,
    /// All registers, for people.
    text: String,
}

/// A way to look into a machine that stands still.
trait Monitor {
    /// The registers of a CPU; later questions are about this CPU.
    fn registers(&mut self, cpu: u32) -> Result<Registers>;

    /// Two 64-bit words at a virtual address of that CPU; `None` if nothing is mapped there.
    fn pair(&mut self, address: u64) -> Result<Option<(u64, u64)>>;

    /// The state of `cpus` CPUs. Never fails: what cannot be had is said in the text.
    fn describe(&mut self, cpus: u32, symbols: Option<&Symbols>) -> String {
        let mut text = String::new();
        for cpu in 0..cpus {
            let _ = writeln!(text, "--- CPU {cpu}");
            let described = self.registers(cpu).and_then(|registers| {
                registers.text.lines().for_each(|line| {
                    let _ = writeln!(text, "    {line}");
                });
                self.addresses(&registers)
            });
            match described {
                Ok(addresses) => name(&addresses, symbols, &mut text),
                Err(error) => {
                    let _ = writeln!(text, "    its state is not complete: {error:#}");
                    break;
                }
            }
        }
        text
    }

    /// The instruction pointer and the return addresses, innermost first, by the chain of frame pointers.
    fn addresses(&mut self, registers: &Registers) -> Result<Vec<u64>> {
        let mut addresses: Vec<u64> = registers.instruction.into_iter().collect();
        let mut frame = registers.frame.unwrap_or(0);
        let in_kernel = addresses.first().is_some_and(|&address| address >= KERNEL);
        while in_kernel && frame >= KERNEL && frame.is_multiple_of(8) && addresses.len() < DEEPEST {
            let Some((next, back)) = self.pair(frame)? else {
                break;
            };
            if back < KERNEL {
                break;
            }
            addresses.push(back);
            if next <= frame {
                break;
            }
            frame = next;
        }
        Ok(addresses)
    }
}

/// Appends a backtrace, with names where the addresses are the kernel's.
fn name(addresses: &[u64], symbols: Option<&Symbols>, text: &mut String) {
    match (addresses, symbols) {
        (&[address], _) if address < KERNEL => {
            let _ = writeln!(text, "    at {address:#x}: not in the kernel");
        }
        (_, Some(symbols)) => symbols.backtrace(addresses).iter().for_each(|line| {
            let _ = writeln!(text, "{line}");
        }),
        (_, None) => {
            let _ = writeln!(text, "    {addresses:x?}");
        }
    }
}

/// The state of all CPUs of a QEMU.
pub fn qemu(socket: &Path, cpus: u32, symbols: Option<&Symbols>) -> String {
    match qemu::Control::stop(socket) {
        Ok(mut control) => control.describe(cpus, symbols),
        Err(error) => format!("the CPUs' state is unknown: {error:#}\n"),
    }
}

/// The state of all CPUs of our Bochs, which this ends; `log` is its log. Takes at most 20 seconds.
pub fn bochs(running: &mut Running, log: &Path, cpus: u32, symbols: Option<&Symbols>) -> String {
    match bochs::Log::stop(running, log) {
        Ok(mut log) => log.describe(cpus, symbols),
        Err(error) => format!("the CPUs' state is unknown: {error:#}\n"),
    }
}

/// The state of all CPUs of an installed Bochs; `output` is the file its standard output goes to. Takes at most 20
/// seconds.
pub fn installed_bochs(running: &mut Running, output: &Path, cpus: u32, symbols: Option<&Symbols>) -> String {
    match debugger::Debugger::stop(running, output) {
        Ok(mut debugger) => debugger.describe(cpus, symbols),
        Err(error) => format!("the CPUs' state is unknown: {error:#}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CPU in the kernel with two frames; the second ends the chain.
    struct Fake;

    impl Monitor for Fake {
        fn registers(&mut self, cpu: u32) -> Result<Registers> {
            anyhow::ensure!(cpu < 2, "no such CPU");
            let base = if cpu == 0 { KERNEL } else { 0 };
            Ok(Registers {
                instruction: Some(base + 0x10),
                frame: Some(base + 0x1000),
                text: format!("registers of {cpu}"),
            })
        }

        fn pair(&mut self, address: u64) -> Result<Option<(u64, u64)>> {
            Ok((address == KERNEL + 0x1000).then_some((KERNEL + 0x2000, KERNEL + 0x20)))
        }
    }

    #[test]
    fn frames_are_followed_in_the_kernel_only() {
        let registers = Fake.registers(0).unwrap();
        assert_eq!(
            Fake.addresses(&registers).unwrap(),
            [KERNEL + 0x10, KERNEL + 0x20]
        );
        let registers = Fake.registers(1).unwrap();
        assert_eq!(Fake.addresses(&registers).unwrap(), [0x10]);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let text = Fake.describe(3, None);
        for part in [
            "--- CPU 0\n    registers of 0\n",
            "at 0x10: not in the kernel",
            "not complete: no such CPU",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert!(qemu(Path::new("/no/such/socket"), 2, None).contains("unknown"));
    }
}
