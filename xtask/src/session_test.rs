//! The runner against machines of known behaviour: tiny Multiboot programs that report, hang, or reset the machine.
//!
//! They need QEMU, so plain `cargo test` leaves them out; `cargo xtask test` installs QEMU and runs them.

use super::*;
use crate::machine::MachineOptions;
use crate::stage::Staged;

/// Where the program is loaded.
const BASE: u32 = 0x10_0000;
/// Offset of the code behind the Multiboot header.
const CODE: u32 = 0x20;

/// What the program does after it has written its text.
enum Then {
    LeaveByDebugExit,
    Spin,
    TripleFault,
}

/// A Multiboot program that writes `text` to COM1.
fn program(text: &str, then: Then) -> Vec<u8> {
    let ending: Vec<u8> = match then {
        // mov edx, 0xf4; mov al, 0; out dx, al; then wait for the end
        Then::LeaveByDebugExit => vec![0xba, 0xf4, 0, 0, 0, 0xb0, 0, 0xee, 0xeb, 0xfe],
        Then::Spin => vec![0xeb, 0xfe],
        // lidt [0x200000], where memory is zero: a table without entries; ud2
        Then::TripleFault => vec![0x0f, 0x01, 0x1d, 0, 0, 0x20, 0, 0x0f, 0x0b],
    };
    let text_at = BASE + CODE + 18 + ending.len() as u32;
    let mut code = vec![0xbe]; // mov esi, text
    code.extend(text_at.to_le_bytes());
    code.extend([0xba, 0xf8, 0x03, 0, 0]); // mov edx, 0x3f8
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]); // lodsb; test al, al; jz +3; out dx, al; jmp back
    assert_eq!(code.len(), 18);
    code.extend(ending);
    code.extend(text.bytes());
    code.push(0);

    let flags = 1_u32 << 16;
    let end = BASE + CODE + code.len() as u32;
    let magic = 0x1bad_b002_u32;
    let checksum = 0_u32.wrapping_sub(magic).wrapping_sub(flags);
    let header = [magic, flags, checksum, BASE, BASE, end, end, BASE + CODE];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.extend(code);
    file
}

/// Runs the program on two CPUs for at most `seconds`.
fn boot(text: &str, then: Then, seconds: u64) -> Outcome {
    let folder = Scratch::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let boot = file("program", &program(text, then));
    let module = file("module", b"some module");
    let staged = Staged {
        boot,
        kernel: module.clone(),
        init: module.clone(),
        root: module,
    };
    // The test's own symbols stand for the kernel's.
    let built = Built {
        kernel: std::env::current_exe().unwrap(),
        staged,
    };
    let options = MachineOptions {
        emulator: Emulator::Qemu,
        cpu: None,
        smp: 2,
        mem: 64,
        firmware: Firmware::Bios,
        boot: None,
        accel: crate::machine::Accelerator::Tcg,
        gui: false,
        no_acpi: false,
    };
    let machine = options.resolve().unwrap();
    run(
        &machine,
        &built,
        &Extras::default(),
        Duration::from_secs(seconds),
        Box::new(std::io::sink()),
    )
    .unwrap()
}

#[test]
#[ignore = "needs QEMU"]
fn the_reported_status_is_the_outcome() {
    let outcome = boot(
        "[ 0.1 cpu0 info ] up\r\ndragonet: exit status 42\r\n",
        Then::LeaveByDebugExit,
        60,
    );
    assert_eq!(outcome.end, End::Status(42), "{}", outcome.report);
    assert!(
        outcome.serial.ends_with("up\ndragonet: exit status 42\n"),
        "{}",
        outcome.serial
    );
    assert!(outcome.report.is_empty(), "{}", outcome.report);
}

#[test]
#[ignore = "needs QEMU"]
fn a_machine_that_reported_but_does_not_leave_is_ended() {
    let begin = Instant::now();
    assert_eq!(
        boot("dragonet: exit status 0\n", Then::Spin, 60).end,
        End::Status(0)
    );
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
#[ignore = "needs QEMU"]
fn a_hang_shows_the_state_of_every_cpu() {
    let outcome = boot("and then nothing\n", Then::Spin, 3);
    assert_eq!(outcome.end, End::Hang);
    for part in ["--- CPU 0", "--- CPU 1", "EIP="] {
        assert!(
            outcome.report.contains(part),
            "{part} is missing in {}",
            outcome.report
        );
    }
    assert!(outcome.serial.contains("and then nothing"));
}

#[test]
#[ignore = "needs QEMU"]
fn a_machine_that_resets_itself_has_died() {
    let outcome = boot("too bad\n", Then::TripleFault, 60);
    assert_eq!(outcome.end, End::Died);
    assert!(
        outcome.report.contains("qemu-system-x86_64"),
        "{}",
        outcome.report
    );
}

#[test]
#[ignore = "needs QEMU"]
fn a_panic_is_status_101_with_named_frames() {
    let outcome = boot(
        "dragonet: panic: on purpose\ndragonet: backtrace 0x10 0x20\ndragonet: exit status 101\n",
        Then::LeaveByDebugExit,
        60,
    );
    assert_eq!(outcome.end, End::Status(101));
    assert!(
        outcome.report.contains("backtrace:\n   0: 0x0000000000000010"),
        "{}",
        outcome.report
    );
}
