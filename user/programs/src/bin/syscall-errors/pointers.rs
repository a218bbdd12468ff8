//! Bad pointers of every kind, for every call that takes one.

use crate::Cases;
use crate::fixture::Fixture;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use dragonet_abi::handle::HandleInfo;
use dragonet_abi::layout::USER_END;
use dragonet_abi::memory::MapRequest;
use dragonet_abi::process::{ProcessInfo, WaitStatus};
use dragonet_abi::system::SystemInfo;
use dragonet_abi::time::FOREVER;
use dragonet_abi::virtual_interrupt::InterruptFrame;
use dragonet_abi::vmm::{GuestOptions, VMM_RUN, VmxRegisters};
use dragonet_abi::vmspace::{EntryInfo, RunState, VMSPACE_CTL_RUN, VmspaceInfo};
use dragonet_abi::{Errno, Handle, SyscallNumber as N};

/// A call with a pointer at one place of its arguments.
struct Taker {
    number: N,
    arguments: Vec<u64>,
    /// Which argument is the pointer.
    place: usize,
    /// Bytes at the pointer.
    size: u64,
    /// The kernel writes there.
    writes: bool,
    /// Bytes to which the pointer must be aligned.
    alignment: u64,
}

/// Adds every bad pointer to every call.
pub fn add(fixture: &Fixture, cases: &mut Cases) {
    for taker in takers(fixture) {
        for (kind, address) in bad_addresses(fixture, &taker) {
            let mut arguments = taker.arguments.clone();
            arguments[taker.place] = address;
            let name = alloc::format!("{:?} {kind} pointer", taker.number);
            // A pointer that is both misaligned and bad may be refused for either reason.
            let expected: &[Errno] = if address.is_multiple_of(taker.alignment) {
                &[Errno::EFAULT]
            } else {
                &[Errno::EFAULT, Errno::EINVAL]
            };
            cases.add(name, taker.number, &arguments, expected);
        }
        if taker.alignment > 1 {
            let mut arguments = taker.arguments.clone();
            arguments[taker.place] = fixture.good() + 1;
            let name = alloc::format!("{:?} unaligned pointer", taker.number);
            cases.add(name, taker.number, &arguments, &[Errno::EINVAL]);
        }
    }
}

fn bad_addresses(fixture: &Fixture, taker: &Taker) -> Vec<(&'static str, u64)> {
    let mut addresses = vec![
        ("null", 0),
        ("unmapped", fixture.unmapped()),
        ("inaccessible", fixture.inaccessible()),
        ("guard", fixture.guard()),
        ("stack guard", fixture.stack_guard()),
        ("straddling", fixture.straddling(taker.size)),
        ("end of user space", USER_END),
        ("lower canonical border", 0x0000_7fff_ffff_fff8),
        ("non-canonical", 0x0000_8000_0000_0000),
        ("far non-canonical", 0x8000_0000_0000_0000),
        ("kernel direct map", 0xffff_8000_0010_0000),
        ("kernel image", 0xffff_ffff_8000_0000),
        ("wrapping", !7),
    ];
    if taker.writes {
        addresses.push(("read-only", fixture.read_only()));
    }
    if taker.size <= 4 {
        // A word does not straddle anything when it is aligned.
        addresses.retain(|(kind, _)| *kind != "straddling");
    }
    addresses
}

fn takers(fixture: &Fixture) -> Vec<Taker> {
    let system = u64::from(fixture.system.0);
    let vmspace = u64::from(fixture.vmspace.get().0);
    let object = u64::from(fixture.object.get().0);
    let ended = u64::from(fixture.ended.handle().0);
    let own = u64::from(fixture.own_vmspace.get().0);
    let taker = |number, arguments: &[u64], place, size: usize, writes, alignment| Taker {
        number,
        arguments: arguments.to_vec(),
        place,
        size: size as u64,
        writes,
        alignment,
    };
    vec![
        taker(N::ProcessCreate, &[0, 16], 0, 16, false, 1),
        taker(
            N::ProcessWait,
            &[ended, 0, 0],
            2,
            size_of::<WaitStatus>(),
            true,
            1,
        ),
        taker(
            N::ProcessList,
            &[system, 0, 1],
            1,
            size_of::<ProcessInfo>(),
            true,
            1,
        ),
        taker(N::HandleInfo, &[object, 0], 1, size_of::<HandleInfo>(), true, 1),
        taker(
            N::VmspaceCtl,
            &[vmspace, VMSPACE_CTL_RUN, 0],
            2,
            size_of::<RunState>(),
            true,
            8,
        ),
        taker(
            N::VmspaceMmap,
            &[vmspace, 0],
            1,
            size_of::<MapRequest>(),
            false,
            1,
        ),
        taker(N::VmspacePread, &[own, 0, 64, fixture.good()], 1, 64, true, 1),
        taker(N::VmspacePwrite, &[own, 0, 64, fixture.good()], 1, 64, false, 1),
        taker(
            N::VmspaceEntries,
            &[own, 0, 0, 1],
            2,
            size_of::<EntryInfo>(),
            true,
            1,
        ),
        taker(
            N::VmspaceList,
            &[u64::from(Handle::SELF_PROCESS.0), 0, 0],
            2,
            size_of::<VmspaceInfo>(),
            true,
            8,
        ),
        taker(N::UmtxSleep, &[0, 0, 0], 0, 4, false, 4),
        taker(N::VirqReturn, &[0], 0, size_of::<InterruptFrame>(), false, 1),
        taker(N::ChannelCreate, &[0], 0, 8, true, 1),
        taker(N::CountersRead, &[system, FOREVER, 0, 8], 2, 64, true, 1),
        taker(N::LogWrite, &[3, 0, 16], 1, 16, false, 1),
        taker(N::LogRead, &[system, 0, 0, 1024], 2, 1024, true, 1),
        taker(N::VmmInfo, &[system, 0, 0], 2, size_of::<VmxRegisters>(), true, 8),
        taker(
            N::VmmGuestCtl,
            &[VMM_RUN, 0],
            1,
            size_of::<GuestOptions>(),
            false,
            8,
        ),
        taker(N::SystemInfo, &[0], 0, size_of::<SystemInfo>(), true, 1),
    ]
}
