//! Numbers out of their range: absurd sizes, wrong flags, registers that no program can have. Long because it is a table.

use crate::Cases;
use crate::fixture::Fixture;
use alloc::string::String;
use dragonet_abi::layout::{MAX_OBJECT_SIZE, PAGE_SIZE, USER_END};
use dragonet_abi::memory::{MapFlags, Protection};
use dragonet_abi::virtual_interrupt::InterruptFrame;
use dragonet_abi::vmspace::{RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle, SyscallNumber as N};

const INVALID: &[Errno] = &[Errno::EINVAL];
/// For sizes: too large for the machine and out of every range are both fair answers.
const TOO_LARGE: &[Errno] = &[Errno::EINVAL, Errno::ENOMEM, Errno::ERANGE];
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;
const KERNEL: u64 = 0xffff_ffff_8000_0000;

pub fn add(fixture: &Fixture, cases: &mut Cases) {
    mappings(fixture, cases);
    reserved(fixture, cases);
    other_memory(fixture, cases);
    processes_and_threads(fixture, cases);
    registers(fixture, cases);
    events_and_channels(fixture, cases);
    system(fixture, cases);
}

fn mappings(fixture: &Fixture, cases: &mut Cases) {
    let mut mmap = |name: &str, arguments: [u64; 6], expected| {
        cases.add(alloc::format!("Mmap {name}"), N::Mmap, &arguments, expected);
    };
    let read = u64::from(Protection::READ.bits());
    let write = u64::from(Protection::WRITE.bits());
    let execute = u64::from(Protection::EXECUTE.bits());
    let flags = |flags: MapFlags| u64::from(flags.bits());
    let private = flags(MapFlags::PRIVATE | MapFlags::ANONYMOUS);
    let shared = flags(MapFlags::SHARED);
    let fixed = flags(MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED);
    let object = u64::from(fixture.object.get().0);
    let read_only = u64::from(fixture.read_only_object.get().0);

    mmap("length 0", [0, 0, read, private, 0, 0], INVALID);
    mmap(
        "length of everything",
        [0, u64::MAX, read, private, 0, 0],
        TOO_LARGE,
    );
    mmap(
        "length that rounds to 0",
        [0, u64::MAX - 100, read, private, 0, 0],
        TOO_LARGE,
    );
    mmap(
        "length of half of everything",
        [0, 1 << 63, read, private, 0, 0],
        TOO_LARGE,
    );
    mmap(
        "length of user space",
        [0, USER_END, read, private, 0, 0],
        TOO_LARGE,
    );
    mmap("unknown protection", [0, PAGE_SIZE, 8, private, 0, 0], INVALID);
    mmap(
        "64-bit protection",
        [0, PAGE_SIZE, 1 << 32, private, 0, 0],
        INVALID,
    );
    mmap(
        "write without read",
        [0, PAGE_SIZE, write, private, 0, 0],
        INVALID,
    );
    mmap(
        "write and execute",
        [0, PAGE_SIZE, read | write | execute, private, 0, 0],
        INVALID,
    );
    mmap(
        "unknown flags",
        [0, PAGE_SIZE, read, private | 1 << 20, 0, 0],
        INVALID,
    );
    mmap(
        "64-bit flags",
        [0, PAGE_SIZE, read, private | 1 << 40, 0, 0],
        INVALID,
    );
    mmap(
        "neither shared nor private",
        [0, PAGE_SIZE, read, flags(MapFlags::ANONYMOUS), 0, 0],
        INVALID,
    );
    mmap(
        "shared and private",
        [0, PAGE_SIZE, read, private | shared, 0, 0],
        INVALID,
    );
    mmap(
        "anonymous with an object",
        [0, PAGE_SIZE, read, private, object, 0],
        INVALID,
    );
    mmap(
        "unaligned offset",
        [0, PAGE_SIZE, read, shared, object, 1],
        INVALID,
    );
    mmap(
        "offset behind the object",
        [0, PAGE_SIZE, read, shared, object, 1 << 40],
        TOO_LARGE,
    );
    mmap(
        "beyond the object",
        [0, 4 * PAGE_SIZE, read, shared, object, 0],
        TOO_LARGE,
    );
    mmap(
        "offset that wraps",
        [0, 2 * PAGE_SIZE, read, shared, object, !0xfff],
        TOO_LARGE,
    );
    mmap(
        "write to a read-only object",
        [0, PAGE_SIZE, read | write, shared, read_only, 0],
        &[Errno::EACCES],
    );
    mmap(
        "execute a read-only object",
        [0, PAGE_SIZE, read | execute, shared, read_only, 0],
        &[Errno::EACCES],
    );
    let vpagetable = flags(MapFlags::SHARED | MapFlags::VPAGETABLE);
    mmap(
        "page table in a read-only object",
        [0, PAGE_SIZE, read, vpagetable, read_only, 0],
        &[Errno::EACCES, Errno::EINVAL],
    );
    mmap(
        "page table without write",
        [0, PAGE_SIZE, read, vpagetable, object, 0],
        INVALID,
    );
    mmap(
        "page table without an object",
        [0, PAGE_SIZE, read | write, private | 0x2000, 0, 0],
        INVALID,
    );
    mmap(
        "fixed and unaligned",
        [0x10_0001, PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap("fixed at 0", [0, PAGE_SIZE, read, fixed, 0, 0], INVALID);
    mmap(
        "fixed below the first page",
        [0x1000, PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap(
        "fixed at the end of user space",
        [USER_END, PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap(
        "fixed across the end",
        [USER_END - PAGE_SIZE, 2 * PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap(
        "fixed non-canonical",
        [NON_CANONICAL, PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap(
        "fixed in the kernel",
        [KERNEL, PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap(
        "fixed and wrapping",
        [!0xfff, 2 * PAGE_SIZE, read, fixed, 0, 0],
        INVALID,
    );
    mmap(
        "exclusive where something is",
        [fixture.good(), PAGE_SIZE, read, fixed | 0x4000, 0, 0],
        &[Errno::EEXIST],
    );
    for (name, address) in [
        ("unaligned hint", 0x1234_5678),
        ("unaligned hint in the kernel", KERNEL + 1),
        ("unaligned hint at the end of all", u64::MAX),
    ] {
        mmap(name, [address, PAGE_SIZE, read, private, 0, 0], INVALID);
    }
}

/// Reserved addresses: what `GUARD` and `STACK` go with, and what becomes of them.
fn reserved(fixture: &Fixture, cases: &mut Cases) {
    let read = u64::from(Protection::READ.bits());
    let read_write = u64::from((Protection::READ | Protection::WRITE).bits());
    let bits = |flags: MapFlags| u64::from(flags.bits());
    let anonymous = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let guard = anonymous | MapFlags::GUARD;
    let stack = anonymous | MapFlags::STACK;
    let shared = MapFlags::SHARED | MapFlags::ANONYMOUS;
    let of_object = u64::from(fixture.object.get().0);
    let two = 2 * PAGE_SIZE;
    let mut mmap = |name: &str, arguments: [u64; 6], expected| {
        cases.add(alloc::format!("Mmap {name}"), N::Mmap, &arguments, expected);
    };
    mmap(
        "guard that allows something",
        [0, two, read, bits(guard), 0, 0],
        INVALID,
    );
    mmap(
        "shared guard",
        [0, two, 0, bits(shared | MapFlags::GUARD), 0, 0],
        INVALID,
    );
    mmap(
        "guard with an object",
        [
            0,
            PAGE_SIZE,
            0,
            bits(MapFlags::PRIVATE | MapFlags::GUARD),
            of_object,
            0,
        ],
        INVALID,
    );
    mmap(
        "guard that is a stack",
        [0, two, 0, bits(guard | MapFlags::STACK), 0, 0],
        INVALID,
    );
    mmap(
        "guard with a page table",
        [0, two, 0, bits(guard | MapFlags::VPAGETABLE), 0, 0],
        INVALID,
    );
    mmap("guard of length 0", [0, 0, 0, bits(guard), 0, 0], INVALID);
    for (name, protection) in [("nothing", 0), ("loads only", read), ("execution", 5)] {
        let name = alloc::format!("stack that allows {name}");
        mmap(&name, [0, two, protection, bits(stack), 0, 0], INVALID);
    }
    mmap(
        "shared stack",
        [0, two, read_write, bits(shared | MapFlags::STACK), 0, 0],
        INVALID,
    );
    mmap(
        "stack of an object",
        [
            0,
            two,
            read_write,
            bits(MapFlags::PRIVATE | MapFlags::STACK),
            of_object,
            0,
        ],
        INVALID,
    );
    mmap(
        "stack with a page table",
        [0, two, read_write, bits(stack | MapFlags::VPAGETABLE), 0, 0],
        INVALID,
    );
    mmap(
        "stack that is all guard",
        [0, PAGE_SIZE, read_write, bits(stack), 0, 0],
        INVALID,
    );
    for (name, address) in [
        ("guard", fixture.guard()),
        ("stack's guard", fixture.stack_guard()),
        ("stack that has not grown", fixture.ungrown()),
    ] {
        let exclusive = anonymous | MapFlags::FIXED | MapFlags::EXCLUSIVE;
        mmap(
            &alloc::format!("exclusive in a {name}"),
            [address, PAGE_SIZE, read, bits(exclusive), 0, 0],
            &[Errno::EEXIST],
        );
    }
    let own = u64::from(fixture.own_vmspace.get().0);
    for (name, address) in [
        ("guard", fixture.guard()),
        ("stack's guard", fixture.stack_guard()),
        ("stack that has not grown", fixture.ungrown()),
    ] {
        for protection in [0, read, read_write] {
            cases.add(
                alloc::format!("Mprotect {protection} of a {name}"),
                N::Mprotect,
                &[address, PAGE_SIZE, protection],
                &[Errno::EACCES],
            );
            cases.add(
                alloc::format!("VmspaceMprotect {protection} of a {name}"),
                N::VmspaceMprotect,
                &[own, address, PAGE_SIZE, protection],
                &[Errno::EACCES],
            );
        }
        cases.add(
            alloc::format!("Mcontrol SetMap of a {name}"),
            N::Mcontrol,
            &[address, PAGE_SIZE, 11, 0],
            INVALID,
        );
    }
    for (name, address) in [
        ("guard", fixture.guard()),
        ("stack's guard", fixture.stack_guard()),
    ] {
        for number in [N::VmspacePread, N::VmspacePwrite] {
            cases.add(
                alloc::format!("{number:?} of a {name}"),
                number,
                &[own, fixture.good(), 8, address],
                &[Errno::EFAULT],
            );
        }
    }
}

fn other_memory(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: &str, number, arguments: &[u64], expected| {
        cases.add(alloc::format!("{number:?} {name}"), number, arguments, expected);
    };
    let good = fixture.good();
    let ranges = [
        ("unaligned address", good + 1, PAGE_SIZE),
        ("wrapping range", !0xfff, 2 * PAGE_SIZE),
        ("endless range", good, u64::MAX),
        ("kernel range", KERNEL, PAGE_SIZE),
        ("non-canonical range", NON_CANONICAL, PAGE_SIZE),
        ("range across the end", USER_END - PAGE_SIZE, 2 * PAGE_SIZE),
    ];
    let vmspace = u64::from(fixture.vmspace.get().0);
    for (name, address, length) in ranges {
        add(name, N::Munmap, &[address, length], TOO_LARGE);
        add(name, N::Mprotect, &[address, length, 1], TOO_LARGE);
        for advice in [3, 4, 5, 10] {
            add(name, N::Madvise, &[address, length, advice], TOO_LARGE);
        }
        add(name, N::Mcontrol, &[address, length, 10, 0], TOO_LARGE);
        add(name, N::Minherit, &[address, length, 2], TOO_LARGE);
        add(name, N::VmspaceMunmap, &[vmspace, address, length], TOO_LARGE);
        add(
            name,
            N::VmspaceMprotect,
            &[vmspace, address, length, 1],
            TOO_LARGE,
        );
        add(
            name,
            N::VmspaceMcontrol,
            &[vmspace, address, length, 10, 0],
            TOO_LARGE,
        );
        add(
            name,
            N::VmspaceMinherit,
            &[vmspace, address, length, 2],
            TOO_LARGE,
        );
    }
    add(
        "hole",
        N::Mprotect,
        &[fixture.unmapped(), PAGE_SIZE, 1],
        &[Errno::ENOMEM],
    );
    add("unknown protection", N::Mprotect, &[good, PAGE_SIZE, 8], INVALID);
    add("write and execute", N::Mprotect, &[good, PAGE_SIZE, 7], INVALID);
    add("write without read", N::Mprotect, &[good, PAGE_SIZE, 2], INVALID);
    for advice in [0, 1, 2, 6, 7, 8, 9, 12, 99, 1 << 32 | 4, u64::MAX] {
        let name = alloc::format!("unknown advice {advice:#x}");
        add(&name, N::Madvise, &[good, PAGE_SIZE, advice], INVALID);
        add(&name, N::Mcontrol, &[good, PAGE_SIZE, advice, 0], INVALID);
        add(
            &name,
            N::VmspaceMcontrol,
            &[vmspace, good, PAGE_SIZE, advice, 0],
            INVALID,
        );
    }
    add("SetMap", N::Madvise, &[good, PAGE_SIZE, 11], INVALID);
    add(
        "SetMap on ordinary memory",
        N::Mcontrol,
        &[good, PAGE_SIZE, 11, 0],
        INVALID,
    );
    add(
        "Invalidate of ordinary memory",
        N::Madvise,
        &[good, PAGE_SIZE, 10],
        INVALID,
    );
    add("size 0", N::ObjectCreate, &[0], INVALID);
    add(
        "size above the limit",
        N::ObjectCreate,
        &[MAX_OBJECT_SIZE + 1],
        &[Errno::ENOMEM],
    );
    add(
        "size that rounds to 0",
        N::ObjectCreate,
        &[u64::MAX],
        &[Errno::ENOMEM],
    );
    let own = u64::from(fixture.own_vmspace.get().0);
    for (name, address) in [
        ("unmapped", fixture.unmapped()),
        ("null", 0),
        ("kernel", KERNEL),
        ("non-canonical", NON_CANONICAL),
        ("wrapping", u64::MAX),
    ] {
        add(
            &alloc::format!("{name} source"),
            N::VmspacePread,
            &[own, good, 8, address],
            &[Errno::EFAULT],
        );
        add(
            &alloc::format!("{name} target"),
            N::VmspacePwrite,
            &[own, good, 8, address],
            &[Errno::EFAULT],
        );
    }
    add(
        "endless length",
        N::VmspacePread,
        &[own, good, u64::MAX, good],
        &[Errno::EFAULT, Errno::EINVAL],
    );
    add(
        "endless length",
        N::VmspacePwrite,
        &[own, good, u64::MAX, good],
        &[Errno::EFAULT, Errno::EINVAL],
    );
}

fn processes_and_threads(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: &str, number, arguments: &[u64], expected| {
        cases.add(alloc::format!("{number:?} {name}"), number, arguments, expected);
    };
    let good = fixture.good();
    let long: &[Errno] = &[Errno::E2BIG, Errno::EINVAL];
    add("long name", N::ProcessCreate, &[good, 33], long);
    add("endless name", N::ProcessCreate, &[good, u64::MAX], long);
    let unstarted = u64::from(fixture.unstarted.get().0);
    let ended = u64::from(fixture.ended.handle().0);
    let (oneself, none): (_, &[Errno]) = (u64::from(Handle::SELF_PROCESS.0), &[Errno::ENOENT]);
    for (name, process, position) in [
        ("of a process without any", unstarted, 0),
        ("of an ended process", ended, 0),
        ("behind the last handle", oneself, 4096),
        ("at a 64-bit position", oneself, 1 << 32),
        ("at the last position", oneself, u64::MAX),
    ] {
        add(name, N::VmspaceList, &[process, position, good], none);
    }
    add(
        "kernel entry",
        N::ProcessStart,
        &[unstarted, KERNEL, good, 0],
        INVALID,
    );
    add(
        "non-canonical entry",
        N::ProcessStart,
        &[unstarted, NON_CANONICAL, good, 0],
        INVALID,
    );
    add(
        "kernel stack",
        N::ProcessStart,
        &[unstarted, good, KERNEL, 0],
        INVALID,
    );
    add(
        "of an ended process",
        N::ProcessStart,
        &[ended, 0x20_0000, good, 0],
        &[Errno::EBUSY, Errno::ESRCH, Errno::EINVAL],
    );
    add(
        "for itself",
        N::ProcessWait,
        &[u64::from(Handle::SELF_PROCESS.0), 0, good],
        INVALID,
    );
    add(
        "rights that the handle lacks",
        N::ProcessGive,
        &[unstarted, u64::from(fixture.read_only_object.get().0), 2],
        &[Errno::EPERM],
    );
    add(
        "unknown rights",
        N::ProcessGive,
        &[unstarted, u64::from(fixture.object.get().0), 1 << 31],
        &[Errno::EINVAL, Errno::EPERM],
    );
    add(
        "unknown id",
        N::ProcessOpen,
        &[u64::from(fixture.system.0), u64::MAX],
        &[Errno::ESRCH],
    );
    add(
        "id 0",
        N::ProcessOpen,
        &[u64::from(fixture.system.0), 0],
        &[Errno::ESRCH],
    );

    add("kernel entry", N::ThreadCreate, &[KERNEL, good, 0, 0], INVALID);
    add(
        "non-canonical entry",
        N::ThreadCreate,
        &[NON_CANONICAL, good, 0, 0],
        INVALID,
    );
    add("kernel stack", N::ThreadCreate, &[good, KERNEL, 0, 0], INVALID);
    add(
        "non-canonical stack",
        N::ThreadCreate,
        &[good, NON_CANONICAL, 0, 0],
        INVALID,
    );
    add("no such CPU", N::ThreadCreate, &[good, good, 0, 1 << 63], INVALID);
    let this = u64::from(Handle::SELF_THREAD.0);
    add("unknown operation", N::ThreadControl, &[this, 99, 0], INVALID);
    add("operation 0", N::ThreadControl, &[this, 0, 0], INVALID);
    add("priority 32", N::ThreadControl, &[this, 1, 32], INVALID);
    add(
        "endless priority",
        N::ThreadControl,
        &[this, 1, u64::MAX],
        INVALID,
    );
    add("no CPU", N::ThreadControl, &[this, 2, 0], INVALID);
    add("no such CPU", N::ThreadControl, &[this, 2, 1 << 63], INVALID);
    add(
        "non-canonical FS",
        N::ThreadControl,
        &[this, 3, NON_CANONICAL],
        INVALID,
    );
    add("kernel FS", N::ThreadControl, &[this, 3, KERNEL], INVALID);
    add(
        "non-canonical GS",
        N::ThreadControl,
        &[this, 4, NON_CANONICAL],
        INVALID,
    );
    add("kernel GS", N::ThreadControl, &[this, 4, KERNEL], INVALID);
    let object = u64::from(fixture.object.get().0);
    add(
        "more rights",
        N::HandleDuplicate,
        &[object, 1 << 16],
        &[Errno::EPERM],
    );
    add(
        "unknown rights",
        N::HandleDuplicate,
        &[object, 1 << 31],
        &[Errno::EINVAL, Errno::EPERM],
    );
    add(
        "64-bit rights",
        N::HandleDuplicate,
        &[object, 1 << 32],
        &[Errno::EINVAL, Errno::EPERM],
    );
}

/// Bad registers for a user of a vmspace and for the return from a virtual interrupt.
fn registers(fixture: &Fixture, cases: &mut Cases) {
    type Change = fn(&mut RegisterFrame);
    let changes: [(&str, Change); 8] = [
        ("non-canonical rip", |registers| registers.rip = NON_CANONICAL),
        ("kernel rip", |registers| registers.rip = KERNEL),
        ("non-canonical rsp", |registers| registers.rsp = NON_CANONICAL),
        ("kernel rsp", |registers| registers.rsp = KERNEL),
        ("non-canonical fs", |registers| registers.fs_base = NON_CANONICAL),
        ("kernel fs", |registers| registers.fs_base = KERNEL),
        ("non-canonical gs", |registers| registers.gs_base = NON_CANONICAL),
        ("kernel gs", |registers| registers.gs_base = KERNEL),
    ];
    let vmspace = u64::from(fixture.vmspace.get().0);
    let good = RegisterFrame {
        rip: 0x20_0000,
        rsp: 0x30_0000,
        ..RegisterFrame::default()
    };
    for (offset, (name, change)) in (0..).step_by(512).zip(changes) {
        let mut registers = good;
        change(&mut registers);
        // The place of each is its own, because the cases are run later. A stack pointer may be any canonical address.
        let state = fixture.run_state(
            &RunState {
                registers,
                ..RunState::default()
            },
            offset,
        );
        cases.add(
            alloc::format!("VmspaceCtl {name}"),
            N::VmspaceCtl,
            &[vmspace, 1, state],
            INVALID,
        );
        let frame = InterruptFrame {
            bits: 0,
            saved_mask: 0,
            registers,
        };
        let frame = fixture.interrupt_frame(&frame, offset + 256);
        cases.add(
            alloc::format!("VirqReturn {name}"),
            N::VirqReturn,
            &[frame],
            INVALID,
        );
    }
    let commands = [0, 2, u64::MAX];
    for command in commands {
        let name = alloc::format!("VmspaceCtl command {command:#x}");
        cases.add(name, N::VmspaceCtl, &[vmspace, command, fixture.good()], INVALID);
    }
}

fn events_and_channels(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: &str, number, arguments: &[u64], expected| {
        cases.add(alloc::format!("{number:?} {name}"), number, arguments, expected);
    };
    // The last words of the good page are never written, so they are 0.
    let word = fixture.good() + PAGE_SIZE - 8;
    add("other value", N::UmtxSleep, &[word, 1, 0], &[Errno::EBUSY]);
    add("no time", N::UmtxSleep, &[word, 0, 0], &[Errno::ETIMEDOUT]);
    add("unaligned word", N::UmtxWakeup, &[word + 2, 1], INVALID);
    for clock in [0, 99, u64::MAX] {
        add(
            &alloc::format!("clock {clock:#x}"),
            N::ClockGet,
            &[clock],
            INVALID,
        );
    }
    add(
        "nothing to wait for",
        N::VirqWait,
        &[0, 0],
        &[Errno::EINVAL, Errno::ETIMEDOUT],
    );
    add("no time", N::VirqWait, &[1 << 63, 0], &[Errno::ETIMEDOUT]);
    add("kernel handler", N::VirqControl, &[KERNEL, 0], INVALID);
    add(
        "non-canonical handler",
        N::VirqControl,
        &[NON_CANONICAL, 0],
        INVALID,
    );
    add("bit 64", N::TimerSet, &[1 << 60, 0, 64], INVALID);
    add("short period", N::TimerSet, &[1 << 60, 99_999, 0], INVALID);

    let client = u64::from(fixture.client.get().0);
    let server = u64::from(fixture.server.get().0);
    add("too many handles", N::ChannelCall, &[client, 7 << 32], INVALID);
    add("reserved bits", N::ChannelCall, &[client, 1 << 36], INVALID);
    add(
        "bad handle in the message",
        N::ChannelCall,
        &[client, 6 << 32, 0, 0, 0, 0],
        &[Errno::EBADF],
    );
    add("no time", N::ChannelReceive, &[server, 0], &[Errno::ETIMEDOUT]);
    add(
        "token that was never given",
        N::ChannelReply,
        &[0x12345, 0],
        &[Errno::EBADF],
    );
}

fn system(fixture: &Fixture, cases: &mut Cases) {
    let mut add = |name: String, number, arguments: &[u64], expected| {
        cases.add(alloc::format!("{number:?} {name}"), number, arguments, expected);
    };
    let system = u64::from(fixture.system.0);
    let good = fixture.good();
    for cpu in [64, 999, u64::MAX - 1] {
        add(
            alloc::format!("CPU {cpu:#x}"),
            N::CountersRead,
            &[system, cpu, good, 1],
            INVALID,
        );
    }
    let text = fixture.put(&[0xff; 8], PAGE_SIZE - 64);
    add(
        "text that is not UTF-8".into(),
        N::LogWrite,
        &[3, text, 8],
        INVALID,
    );
    for level in [0, 6, u64::MAX] {
        add(
            alloc::format!("level {level:#x}"),
            N::LogWrite,
            &[level, good, 1],
            INVALID,
        );
    }
    add(
        "long text".into(),
        N::LogWrite,
        &[3, good, 241],
        &[Errno::E2BIG, Errno::EINVAL],
    );
    add(
        "endless text".into(),
        N::LogWrite,
        &[3, good, u64::MAX],
        &[Errno::E2BIG, Errno::EINVAL, Errno::EFAULT],
    );
    for command in [0, 3, u64::MAX] {
        add(
            alloc::format!("command {command:#x}"),
            N::Power,
            &[system, command, 0],
            INVALID,
        );
    }
}
