//! Copies of vmspaces, inheritance and limits: every error that they have.

use crate::Cases;
use crate::fixture::{Fixture, LIMIT};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::process::{LIMIT_READ, LimitKind, NO_LIMIT};
use dragonet_abi::{Errno, Handle, SyscallNumber as N};
use dragonet_rt::OwnedHandle;

const INVALID: &[Errno] = &[Errno::EINVAL];

/// Adds the cases beside wrong handles and ranges.
pub fn add(fixture: &Fixture, cases: &mut Cases) {
    forks(fixture, cases);
    limits(fixture, cases);
}

/// Copies of vmspaces, and what is inherited.
fn forks(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: &str, number, arguments: &[u64], expected| {
        cases.add(alloc::format!("{number:?} {name}"), number, arguments, expected);
    };
    let own = u64::from(fixture.own_vmspace.get().0);
    let inherit = [
        ("length 0", fixture.good(), 0, 2, INVALID),
        ("hole", fixture.unmapped(), PAGE_SIZE, 2, &[Errno::ENOMEM]),
        (
            "hole behind memory",
            fixture.unmapped() - PAGE_SIZE,
            2 * PAGE_SIZE,
            2,
            &[Errno::ENOMEM],
        ),
        ("unknown inheritance", fixture.good(), PAGE_SIZE, 4, INVALID),
        ("64-bit inheritance", fixture.good(), PAGE_SIZE, 1 << 32, INVALID),
        (
            "endless inheritance",
            fixture.good(),
            PAGE_SIZE,
            u64::MAX,
            INVALID,
        ),
        ("Share of private memory", fixture.good(), PAGE_SIZE, 0, INVALID),
        ("Copy of shared memory", fixture.shared(), PAGE_SIZE, 1, INVALID),
        (
            "Zero for shared memory",
            fixture.shared(),
            2 * PAGE_SIZE,
            3,
            INVALID,
        ),
    ];
    for (name, address, length, inheritance, expected) in inherit {
        add(name, N::Minherit, &[address, length, inheritance], expected);
        add(
            name,
            N::VmspaceMinherit,
            &[own, address, length, inheritance],
            expected,
        );
    }
    let number = |handle: &OwnedHandle| u64::from(handle.get().0);
    let empty = number(&fixture.vmspace);
    add("over itself", N::VmspaceFork, &[own, own], INVALID);
    add(
        "over itself by another handle",
        N::VmspaceFork,
        &[own, number(&fixture.own_vmspace_too)],
        INVALID,
    );
    add("of nothing over itself", N::VmspaceFork, &[empty, empty], INVALID);
    add(
        "over what is not empty",
        N::VmspaceFork,
        &[empty, own],
        &[Errno::EBUSY],
    );
    let destroyed = number(&fixture.destroyed_vmspace);
    let gone: &[Errno] = &[Errno::EBADF];
    add(
        "of a destroyed vmspace",
        N::VmspaceFork,
        &[destroyed, empty],
        gone,
    );
    add(
        "over a destroyed vmspace",
        N::VmspaceFork,
        &[own, destroyed],
        gone,
    );
    add(
        "of a destroyed vmspace",
        N::VmspaceMinherit,
        &[destroyed, fixture.good(), PAGE_SIZE, 2],
        gone,
    );
    let lacking = [
        ("MANAGE on the source", &fixture.readable_vmspace),
        ("READ on the source", &fixture.managed_vmspace),
    ];
    for (right, source) in lacking {
        add(
            &alloc::format!("without {right}"),
            N::VmspaceFork,
            &[number(source), empty],
            &[Errno::EPERM],
        );
    }
    for (limit, target) in [
        ("memory", &fixture.few_pages),
        ("addresses", &fixture.few_addresses),
    ] {
        // Twice, since the first must have left nothing.
        for time in ["", " again"] {
            add(
                &alloc::format!("above the target's limit of {limit}{time}"),
                N::VmspaceFork,
                &[own, number(target)],
                &[Errno::ENOMEM],
            );
        }
    }
}

/// Limits of processes.
fn limits(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: &str, process: u64, kind: u64, value: u64, expected| {
        let name = alloc::format!("ProcessLimit {name}");
        cases.add(name, N::ProcessLimit, &[process, kind, value], expected);
    };
    let own = u64::from(Handle::SELF_PROCESS.0);
    let other = u64::from(fixture.unstarted.get().0);
    for (whose, process) in [("own", own), ("of another", other)] {
        for kind in [0, 5, 1 << 32, u64::MAX] {
            add(
                &alloc::format!("{whose}, kind {kind:#x}"),
                process,
                kind,
                LIMIT_READ,
                INVALID,
            );
        }
        for kind in [LimitKind::Memory, LimitKind::AddressSpace] {
            let mut set = |name, value, expected| {
                add(
                    &alloc::format!("{whose}, {kind:?} {name}"),
                    process,
                    kind as u64,
                    value,
                    expected,
                )
            };
            set("beyond all", NO_LIMIT + 1, INVALID);
            set("just below the value for reading", LIMIT_READ - 1, INVALID);
            set("above the caller's", LIMIT + 1, &[Errno::EPERM]);
            set("none", NO_LIMIT, &[Errno::EPERM]);
        }
        for kind in [LimitKind::MemoryUsed, LimitKind::AddressSpaceUsed] {
            for value in [0, 1, NO_LIMIT] {
                add(
                    &alloc::format!("{whose}, {kind:?} set to {value:#x}"),
                    process,
                    kind as u64,
                    value,
                    INVALID,
                );
            }
        }
    }
}
