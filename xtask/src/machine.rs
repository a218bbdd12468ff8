//! The machine a kernel is run on: what can be chosen, what follows from a choice, and what does not go together.

use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::setup::Need;

/// An emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emulator {
    /// QEMU: fast; every CPU is a thread of the host
    Qemu,
    /// Bochs: slow and exact; has Intel's virtualization (VMX, EPT) on any host
    Bochs,
}

/// What starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// A PC BIOS
    Bios,
    /// UEFI (QEMU only)
    Uefi,
}

/// Where the kernel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Medium {
    /// Loaded by QEMU itself, without an image (QEMU with BIOS; its default)
    Direct,
    /// The bootable image as a CD
    Cd,
    /// The bootable image as a USB stick on an xHCI controller (QEMU only)
    Usb,
}

/// What executes the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accelerator {
    /// KVM where the host's kvm_intel or kvm_amd is loaded and usable, else software
    Auto,
    /// QEMU's software emulation
    Tcg,
    /// KVM, or an error
    Kvm,
}

/// The options that choose a machine.
#[derive(Clone, Debug, clap::Args)]
pub struct MachineOptions {
    /// The emulator
    #[arg(long, value_enum, default_value = "qemu")]
    pub emulator: Emulator,
    /// The CPU model, as the emulator calls it [default: QEMU: max (KVM: host); Bochs: corei7_skylake_x]
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// The number of CPUs, 1 to 64
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// The size of memory in MiB
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    pub mem: u32,
    /// The firmware
    #[arg(long, value_enum, default_value = "bios")]
    pub firmware: Firmware,
    /// What to boot from [default: direct, or cd where the emulator or firmware cannot load directly]
    #[arg(long, value_enum)]
    pub boot: Option<Medium>,
    /// What executes the instructions
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: Accelerator,
    /// Open a window with the screen of the machine
    #[arg(long)]
    pub gui: bool,
    /// Take ACPI away from the machine (QEMU with BIOS only)
    #[arg(long)]
    pub no_acpi: bool,
    /// Instructions that a CPU executes before the next one has its turn, 1 to 32 (Bochs only) [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub quantum: Option<u32>,
    /// Count instructions: each is one nanosecond and one tick of the TSC, the same in every run (QEMU with one CPU only)
    #[arg(long)]
    pub icount: bool,
}

/// A machine that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The emulator.
    pub emulator: Emulator,
    /// The CPU model in the emulator's words.
    pub cpu: String,
    /// The number of CPUs.
    pub smp: u32,
    /// Memory, MiB.
    pub memory: u32,
    /// The firmware.
    pub firmware: Firmware,
    /// Where the kernel comes from.
    pub medium: Medium,
    /// Whether KVM executes.
    pub kvm: bool,
    /// Whether a window shows the screen.
    pub gui: bool,
    /// Whether there is ACPI.
    pub acpi: bool,
    /// Instructions in a turn of each of Bochs' CPUs; `None` if it does not matter.
    pub quantum: Option<u32>,
    /// Whether QEMU counts instructions.
    pub icount: bool,
}

/// QEMU's model for software emulation: everything it can, except what differs from run to run or from what Bochs
/// counts (fast string instructions) and what it knows only half (MPX, protection keys).
const QEMU_CPU: &str = "max,-erms,-fsrm,-mpx,-pku";
const BOCHS_CPU: &str = "corei7_skylake_x";

impl MachineOptions {
    /// The machine that these options describe.
    pub fn resolve(&self) -> Result<Machine> {
        self.resolve_on(&Host::this())
    }

    fn resolve_on(&self, host: &Host) -> Result<Machine> {
        if self.emulator == Emulator::Bochs {
            if self.firmware == Firmware::Uefi {
                bail!(
                    "Bochs has no UEFI firmware\n  what to do: leave out --firmware uefi, or use --emulator qemu"
                );
            }
            if !matches!(self.boot, None | Some(Medium::Cd)) {
                bail!("Bochs boots from the CD only\n  what to do: leave out --boot, or use --emulator qemu");
            }
            if self.accel == Accelerator::Kvm || self.gui || self.no_acpi {
                bail!(
                    "Bochs knows neither --accel kvm nor --gui nor --no-acpi\n  what to do: use --emulator qemu"
                );
            }
            if self.icount {
                bail!(
                    "Bochs counts instructions by itself\n  what to do: leave out --icount, or use --emulator qemu"
                );
            }
        } else if self.quantum.is_some() {
            bail!(
                "QEMU's CPUs do not take turns\n  what to do: leave out --quantum, or use --emulator bochs"
            );
        }
        if self.icount && self.smp != 1 {
            bail!(
                "QEMU counts the instructions of all CPUs as one\n  what to do: add --smp 1, or leave out --icount"
            );
        }
        if self.icount && self.accel == Accelerator::Kvm {
            bail!("KVM does not count instructions\n  what to do: leave out --icount, or use --accel tcg");
        }
        if self.firmware == Firmware::Uefi && self.no_acpi {
            bail!("UEFI always brings ACPI\n  what to do: leave out --firmware uefi or --no-acpi");
        }
        if self.firmware == Firmware::Uefi && self.boot == Some(Medium::Direct) {
            bail!(
                "QEMU's direct boot goes through its BIOS\n  what to do: with --firmware uefi use --boot cd or --boot usb"
            );
        }
        let kvm = match (self.emulator, self.accel) {
            (Emulator::Bochs, _) | (_, Accelerator::Tcg) => false,
            _ if self.icount => false,
            (_, Accelerator::Auto) => host.kvm().is_ok(),
            (_, Accelerator::Kvm) => host.kvm().map(|()| true)?,
        };
        let direct = self.emulator == Emulator::Qemu && self.firmware == Firmware::Bios;
        let cpu = match (self.emulator, kvm) {
            (Emulator::Bochs, _) => BOCHS_CPU,
            (Emulator::Qemu, true) => "host",
            (Emulator::Qemu, false) => QEMU_CPU,
        };
        Ok(Machine {
            emulator: self.emulator,
            cpu: self.cpu.clone().unwrap_or_else(|| cpu.to_owned()),
            smp: self.smp,
            memory: self.mem,
            firmware: self.firmware,
            medium: self
                .boot
                .unwrap_or(if direct { Medium::Direct } else { Medium::Cd }),
            kvm,
            gui: self.gui,
            acpi: !self.no_acpi,
            quantum: self.quantum,
            icount: self.icount,
        })
    }
}

impl Machine {
    /// What has to be installed to run it.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = vec![match self.emulator {
            Emulator::Qemu => Need::Qemu,
            Emulator::Bochs if self.quantum.is_some() => Need::BochsTurns,
            Emulator::Bochs => Need::Bochs,
        }];
        if self.firmware == Firmware::Uefi {
            needs.push(Need::UefiFirmware);
        }
        if self.medium != Medium::Direct {
            needs.push(Need::BootMedia);
        }
        if self.gui {
            needs.push(Need::QemuWindow);
        }
        needs
    }

    /// The word of the kernel's command line that says how to leave this machine.
    pub fn exit_door(&self) -> &'static str {
        match self.emulator {
            Emulator::Qemu => "exit=isa:0xf4",
            Emulator::Bochs => "exit=bochs",
        }
    }
}

/// What the host can do.
struct Host {
    module: bool,
    device: bool,
}

impl Host {
    fn this() -> Self {
        let module = ["kvm_intel", "kvm_amd"]
            .iter()
            .any(|name| Path::new("/sys/module").join(name).is_dir());
        let device = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        Self { module, device }
    }

    /// KVM is trusted only with one of the two hardware modules: the device alone may be backed by something that
    /// cannot run a whole machine.
    fn kvm(&self) -> Result<()> {
        if !self.module {
            bail!(
                "neither kvm_intel nor kvm_amd is loaded on this host\n  what to do: `modprobe kvm_intel` or kvm_amd on a machine with VT-x or SVM, or use --accel tcg"
            );
        }
        if !self.device {
            bail!(
                "/dev/kvm cannot be opened\n  what to do: add yourself to the group kvm, or use --accel tcg"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        options: MachineOptions,
    }

    fn resolve(words: &str, host: &Host) -> Result<Machine> {
        Words::try_parse_from(std::iter::once("test").chain(words.split_whitespace()))?
            .options
            .resolve_on(host)
    }

    const BARE: Host = Host {
        module: false,
        device: true,
    };

    #[test]
    fn the_medium_follows_from_emulator_and_firmware() {
        assert_eq!(resolve("", &BARE).unwrap().medium, Medium::Direct);
        assert_eq!(resolve("--firmware uefi", &BARE).unwrap().medium, Medium::Cd);
        assert_eq!(
            resolve("--firmware uefi --boot usb", &BARE).unwrap().medium,
            Medium::Usb
        );
        assert_eq!(resolve("--emulator bochs", &BARE).unwrap().medium, Medium::Cd);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_advice() {
        for words in [
            "--emulator bochs --firmware uefi",
            "--emulator bochs --boot usb",
            "--emulator bochs --boot direct",
            "--emulator bochs --accel kvm",
            "--firmware uefi --boot direct",
            "--firmware uefi --no-acpi",
            "--accel kvm",
            "--quantum 1",
            "--icount --smp 2",
            "--icount",
            "--icount --smp 1 --accel kvm",
            "--emulator bochs --smp 1 --icount",
        ] {
            let error = resolve(words, &BARE).unwrap_err().to_string();
            assert!(error.contains("what to do: "), "{words}: {error}");
        }
        assert!(resolve("--smp 0", &BARE).is_err());
        assert!(resolve("--smp 65", &BARE).is_err());
        assert!(resolve("--emulator bochs --quantum 0", &BARE).is_err());
        assert!(resolve("--emulator bochs --quantum 33", &BARE).is_err());
    }

    #[test]
    fn who_asks_for_turns_needs_the_bochs_that_has_them() {
        let machine = resolve("--emulator bochs --quantum 1", &BARE).unwrap();
        assert_eq!(machine.quantum, Some(1));
        assert_eq!(machine.needs(), [Need::BochsTurns, Need::BootMedia]);
    }

    #[test]
    fn kvm_is_used_only_where_its_hardware_module_is_loaded() {
        assert!(!resolve("", &BARE).unwrap().kvm);
        let full = Host {
            module: true,
            device: true,
        };
        let machine = resolve("", &full).unwrap();
        assert!(machine.kvm);
        assert_eq!(machine.cpu, "host");
        assert!(!resolve("--accel tcg", &full).unwrap().kvm);
        assert!(!resolve("--emulator bochs", &full).unwrap().kvm);
        assert!(!resolve("--icount --smp 1", &full).unwrap().kvm);
    }

    #[test]
    fn only_what_a_machine_needs_is_installed() {
        assert_eq!(resolve("", &BARE).unwrap().needs(), [Need::Qemu]);
        assert_eq!(
            resolve("--firmware uefi", &BARE).unwrap().needs(),
            [Need::Qemu, Need::UefiFirmware, Need::BootMedia]
        );
        assert_eq!(
            resolve("--emulator bochs", &BARE).unwrap().needs(),
            [Need::Bochs, Need::BootMedia]
        );
    }
}
