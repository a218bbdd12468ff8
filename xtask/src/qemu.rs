//! QEMU's command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::machine::{Machine, Medium};
use crate::payload::Payload;

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Where the machine's serial port leads.
#[derive(Clone, Debug)]
pub enum Serial {
    /// Into a file that the runner follows.
    File(PathBuf),
    /// To a TCP port of this host, where the runner listens.
    Port(u16),
}

/// What the machine boots.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The payload itself.
    Payload(&'a Payload),
    /// A bootable image.
    Image(&'a Path),
}

/// The parts of a run that are not the machine's.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// What it boots.
    pub source: Source<'a>,
    /// Its serial port.
    pub serial: Serial,
    /// A UNIX socket for QEMU's machine protocol.
    pub control: Option<PathBuf>,
    /// UEFI code, and a copy of its variables that may be written.
    pub flash: Option<(PathBuf, PathBuf)>,
    /// A TCP port on which gdb is waited for, before the first instruction.
    pub debugger: Option<u16>,
}

/// All arguments.
pub fn arguments(machine: &Machine, launch: &Launch) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| words.extend([option.into(), value]);
    add(
        "-machine",
        if machine.acpi {
            "q35".into()
        } else {
            "q35,acpi=off".into()
        },
    );
    add(
        "-accel",
        if machine.kvm {
            "kvm".into()
        } else if machine.icount {
            "tcg,thread=single".into()
        } else {
            "tcg,thread=multi".into()
        },
    );
    if machine.icount {
        // Virtual time follows the count; an idle machine jumps to its next event.
        add("-icount", "shift=0,sleep=off".into());
    }
    add("-cpu", machine.cpu.clone().into());
    add("-smp", machine.smp.to_string().into());
    add("-m", format!("{}M", machine.memory).into());
    add("-vga", "std".into());
    add("-nic", "none".into());
    add("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04".into());
    add("-name", "dragonet".into());
    if !machine.acpi {
        // QEMU's usual BIOS makes tables of its own when QEMU has none.
        add("-bios", "bios-microvm.bin".into());
    }
    if let Some((code, variables)) = &launch.flash {
        add(
            "-drive",
            option("if=pflash,format=raw,unit=0,readonly=on,file=", code),
        );
        add("-drive", option("if=pflash,format=raw,unit=1,file=", variables));
    }
    match (launch.source, machine.medium) {
        (Source::Payload(payload), _) => {
            add("-kernel", payload.boot.clone().into());
            add("-initrd", modules(payload));
            add("-append", payload.command_line.clone().into());
        }
        (Source::Image(image), Medium::Usb) => {
            add(
                "-drive",
                option("if=none,id=stick,format=raw,readonly=on,file=", image),
            );
            add("-device", "qemu-xhci".into());
            add("-device", "usb-storage,drive=stick,bootindex=0".into());
        }
        (Source::Image(image), _) => {
            add(
                "-drive",
                option("if=none,id=disc,format=raw,media=cdrom,readonly=on,file=", image),
            );
            add("-device", "ide-cd,drive=disc,bootindex=0".into());
        }
    }
    if !machine.gui {
        add("-display", "none".into());
    }
    match &launch.serial {
        Serial::File(file) => add("-chardev", option("file,id=serial,path=", file)),
        Serial::Port(port) => {
            add(
                "-chardev",
                format!("socket,id=serial,host=127.0.0.1,port={port},nodelay=on").into(),
            );
        }
    }
    add("-serial", "chardev:serial".into());
    add("-monitor", "none".into());
    if let Some(socket) = &launch.control {
        let mut value = option("unix:", socket);
        value.push(",server=on,wait=off");
        add("-qmp", value);
    }
    if let Some(port) = launch.debugger {
        add("-gdb", format!("tcp:127.0.0.1:{port}").into());
        words.push("-S".into());
    }
    words.push("-no-reboot".into());
    words
}

/// `file name,file name`: QEMU hands each module the text after its file, and doubled commas are commas.
fn modules(payload: &Payload) -> OsString {
    let mut list = OsString::new();
    for module in &payload.modules {
        if !list.is_empty() {
            list.push(",");
        }
        list.push(option("", &module.file));
        list.push(" ");
        list.push(&module.name);
    }
    list
}

/// `key=file` with the commas of the file's name doubled.
fn option(key: &str, file: &Path) -> OsString {
    format!("{key}{}", file.display().to_string().replace(',', ",,")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Emulator, Firmware};
    use crate::payload::Module;

    fn machine(medium: Medium) -> Machine {
        Machine {
            emulator: Emulator::Qemu,
            cpu: "max".to_owned(),
            smp: 4,
            memory: 64,
            firmware: Firmware::Bios,
            medium,
            kvm: false,
            gui: false,
            acpi: true,
            quantum: None,
            icount: false,
        }
    }

    fn words(machine: &Machine, launch: &Launch) -> String {
        let words = arguments(machine, launch);
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn launch(source: Source<'_>) -> Launch<'_> {
        Launch {
            source,
            serial: Serial::File("/s/serial".into()),
            control: None,
            flash: None,
            debugger: None,
        }
    }

    #[test]
    fn direct_boot_gives_modules_with_their_names() {
        let payload = Payload {
            boot: "/b/boot".into(),
            modules: vec![
                Module {
                    file: "/b/kernel".into(),
                    name: "kernel".to_owned(),
                },
                Module {
                    file: "/b/a,b/init".into(),
                    name: "init".to_owned(),
                },
            ],
            command_line: "exit=isa:0xf4 log=debug".to_owned(),
            text_screen: false,
        };
        let text = words(&machine(Medium::Direct), &launch(Source::Payload(&payload)));
        assert!(
            text.contains(
                "-kernel /b/boot -initrd /b/kernel kernel,/b/a,,b/init init -append exit=isa:0xf4 log=debug"
            ),
            "{text}"
        );
        assert!(text.contains("-smp 4 -m 64M"), "{text}");
        assert!(
            text.contains("-display none") && text.contains("-no-reboot"),
            "{text}"
        );
    }

    #[test]
    fn an_image_is_a_disc_or_a_stick() {
        let image = Path::new("/i/image.iso");
        let disc = words(&machine(Medium::Cd), &launch(Source::Image(image)));
        assert!(
            disc.contains("media=cdrom") && disc.contains("ide-cd,drive=disc"),
            "{disc}"
        );
        let stick = words(&machine(Medium::Usb), &launch(Source::Image(image)));
        assert!(
            stick.contains("-device qemu-xhci -device usb-storage,drive=stick"),
            "{stick}"
        );
        assert!(!stick.contains("cdrom"), "{stick}");
    }

    #[test]
    fn counting_instructions_takes_one_thread_of_the_host() {
        let mut machine = machine(Medium::Cd);
        machine.smp = 1;
        let image = Path::new("/i/image.iso");
        let text = words(&machine, &launch(Source::Image(image)));
        assert!(
            text.contains("-accel tcg,thread=multi") && !text.contains("icount"),
            "{text}"
        );
        machine.icount = true;
        let text = words(&machine, &launch(Source::Image(image)));
        assert!(
            text.contains("-accel tcg,thread=single -icount shift=0,sleep=off"),
            "{text}"
        );
    }

    #[test]
    fn firmware_debugger_and_missing_acpi_show_up() {
        let mut machine = machine(Medium::Cd);
        machine.acpi = false;
        machine.kvm = true;
        let mut launch = launch(Source::Image(Path::new("/i/image.iso")));
        launch.flash = Some(("/f/code.fd".into(), "/f/vars.fd".into()));
        launch.debugger = Some(1234);
        launch.control = Some("/s/control".into());
        let text = words(&machine, &launch);
        for part in [
            "q35,acpi=off",
            "-bios bios-microvm.bin",
            "-accel kvm",
            "unit=0,readonly=on,file=/f/code.fd",
            "unit=1,file=/f/vars.fd",
            "-gdb tcp:127.0.0.1:1234 -S",
            "-qmp unix:/s/control,server=on,wait=off",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
