//! What a machine that hangs was doing: every CPU's registers and backtrace.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use symbolize::Symbols;

use crate::control::{self, Control};
use crate::process::Running;

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 0xffff_8000_0000_0000;
/// Frames of a backtrace.
const DEEPEST: usize = 24;

/// The state of all CPUs of a QEMU that hangs. Never fails: what cannot be had is said in the text.
pub fn qemu(socket: &Path, cpus: u32, symbols: Option<&Symbols>) -> String {
    let mut text = String::new();
    let result = Control::connect(socket).and_then(|mut control| {
        control.stop()?;
        (0..cpus).try_for_each(|cpu| qemu_cpu(&mut control, cpu, symbols, &mut text))
    });
    if let Err(error) = result {
        let _ = writeln!(text, "the state of the CPUs is not complete: {error:#}");
    }
    text
}

fn qemu_cpu(control: &mut Control, cpu: u32, symbols: Option<&Symbols>, text: &mut String) -> Result<()> {
    let registers = control.monitor(cpu, "info registers")?;
    let _ = writeln!(text, "--- CPU {cpu}");
    // The general registers, segments and control registers; the rest is vector state.
    for line in registers
        .lines()
        .take_while(|line| !line.starts_with("FCW"))
        .filter(|line| !line.trim().is_empty())
    {
        let _ = writeln!(text, "    {line}");
    }
    let mut addresses: Vec<u64> = ["RIP", "EIP"]
        .iter()
        .find_map(|name| control::register(&registers, name))
        .into_iter()
        .collect();
    let mut frame = control::register(&registers, "RBP").unwrap_or(0);
    let in_kernel = addresses.first().is_some_and(|&address| address >= KERNEL);
    while in_kernel && frame >= KERNEL && frame.is_multiple_of(8) && addresses.len() < DEEPEST {
        let words = control::memory(&control.monitor(cpu, &format!("x/2gx {frame:#x}"))?);
        let &[next, back] = words.as_slice() else { break };
        if back < KERNEL {
            break;
        }
        addresses.push(back);
        if next <= frame {
            break;
        }
        frame = next;
    }
    backtrace(&addresses, symbols, text);
    Ok(())
}

/// Appends a backtrace, with names where the addresses are the kernel's.
fn backtrace(addresses: &[u64], symbols: Option<&Symbols>, text: &mut String) {
    match (addresses, symbols) {
        (&[address], _) if address < KERNEL => {
            let _ = writeln!(text, "    at {address:#x}, in a user program");
        }
        (_, Some(symbols)) => {
            for line in symbols.backtrace(addresses) {
                let _ = writeln!(text, "{line}");
            }
        }
        (_, None) => {
            let _ = writeln!(text, "    {addresses:x?}");
        }
    }
}

/// The state of all CPUs of a Bochs that hangs: stops it in its debugger and asks there. `output` is the file its
/// standard output goes to. Takes at most twenty seconds.
pub fn bochs(running: &mut Running, output: &Path, cpus: u32, symbols: Option<&Symbols>) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = length(output);
    running.interrupt();
    wait_for(output, before, "<bochs:", deadline);
    if let Some(input) = &mut running.child.stdin {
        let _ = writeln!(input, "info cpu\nprint-stack 16\n");
        let _ = input.flush();
    }
    // Each CPU's registers begin with its rax.
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        if read_from(output, before).matches("rip:").count() >= cpus as usize {
            std::thread::sleep(Duration::from_millis(500));
            break;
        }
    }
    let printed = read_from(output, before);
    let mut text = String::new();
    for line in printed.lines().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(text, "    {line}");
        let address = line.split("rip:").nth(1).and_then(bochs_number);
        if let Some(address) = address {
            backtrace(&[address], symbols, &mut text);
        }
    }
    if text.is_empty() {
        text.push_str("Bochs' debugger did not answer\n");
    }
    text
}

/// ` ffffffff_80001234` -> the number.
fn bochs_number(text: &str) -> Option<u64> {
    let digits: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_hexdigit() || *c == '_')
        .collect();
    u64::from_str_radix(&digits.replace('_', ""), 16).ok()
}

fn wait_for(file: &Path, from: usize, sign: &str, deadline: Instant) {
    while Instant::now() < deadline && !read_from(file, from).contains(sign) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn length(file: &Path) -> usize {
    std::fs::read(file).map_or(0, |bytes| bytes.len())
}

fn read_from(file: &Path, from: usize) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bochs_numbers_have_an_underscore() {
        assert_eq!(bochs_number(" ffffffff_80001234"), Some(0xffff_ffff_8000_1234));
        assert_eq!(bochs_number(" nonsense"), None);
    }

    #[test]
    fn a_socket_that_is_not_there_is_said_in_the_text() {
        assert!(qemu(Path::new("/no/such/socket"), 2, None).contains("not complete"));
    }
}
