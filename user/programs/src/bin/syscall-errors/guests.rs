//! Guest mode: every error of its calls, made by an ordinary thread.

use crate::Cases;
use crate::fixture::Fixture;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::vmm::{GUEST_MASTER, GUEST_PHYSICAL_END, GuestOptions, VMM_LEAVE, VMM_RUN};
use dragonet_abi::{Errno, SyscallNumber as N};
use zerocopy::IntoBytes;

const INVALID: &[Errno] = &[Errno::EINVAL];
/// Of a slave without a master, where there is guest mode, and where there is none.
const NO_MASTER: &[Errno] = &[Errno::ENOENT, Errno::ENODEV];

/// Adds the cases beside wrong handles and pointers.
pub fn add(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: &str, number, arguments: &[u64], expected| {
        cases.add(alloc::format!("{number:?} {name}"), number, arguments, expected);
    };
    for operation in [0, 3, 1 << 32 | VMM_RUN, u64::MAX] {
        add(
            "unknown operation",
            N::VmmGuestCtl,
            &[operation, fixture.good()],
            INVALID,
        );
    }
    add(
        "leaving what was not entered",
        N::VmmGuestCtl,
        &[VMM_LEAVE],
        INVALID,
    );
    let options = |cr3, flags, reserved| GuestOptions { cr3, flags, reserved };
    let root = fixture.good();
    let refused = [
        ("unknown flag", options(root, 2, 0), INVALID),
        ("all flags", options(root, u32::MAX, 0), INVALID),
        ("reserved word", options(root, GUEST_MASTER, 1), INVALID),
        ("no root", options(0, GUEST_MASTER, 0), INVALID),
        ("a root with flags", options(root + 8, GUEST_MASTER, 0), INVALID),
        (
            "a root with bit 63",
            options(root | 1 << 63, GUEST_MASTER, 0),
            INVALID,
        ),
        (
            "a root behind the end",
            options(GUEST_PHYSICAL_END, GUEST_MASTER, 0),
            INVALID,
        ),
        ("no master", options(root, 0, 0), NO_MASTER),
    ];
    for (number, (name, options, expected)) in refused.into_iter().enumerate() {
        // Each in a place of its own, since the calls come later.
        let place = PAGE_SIZE / 2 + number as u64 * 16;
        add(
            name,
            N::VmmGuestCtl,
            &[VMM_RUN, fixture.put(options.as_bytes(), place)],
            expected,
        );
    }
    add(
        "outside of guest mode",
        N::VmmGuestSyncAddr,
        &[fixture.good(), fixture.good()],
        INVALID,
    );
    add(
        "no entry, outside of guest mode",
        N::VmmGuestSyncAddr,
        &[0, 0],
        INVALID,
    );
    let system = u64::from(fixture.system.0);
    for cpu in [64, 999, 1 << 32, u64::MAX] {
        add(
            "behind the last CPU",
            N::VmmInfo,
            &[system, cpu, fixture.good()],
            &[Errno::ENOENT],
        );
    }
}
