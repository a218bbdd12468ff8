//! Bochs: which one, its configuration, and what its log tells. `source` builds our own; `session` runs it.

pub mod source;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::firmware;
use crate::machine::Machine;

/// A Bochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ours, built from source: without a debugger, with turns of any length.
    Ours(PathBuf),
    /// The one that is installed: with a debugger, whose run loop gives every CPU turns of five instructions.
    Installed,
}

/// The installed program. `bochs` itself is a script around it; the runner must own the real process.
pub const INSTALLED: &str = "bochs-bin";
/// The turn of a CPU where none is asked for: coarse enough to be fast.
const QUANTUM: u32 = 16;

impl Program {
    /// The one for this machine.
    pub fn find(machine: &Machine) -> Result<Self> {
        match (source::built(), machine.quantum) {
            (Some(program), _) => Ok(Self::Ours(program)),
            (None, None) => Ok(Self::Installed),
            (None, Some(quantum)) => bail!(
                "turns of {quantum} instructions take the Bochs that xtask builds, which is not there; the installed one knows only \
                 its own\n  what to do: `cargo xtask setup`, or leave out --quantum"
            ),
        }
    }

    /// The program to start.
    pub fn path(&self) -> &Path {
        match self {
            Self::Ours(program) => program,
            Self::Installed => Path::new(INSTALLED),
        }
    }

    /// What only one of them can be told: display, turns, sound.
    fn particulars(&self, machine: &Machine) -> (&'static str, String, &'static str) {
        match self {
            Self::Ours(_) => {
                let quantum = machine.quantum.unwrap_or(QUANTUM);
                ("nogui", format!("quantum={quantum}, "), "")
            }
            Self::Installed => (
                "rfb, options=\"timeout=0\"",
                String::new(),
                "sound: waveoutdrv=dummy\n",
            ),
        }
    }
}

/// Where the machine's serial port leads.
#[derive(Clone, Debug)]
pub enum Serial {
    /// Into a file that the runner follows.
    File(PathBuf),
    /// To a TCP port of this host, where the runner listens. Then somebody waits for the machine, and its clock goes
    /// with the host's; otherwise its clock counts instructions, and an idle machine wastes no time.
    Port(u16),
}

/// The configuration file. `image` is the CD, `log` Bochs' own log.
pub fn configuration(
    program: &Program,
    machine: &Machine,
    image: &Path,
    serial: &Serial,
    log: &Path,
) -> Result<String> {
    let (display, turns, sound) = program.particulars(machine);
    let bios = firmware::first(firmware::BOCHS_BIOS, "bochsbios")?;
    let vga = firmware::first(firmware::VGA_BIOS, "vgabios")?;
    let (line, clock) = match serial {
        Serial::File(file) => (format!("mode=file, dev=\"{}\"", file.display()), "none"),
        Serial::Port(port) => (format!("mode=socket-client, dev=127.0.0.1:{port}"), "slowdown"),
    };
    Ok(format!(
        "config_interface: textconfig\n\
         display_library: {display}\n\
         romimage: file=\"{bios}\"\n\
         vgaromimage: file=\"{vga}\"\n\
         vga: extension=vbe\n\
         megs: {memory}\n\
         cpu: model={cpu}, count={smp}, {turns}ips=50000000, reset_on_triple_fault=0\n\
         clock: sync={clock}, time0=utc\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-slave: type=cdrom, path=\"{image}\", status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, {line}\n\
         log: \"{log}\"\n\
         logprefix: %t%e%d\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=report\n\
         debug: action=ignore\n\
         {sound}",
        bios = bios.display(),
        vga = vga.display(),
        memory = machine.memory,
        cpu = machine.cpu,
        smp = machine.smp,
        image = image.display(),
        log = log.display(),
    ))
}

/// The name of its log in the folder of a run.
pub const LOG: &str = "bochs.log";

/// The commands for the installed one's debugger at start: go on.
pub const START: &str = "c\n";

/// What ours logs when the runner stops it, before the state of every CPU.
pub const STOPPED: &str = "SIGNAL 2 caught";

/// The lines of Bochs' log that mean that the run has failed: panics other than those by which a machine is
/// switched off or stopped, and every complaint about a virtual machine's state or use of VMX, unless entries fail on purpose.
pub fn complaints(log: &str, failing_entries: bool) -> Vec<&str> {
    log.lines()
        .filter(|line| is_complaint(line, failing_entries))
        .collect()
}

fn is_complaint(line: &str, failing_entries: bool) -> bool {
    let Some((head, text)) = line.split_once(']') else {
        return false;
    };
    let Some((time_and_level, _device)) = head.split_once('[') else {
        return false;
    };
    let level = time_and_level.trim_start_matches(|c: char| c.is_ascii_digit());
    let wanted = ["Shutdown port: shutdown requested", "soft power off", STOPPED];
    // What Bochs says about VMX at its higher levels is a complaint; at the information level it only reports state.
    let about_vmx = [
        "VMFAIL",
        "VMENTER",
        "VMX LoadMSRs",
        "VMX StoreMSRs",
        "VMXON:",
        "VMABORT",
        "VMEXIT: Guest State",
    ];
    match level {
        "p" => !wanted.iter().any(|sign| text.contains(sign)),
        "e" if failing_entries => false,
        "e" => about_vmx.iter().any(|sign| text.contains(sign)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmx_diagnostics_and_panics_are_complaints() {
        let log = "00000000000i[      ] Bochs x86 Emulator 2.7\n\
                   00000004104i[CPU0  ] VMENTER to x86-64 guest\n\
                   00012345678e[CPU1  ] VMFAIL: VMCS host segreg 2 TI/RPL != 0\n\
                   00012345679e[CPU0  ] VMENTER FAIL: VMCS guest invalid CR0\n\
                   00012345680e[HD    ] some device has an opinion\n\
                   00012345681p[CPU0  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n\
                   00012345682p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n\
                   00012345682p[ACPI  ] >>PANIC<< ACPI control: soft power off\n\
                   00012345683p[SIM   ] >>PANIC<< SIGNAL 2 caught\n";
        let found = complaints(log, false);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(complaints(log, true).len(), 1);
        assert!(
            found
                .iter()
                .all(|line| line.contains("VMFAIL") || line.contains("VMENTER FAIL") || line.contains("3rd"))
        );
    }
}
