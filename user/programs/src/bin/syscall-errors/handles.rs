//! Handles that name nothing, name an object of another kind, or lack the right.

use crate::Cases;
use crate::fixture::Fixture;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::process::LIMIT_READ;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::RunState;
use dragonet_abi::{Errno, Handle, Rights, SyscallNumber as N};

/// A call with a handle at one place of its arguments, a handle of another kind, and one without rights.
struct Taker {
    number: N,
    arguments: Vec<u64>,
    place: usize,
    wrong_kind: Option<Handle>,
    weak: Option<Handle>,
    /// The error for the missing right.
    refusal: &'static [Errno],
}

/// Adds every wrong handle to every call.
pub fn add(fixture: &Fixture, cases: &mut Cases) {
    for taker in takers(fixture) {
        let mut add = |kind: &str, value: u64, expected| {
            let mut arguments = taker.arguments.clone();
            arguments[taker.place] = value;
            let name = alloc::format!("{:?} {kind} handle, argument {}", taker.number, taker.place);
            cases.add(name, taker.number, &arguments, expected);
        };
        add("no", 0, &[Errno::EBADF]);
        add("never opened", 4000, &[Errno::EBADF]);
        add("out of range", 0xf_ffff, &[Errno::EBADF]);
        add("closed", u64::from(fixture.closed.0), &[Errno::EBADF]);
        add(
            "64-bit",
            1 << 32 | u64::from(fixture.object.get().0),
            &[Errno::EBADF],
        );
        add("negative", u64::MAX, &[Errno::EBADF]);
        if let Some(handle) = taker.wrong_kind {
            add("wrong kind of", u64::from(handle.0), &[Errno::EBADF]);
        }
        if let Some(handle) = taker.weak {
            add("powerless", u64::from(handle.0), taker.refusal);
        }
    }
    destroyed(fixture, cases);
    oneself(fixture, cases);
    let powers = [
        (
            "BootModule",
            N::BootModule,
            [u64::from(fixture.system.0), 0, fixture.good()],
        ),
        (
            "DeviceOpen",
            N::DeviceOpen,
            [u64::from(fixture.system.0), 2, 0x3f8],
        ),
    ];
    for (name, number, arguments) in powers {
        cases.add(
            alloc::format!("{name} without the right"),
            number,
            &arguments,
            &[Errno::EPERM],
        );
    }
}

/// Every call on a vmspace that is gone.
fn destroyed(fixture: &Fixture, cases: &mut Cases) {
    let vmspace = u64::from(fixture.destroyed_vmspace.get().0);
    let good = fixture.good();
    // In the last page, which nobody else writes to.
    let [at_once, for_ever] = [0, FOREVER].map(|timeout| {
        let state = RunState {
            timeout,
            ..RunState::default()
        };
        fixture.run_state(&state, 3 * PAGE_SIZE + timeout % 2 * 512)
    });
    let calls: [(N, &[u64]); 9] = [
        (N::VmspaceDestroy, &[vmspace]),
        (N::VmspaceCtl, &[vmspace, 1, at_once]),
        (N::VmspaceCtl, &[vmspace, 1, for_ever]),
        (N::VmspaceMmap, &[vmspace, good]),
        (N::VmspaceMunmap, &[vmspace, 0x1_0000, 4096]),
        (N::VmspaceMprotect, &[vmspace, 0x1_0000, 4096, 1]),
        (N::VmspaceMcontrol, &[vmspace, 0x1_0000, 4096, 3, 0]),
        (N::VmspacePread, &[vmspace, good, 8, 0x1_0000]),
        (N::VmspacePwrite, &[vmspace, good, 8, 0x1_0000]),
    ];
    for (number, arguments) in calls {
        let name = alloc::format!("{number:?} destroyed vmspace");
        cases.add(name, number, arguments, &[Errno::EBADF]);
    }
    let own = u64::from(fixture.own_vmspace.get().0);
    cases.add(
        "VmspaceDestroy of a process's own".into(),
        N::VmspaceDestroy,
        &[own],
        &[Errno::EINVAL],
    );
}

/// What the caller can do with itself, and what it cannot.
fn oneself(fixture: &Fixture, cases: &mut Cases) {
    let unstarted = u64::from(fixture.unstarted.get().0);
    for (name, handle, lacking) in [
        ("process", Handle::SELF_PROCESS, Rights::POST),
        ("thread", Handle::SELF_THREAD, Rights::KILL),
    ] {
        let own = u64::from(handle.0);
        let mut add = |what: &str, number: N, arguments: &[u64], expected| {
            let name = alloc::format!("{number:?} of the own {name} {what}");
            cases.add(name, number, arguments, expected);
        };
        let (refused, unknown, bad): (&[Errno], &[Errno], &[Errno]) =
            (&[Errno::EPERM], &[Errno::EINVAL], &[Errno::EBADF]);
        for rights in [lacking, Rights::VKERNEL] {
            let rights = u64::from(rights.bits());
            add("with more rights", N::HandleDuplicate, &[own, rights], refused);
            add(
                "with more rights",
                N::ProcessGive,
                &[unstarted, own, rights],
                refused,
            );
        }
        add(
            "with unknown rights",
            N::HandleDuplicate,
            &[own, 1 << 31],
            unknown,
        );
        add(
            "with unknown rights",
            N::ProcessGive,
            &[unstarted, own, 1 << 31],
            unknown,
        );
        add("to nobody", N::HandleInfo, &[own, 0], &[Errno::EFAULT]);
        add("for good", N::HandleClose, &[own], bad);
    }
    // Each names the caller only where its kind is expected.
    let (process, thread) = (
        u64::from(Handle::SELF_PROCESS.0),
        u64::from(Handle::SELF_THREAD.0),
    );
    cases.add(
        "ThreadWait for the own process".into(),
        N::ThreadWait,
        &[process, 0],
        &[Errno::EBADF],
    );
    cases.add(
        "ProcessKill of the own thread".into(),
        N::ProcessKill,
        &[thread, 1],
        &[Errno::EBADF],
    );
}

fn takers(fixture: &Fixture) -> Vec<Taker> {
    let good = fixture.good();
    let object = fixture.object.get();
    let client = fixture.client.get();
    let mut takers = Vec::new();
    let mut add = |number, arguments: &[u64], place, wrong_kind, weak| {
        let refusal: &[Errno] = &[Errno::EPERM];
        takers.push(Taker {
            number,
            arguments: arguments.to_vec(),
            place,
            wrong_kind,
            weak,
            refusal,
        });
    };

    let process = Some(fixture.weak_process.get());
    add(
        N::ProcessStart,
        &[0, 0x20_0000, 0x30_0000, 0],
        0,
        Some(object),
        process,
    );
    add(N::ProcessKill, &[0, 1], 0, Some(object), process);
    add(N::ProcessWait, &[0, 0, good], 0, Some(object), process);
    add(N::ProcessVmspace, &[0], 0, Some(object), process);
    add(N::VmspaceList, &[0, 0, good], 0, Some(object), process);
    add(N::ProcessLimit, &[0, 1, LIMIT_READ], 0, Some(object), process);
    let unstarted = u64::from(fixture.unstarted.get().0);
    add(
        N::ProcessGive,
        &[0, u64::from(object.0), 0],
        0,
        Some(object),
        process,
    );
    add(
        N::ProcessGive,
        &[unstarted, 0, 0],
        1,
        None,
        Some(fixture.weak_object.get()),
    );

    let thread = Some(fixture.weak_thread.get());
    add(N::ThreadControl, &[0, 1, 16], 0, Some(object), thread);
    add(N::ThreadControl, &[0, 2, 1], 0, Some(object), thread);
    add(N::ThreadWait, &[0, 0], 0, Some(object), thread);
    add(N::VirqPost, &[0, 1], 0, Some(object), thread);

    add(N::HandleClose, &[0], 0, None, None);
    add(
        N::HandleDuplicate,
        &[0, 0],
        0,
        None,
        Some(fixture.weak_object.get()),
    );
    add(N::HandleInfo, &[0, good], 0, None, None);

    let vmspace = Some(fixture.weak_vmspace.get());
    add(N::VmspaceDestroy, &[0], 0, Some(object), vmspace);
    add(N::VmspaceCtl, &[0, 1, good], 0, Some(object), vmspace);
    add(N::VmspaceMmap, &[0, good], 0, Some(object), vmspace);
    add(N::VmspaceMunmap, &[0, 0x1_0000, 4096], 0, Some(object), vmspace);
    add(
        N::VmspaceMprotect,
        &[0, 0x1_0000, 4096, 1],
        0,
        Some(object),
        vmspace,
    );
    add(
        N::VmspaceMcontrol,
        &[0, 0x1_0000, 4096, 10, 0],
        0,
        Some(object),
        vmspace,
    );
    add(
        N::VmspaceMinherit,
        &[0, 0x1_0000, 4096, 2],
        0,
        Some(object),
        vmspace,
    );
    let own = u64::from(fixture.own_vmspace.get().0);
    let empty = u64::from(fixture.few_pages.get().0);
    add(N::VmspaceFork, &[0, empty], 0, Some(object), vmspace);
    add(N::VmspaceFork, &[own, 0], 1, Some(object), vmspace);
    add(N::VmspacePread, &[0, good, 8, 0x1_0000], 0, Some(object), vmspace);
    add(
        N::VmspacePwrite,
        &[0, good, 8, 0x1_0000],
        0,
        Some(object),
        vmspace,
    );

    add(N::VmspaceEntries, &[0, 0, good, 1], 0, Some(object), vmspace);

    add(
        N::ChannelCall,
        &[0, 1],
        0,
        Some(object),
        Some(fixture.weak_client.get()),
    );
    add(
        N::ChannelReceive,
        &[0, 0],
        0,
        Some(client),
        Some(fixture.weak_server.get()),
    );
    add(N::ChannelReply, &[0, 0], 0, Some(client), None);

    add(
        N::InterruptBind,
        &[0, u64::from(Handle::SELF_THREAD.0), 0],
        0,
        Some(object),
        None,
    );
    add(N::InterruptAcknowledge, &[0], 0, Some(object), None);
    add(N::PortRead, &[0, 0, 1], 0, Some(object), None);
    add(N::PortWrite, &[0, 0, 1, 0], 0, Some(object), None);

    let system = Some(fixture.weak_system.get());
    add(N::ProcessList, &[0, good, 1], 0, Some(object), system);
    add(N::ProcessOpen, &[0, 1], 0, Some(object), system);
    add(N::VmspaceCreate, &[0], 0, Some(object), system);
    add(N::CountersRead, &[0, FOREVER, good, 8], 0, Some(object), system);
    add(N::VmmInfo, &[0, 0, good], 0, Some(object), system);
    add(N::LogRead, &[0, 0, good, 1024], 0, Some(object), system);
    add(N::Power, &[0, 1, 99], 0, Some(object), system);
    add(N::BootModule, &[0, 0, good], 0, Some(object), system);
    add(N::DeviceOpen, &[0, 2, 0x2f8, 8], 0, Some(object), system);

    takers.push(Taker {
        number: N::Mmap,
        arguments: [0, 4096, 1, 1, 0, 0].to_vec(),
        place: 4,
        wrong_kind: Some(client),
        weak: Some(fixture.weak_object.get()),
        refusal: &[Errno::EACCES],
    });
    takers
}
