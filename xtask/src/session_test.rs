//! The runner against machines of known behaviour: tiny programs that report, hang, or reset the machine.
//!
//! They need the emulators and the boot media tools, so plain `cargo test` leaves them out; `cargo xtask test` installs
//! what they need and runs them.

use super::*;
use crate::machine::{Accelerator, MachineOptions};
use crate::stage::Staged;

/// Where the program is loaded.
const BASE: u32 = 0x10_0000;
/// Offsets of the Multiboot2 header and of the code; the Multiboot1 header is at the beginning.
const SECOND_HEADER: u32 = 0x20;
const CODE: u32 = 0x60;

/// What the program does after it has written its text.
#[derive(Clone, Copy)]
enum Then {
    LeaveQemu,
    LeaveBochs,
    Spin,
    TripleFault,
    TellTime,
}

/// A Multiboot1 and Multiboot2 program that writes `text` to COM1.
fn program(text: &str, then: Then) -> Vec<u8> {
    let ending: Vec<u8> = match then {
        // mov edx, 0xf4; mov al, 0; out dx, al; jmp $
        Then::LeaveQemu => vec![0xba, 0xf4, 0, 0, 0, 0xb0, 0, 0xee, 0xeb, 0xfe],
        Then::LeaveBochs => leave_bochs(),
        Then::Spin => vec![0xeb, 0xfe],
        // rdtsc; ebx is eax; 32 times: its highest bit as '0' or '1' to COM1; then Bochs is left
        Then::TellTime => {
            let mut code = vec![0x0f, 0x31, 0x89, 0xc3, 0xb9, 32, 0, 0, 0]; // rdtsc; mov ebx, eax; mov ecx, 32
            code.extend([0xba, 0xfd, 3, 0, 0, 0xec, 0xa8, 0x40, 0x74, 0xfb]); // until the transmitter is empty
            code.extend([0x31, 0xc0, 0xd1, 0xe3, 0x14, b'0', 0xb2, 0xf8, 0xee]); // xor eax, eax; shl ebx, 1; adc al, '0'; out
            code.extend([0xe2, 0xeb]); // loop
            code.extend(leave_bochs());
            code
        }
        // lidt [0x200000], where memory is zero: a table without entries; ud2
        Then::TripleFault => vec![0x0f, 0x01, 0x1d, 0, 0, 0x20, 0, 0x0f, 0x0b],
    };
    let mut code = vec![0xbe, 0, 0, 0, 0]; // mov esi, text (patched below)
    code.extend([0xba, 0, 0x03, 0, 0]); // mov edx, 0x300
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x0c]); // lodsb; test al, al; jz to the ending
    code.extend([0xb2, 0xf8, 0xee]); // mov dl, 0xf8; out dx, al
    code.extend([0xb2, 0xfd, 0xec, 0xa8, 0x40, 0x74, 0xfb]); // mov dl, 0xfd; until the transmitter is empty: in al, dx
    code.extend([0xeb, 0xef]); // back to lodsb
    code.extend(ending);
    let text_at = BASE + CODE + code.len() as u32;
    code[1..5].copy_from_slice(&text_at.to_le_bytes());
    code.extend(text.bytes());
    code.push(0);

    let end = BASE + CODE + code.len() as u32;
    let entry = BASE + CODE;
    // Multiboot1 with addresses (flag 16).
    let (magic, flags) = (0x1bad_b002_u32, 1 << 16);
    let first = [
        magic,
        flags,
        0_u32.wrapping_sub(magic + flags),
        BASE,
        BASE,
        end,
        end,
        entry,
    ];
    // Multiboot2: an address tag, an entry tag (each padded to 8 bytes), the end tag.
    let (magic, length) = (0xe852_50d6_u32, CODE - SECOND_HEADER);
    let checksum = 0_u32.wrapping_sub(magic.wrapping_add(length));
    let header = BASE + SECOND_HEADER;
    let second = [
        magic, 0, length, checksum, 2, 24, header, BASE, end, end, 3, 12, entry, 0, 0, 8,
    ];
    let mut file: Vec<u8> = first
        .iter()
        .chain(&second)
        .flat_map(|word| word.to_le_bytes())
        .collect();
    file.resize(CODE as usize, 0);
    file.extend(code);
    file
}

/// mov edx, 0x8900; then for each byte: mov al, byte; out dx, al; at last jmp $
fn leave_bochs() -> Vec<u8> {
    let bytes = b"Shutdown".iter().flat_map(|byte| [0xb0, *byte, 0xee]);
    let port = [0xba, 0, 0x89, 0, 0];
    port.into_iter().chain(bytes).chain([0xeb, 0xfe]).collect()
}

/// Runs the program on the machine that `words` describe (with two CPUs) for at most `seconds`.
fn boot(words: &str, text: &str, then: Then, seconds: u64) -> Outcome {
    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        options: MachineOptions,
    }
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
        conformance: None,
        init: module.clone(),
        root: module,
    };
    // The test's own symbols stand for the kernel's.
    let built = Built {
        kernel: std::env::current_exe().unwrap(),
        staged,
    };
    let words = std::iter::once("test").chain(words.split_whitespace());
    let mut options = <Words as clap::Parser>::try_parse_from(words).unwrap().options;
    options.accel = Accelerator::Tcg;
    let machine = options.resolve().unwrap();
    run(
        &machine,
        &built,
        &Extras::default(),
        Some(Duration::from_secs(seconds)),
        Operator::Nobody,
        Box::new(std::io::sink()),
    )
    .unwrap()
}

const GOODBYE: &str = "[ 0.1 cpu0 info ] up\r\ndragonet: exit status 42\r\n";

#[test]
#[ignore = "needs emulators"]
fn the_reported_status_is_the_outcome() {
    let outcome = boot("", GOODBYE, Then::LeaveQemu, 60);
    assert_eq!(outcome.end, End::Status(42), "{}", outcome.report);
    assert!(
        outcome.serial.ends_with("up\ndragonet: exit status 42\n"),
        "{}",
        outcome.serial
    );
    assert!(outcome.report.is_empty(), "{}", outcome.report);
}

#[test]
#[ignore = "needs emulators"]
fn a_machine_that_reported_but_does_not_leave_is_ended() {
    let begin = Instant::now();
    assert_eq!(
        boot("", "dragonet: exit status 0\n", Then::Spin, 60).end,
        End::Status(0)
    );
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
#[ignore = "needs emulators"]
fn a_hang_shows_the_state_of_every_cpu() {
    let outcome = boot("", "and then nothing\n", Then::Spin, 3);
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
#[ignore = "needs emulators"]
fn a_machine_that_resets_itself_has_died() {
    let outcome = boot("", "too bad\n", Then::TripleFault, 60);
    assert_eq!(outcome.end, End::Died);
    assert!(
        outcome.report.contains("qemu-system-x86_64"),
        "{}",
        outcome.report
    );
}

#[test]
#[ignore = "needs emulators"]
fn a_panic_is_status_101_with_named_frames() {
    let outcome = boot(
        "",
        "dragonet: panic: on purpose\ndragonet: backtrace 0x10 0x20\ndragonet: exit status 101\n",
        Then::LeaveQemu,
        60,
    );
    assert_eq!(outcome.end, End::Status(101));
    assert!(
        outcome.report.contains("backtrace:\n   0: 0x0000000000000010"),
        "{}",
        outcome.report
    );
}

#[test]
#[ignore = "needs emulators"]
fn every_medium_and_firmware_boots() {
    for words in [
        "--boot cd",
        "--boot usb",
        "--firmware uefi --boot cd",
        "--firmware uefi --boot usb",
    ] {
        let outcome = boot(words, GOODBYE, Then::LeaveQemu, 90);
        assert_eq!(
            outcome.end,
            End::Status(42),
            "{words}: {}{}",
            outcome.report,
            outcome.serial
        );
    }
}

#[test]
#[ignore = "needs emulators"]
fn bochs_reports_a_status_too() {
    let outcome = boot("--emulator bochs", GOODBYE, Then::LeaveBochs, 200);
    assert_eq!(
        outcome.end,
        End::Status(42),
        "{}{}",
        outcome.report,
        outcome.serial
    );
    assert!(
        outcome.serial.ends_with("up\ndragonet: exit status 42\n"),
        "{}",
        outcome.serial
    );
}

#[test]
#[ignore = "needs emulators"]
fn a_hang_in_bochs_shows_the_state_of_every_cpu() {
    let outcome = boot("--emulator bochs", "and then nothing\n", Then::Spin, 40);
    assert_eq!(outcome.end, End::Hang, "{}{}", outcome.report, outcome.serial);
    // Ours says it in one way, the installed one's debugger in another.
    let pointers = ["IP=", "rip: 00000000_"].map(|sign| outcome.report.matches(sign).count());
    assert!(pointers.contains(&2), "{}", outcome.report);
    assert!(outcome.serial.contains("and then nothing"), "{}", outcome.serial);
}

#[test]
#[ignore = "needs emulators"]
fn a_triple_fault_in_bochs_is_a_complaint() {
    let outcome = boot("--emulator bochs", "too bad\n", Then::TripleFault, 200);
    assert_eq!(outcome.end, End::Died, "{}{}", outcome.report, outcome.serial);
    assert!(outcome.report.contains("Bochs complains"), "{}", outcome.report);
}

#[test]
#[ignore = "needs emulators"]
fn the_length_of_a_turn_in_bochs_decides_the_run_and_nothing_else_does() {
    // What the time stamp counter says when the program begins: 32 binary digits at the end of the output.
    let time = |quantum: u32| {
        let words = format!("--emulator bochs --quantum {quantum}");
        let outcome = boot(&words, "the time is ", Then::TellTime, 200);
        let time = outcome.serial.trim_end().rsplit(' ').next().unwrap_or_default();
        u32::from_str_radix(time, 2).unwrap_or_else(|error| {
            panic!("{error}: {}{}", outcome.report, outcome.serial);
        })
    };
    let (fine, coarse) = (time(1), time(16));
    assert_ne!(fine, coarse);
    assert_eq!(time(1), fine);
    assert_eq!(time(16), coarse);
}
