//! The programs of users: a few instructions each, all on one page.
//!
//! A constructor gives the registers to begin with. Every program but [`spin`] ends with `syscall`, which brings its registers
//! to whoever runs it.

use dragonet_abi::vmspace::RegisterFrame;

/// Where every guest has the page, above all that tests map.
pub const ADDRESS: u64 = 0x7ff0_0000_0000;
/// Bytes from one program to the next.
const SPACING: usize = 32;

/// `mov rax, rsi; syscall`: what [`jump`] may find where it goes.
pub const LANDING: [u8; 5] = [0x48, 0x89, 0xf0, 0x0f, 0x05];

/// Places of the programs.
#[derive(Clone, Copy)]
enum Place {
    Load,
    Store,
    Jump,
    StoreOften,
    StorePages,
    CheckPages,
    Follow,
    Spin,
}

/// The programs by place. A backward jump counts from its own end.
const PROGRAMS: [(Place, &[u8]); 8] = [
    // mov rax, [rdi]; syscall
    (Place::Load, &[0x48, 0x8b, 0x07, 0x0f, 0x05]),
    // mov [rdi], rsi; syscall
    (Place::Store, &[0x48, 0x89, 0x37, 0x0f, 0x05]),
    // jmp rdi
    (Place::Jump, &[0xff, 0xe7]),
    // again: mov [rdi], rsi; inc rsi; dec rbx; jnz again; syscall
    (
        Place::StoreOften,
        &[
            0x48, 0x89, 0x37, 0x48, 0xff, 0xc6, 0x48, 0xff, 0xcb, 0x75, 0xf5, 0x0f, 0x05,
        ],
    ),
    // again: mov [rdi], rsi; add rdi, 4096; add rsi, r9; dec rbx; jnz again; syscall
    (
        Place::StorePages,
        &[
            0x48, 0x89, 0x37, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x4c, 0x01, 0xce, 0x48, 0xff, 0xcb,
            0x75, 0xee, 0x0f, 0x05,
        ],
    ),
    // again: mov rax, [rdi]; cmp rax, rsi; jne end; add rdi, 4096; add rsi, r9; dec rbx; jnz again; end: syscall
    (
        Place::CheckPages,
        &[
            0x48, 0x8b, 0x07, 0x48, 0x39, 0xf0, 0x75, 0x0f, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x4c,
            0x01, 0xce, 0x48, 0xff, 0xcb, 0x75, 0xe9, 0x0f, 0x05,
        ],
    ),
    // again: mov rax, [r8]; mov rdx, [rdi]; mov r10, [r8 + 8]; cmp rdx, rax; jb end; cmp rdx, r10; ja end; dec rbx; jnz again;
    // end: syscall
    (
        Place::Follow,
        &[
            0x49, 0x8b, 0x00, 0x48, 0x8b, 0x17, 0x4d, 0x8b, 0x50, 0x08, 0x48, 0x39, 0xc2, 0x72, 0x0a, 0x4c,
            0x39, 0xd2, 0x77, 0x05, 0x48, 0xff, 0xcb, 0x75, 0xe7, 0x0f, 0x05,
        ],
    ),
    // again: jmp again
    (Place::Spin, &[0xeb, 0xfe]),
];

/// Bytes of all programs.
pub const SIZE: usize = PROGRAMS.len() * SPACING;

/// The page's contents; gaps are breakpoints.
#[must_use]
pub fn page() -> [u8; SIZE] {
    let mut page = [0xcc; SIZE];
    for (place, program) in PROGRAMS {
        let start = place as usize * SPACING;
        page[start..start + program.len()].copy_from_slice(program);
    }
    page
}

fn start(place: Place, address: u64) -> RegisterFrame {
    RegisterFrame {
        rip: ADDRESS + (place as usize * SPACING) as u64,
        rdi: address,
        ..RegisterFrame::default()
    }
}

/// Loads a word into `rax`.
#[must_use]
pub fn load(address: u64) -> RegisterFrame {
    start(Place::Load, address)
}

/// Stores a word.
#[must_use]
pub fn store(address: u64, value: u64) -> RegisterFrame {
    RegisterFrame {
        rsi: value,
        ..start(Place::Store, address)
    }
}

/// Jumps to `address`, with `mark` in `rsi`; [`LANDING`] there brings it back in `rax`.
#[must_use]
pub fn jump(address: u64, mark: u64) -> RegisterFrame {
    RegisterFrame {
        rsi: mark,
        ..start(Place::Jump, address)
    }
}

/// Stores `first` and the numbers after it into one word, `count` of them. Ends with `rsi` = the first number not stored; after
/// a fault `rbx` is the count of those that are left.
#[must_use]
pub fn store_often(address: u64, first: u64, count: u64) -> RegisterFrame {
    RegisterFrame {
        rsi: first,
        rbx: count,
        ..start(Place::StoreOften, address)
    }
}

/// Stores `first`, `first + step` ... into a word of each of `count` pages.
#[must_use]
pub fn store_pages(address: u64, first: u64, step: u64, count: u64) -> RegisterFrame {
    RegisterFrame {
        rsi: first,
        r9: step,
        rbx: count,
        ..start(Place::StorePages, address)
    }
}

/// Compares a word of each of `count` pages with `first`, `first + step` ... Ends with `rbx` = 0 if all are equal, else with the
/// word at `rdi` in `rax` and what it should be in `rsi`.
#[must_use]
pub fn check_pages(address: u64, first: u64, step: u64, count: u64) -> RegisterFrame {
    RegisterFrame {
        rsi: first,
        r9: step,
        rbx: count,
        ..start(Place::CheckPages, address)
    }
}

/// Watches a word that only ever grows: `count` times it must be no less than the word at `limits`, read before it, and no more
/// than the word after that, read after it. Ends with `rbx` = 0, else with the three in `rax`, `rdx` and `r10`.
#[must_use]
pub fn follow(address: u64, limits: u64, count: u64) -> RegisterFrame {
    RegisterFrame {
        r8: limits,
        rbx: count,
        ..start(Place::Follow, address)
    }
}

/// Computes until it is interrupted.
#[must_use]
pub fn spin() -> RegisterFrame {
    start(Place::Spin, 0)
}
