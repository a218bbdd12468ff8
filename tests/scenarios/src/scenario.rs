//! One scenario, and the words in which the table is written.

/// The emulator of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// QEMU, software emulation.
    Qemu,
    /// Bochs.
    Bochs,
}

/// How the kernel gets into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// As the emulator does by default: QEMU loads it itself, Bochs has a CD.
    Default,
    /// From a CD by BIOS.
    Cd,
    /// From a USB stick by BIOS.
    Usb,
    /// From a CD by UEFI.
    UefiCd,
    /// From a USB stick by UEFI.
    UefiUsb,
}

/// What is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The microkernel.
    Dragonet,
    /// The kernel that checks the promises of the boot protocol. The runner tells it what there must be.
    Conformance {
        /// Whether there must be a framebuffer.
        framebuffer: bool,
    },
}

/// A machine, what it is told, and what it must do.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, unique; also the name of its log.
    pub name: &'static str,
    /// The emulator.
    pub emulator: Emulator,
    /// The CPU model; `None` is the runner's default.
    pub cpu: Option<&'static str>,
    /// The number of CPUs.
    pub smp: u32,
    /// Memory in MiB.
    pub mem: u32,
    /// How it boots.
    pub boot: Boot,
    /// What it boots.
    pub kernel: Kernel,
    /// Whether there is ACPI.
    pub acpi: bool,
    /// Instructions in a turn of each of Bochs' CPUs; `None` is the runner's default.
    pub quantum: Option<u32>,
    /// Whether QEMU counts instructions as time, which takes a machine with one CPU.
    pub icount: bool,
    /// The shell's commands; `None` is an interactive boot.
    pub exec: Option<&'static str>,
    /// More words for the kernel's command line.
    pub append: &'static str,
    /// Boot modules that are left out.
    pub without: &'static [&'static str],
    /// Whether VM entries fail on purpose, on which Bochs remarks in its log.
    pub failing_entries: bool,
    /// The status the machine must report.
    pub status: u8,
    /// Texts that the serial output must contain, in this order.
    pub contains: &'static [&'static str],
    /// Texts that it must not contain.
    pub lacks: &'static [&'static str],
    /// Beginnings of lines that must be printed at least twice, with the first and the last of them alike: their
    /// numbers may differ by so much.
    pub steady: &'static [(&'static str, u64)],
    /// Seconds until it counts as hanging.
    pub limit: u64,
}

/// A scenario on QEMU: 2 CPUs, 256 MiB, direct boot, status 0, two minutes.
pub const fn qemu(name: &'static str) -> Scenario {
    Scenario {
        name,
        emulator: Emulator::Qemu,
        cpu: None,
        smp: 2,
        mem: 256,
        boot: Boot::Default,
        kernel: Kernel::Dragonet,
        acpi: true,
        quantum: None,
        icount: false,
        exec: None,
        append: "",
        without: &[],
        failing_entries: false,
        status: 0,
        contains: &[],
        lacks: &[],
        steady: &[],
        limit: 120,
    }
}

/// A scenario on Bochs: 2 CPUs, 256 MiB, CD, status 0, five minutes.
pub const fn bochs(name: &'static str) -> Scenario {
    Scenario {
        emulator: Emulator::Bochs,
        limit: 300,
        ..qemu(name)
    }
}

impl Scenario {
    /// On this CPU model.
    pub const fn cpu(self, cpu: &'static str) -> Self {
        Self {
            cpu: Some(cpu),
            ..self
        }
    }

    /// With this many CPUs.
    pub const fn smp(self, smp: u32) -> Self {
        Self { smp, ..self }
    }

    /// With this much memory, MiB.
    pub const fn mem(self, mem: u32) -> Self {
        Self { mem, ..self }
    }

    /// Booted in this way.
    pub const fn boot(self, boot: Boot) -> Self {
        Self { boot, ..self }
    }

    /// With the kernel that checks the boot protocol; whether there must be a framebuffer.
    pub const fn conformance(self, framebuffer: bool) -> Self {
        Self {
            kernel: Kernel::Conformance { framebuffer },
            contains: &[" passed, 0 failed"],
            ..self
        }
    }

    /// Without ACPI.
    pub const fn no_acpi(self) -> Self {
        Self { acpi: false, ..self }
    }

    /// On Bochs, with turns of this many instructions, 1 to 32: 1 interleaves the CPUs most finely.
    pub const fn quantum(self, quantum: u32) -> Self {
        Self {
            quantum: Some(quantum),
            ..self
        }
    }

    /// On QEMU, with one CPU, each of whose instructions is one nanosecond and one tick of the TSC.
    pub const fn icount(self) -> Self {
        Self {
            icount: true,
            smp: 1,
            ..self
        }
    }

    /// With these commands.
    pub const fn exec(self, exec: &'static str) -> Self {
        Self {
            exec: Some(exec),
            ..self
        }
    }

    /// With these words on the kernel's command line.
    pub const fn append(self, append: &'static str) -> Self {
        Self { append, ..self }
    }

    /// Without these boot modules.
    pub const fn without(self, without: &'static [&'static str]) -> Self {
        Self { without, ..self }
    }

    /// With VM entries that fail on purpose.
    pub const fn failing_entries(self) -> Self {
        Self {
            failing_entries: true,
            ..self
        }
    }

    /// Must report this status.
    pub const fn status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Must print these texts, in this order.
    pub const fn prints(self, contains: &'static [&'static str]) -> Self {
        Self { contains, ..self }
    }

    /// Must print none of these texts.
    pub const fn never_prints(self, lacks: &'static [&'static str]) -> Self {
        Self { lacks, ..self }
    }

    /// The first and the last line that begin so must be alike, but for so much in their numbers.
    pub const fn keeps(self, steady: &'static [(&'static str, u64)]) -> Self {
        Self { steady, ..self }
    }

    /// Hangs after this many seconds.
    pub const fn limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }
}
