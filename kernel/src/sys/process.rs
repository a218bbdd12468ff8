//! System calls on processes.

use super::user_slice::read_short;
use super::{Call, deadline_after};
use crate::arch::trap::TrapFrame;
use crate::proc::{self, Entry, GuestVmspace, Object, Process, Thread};
use crate::sched;
use crate::vm::copy;
use alloc::sync::Arc;
use dragonet_abi::layout::{MAX_NAME, USER_END};
use dragonet_abi::process::{
    ENDED_EXIT, ENDED_KILLED, LIMIT_READ, LimitKind, NO_LIMIT, PRIORITY_DEFAULT, ProcessInfo, WaitStatus,
};
use dragonet_abi::{Errno, Rights};

/// `process_create(name, name_length)`.
pub fn create(call: &Call) -> Result<u64, Errno> {
    let bytes = read_short(call.argument(0), call.argument(1), MAX_NAME)?;
    core::str::from_utf8(&bytes).map_err(|_| Errno::EINVAL)?;
    let mut name = [0; MAX_NAME];
    name[..bytes.len()].copy_from_slice(&bytes);
    let process = call.process().new_child(name)?;
    let entry = Entry {
        object: Object::Process(process),
        rights: Process::RIGHTS,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}

/// A first instruction and stack pointer that a user may have.
pub(super) fn check_start(entry: u64, stack: u64) -> Result<(), Errno> {
    if entry < USER_END && stack < 1 << 47 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// `process_start(process, entry, stack, argument)`.
pub fn start(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::MANAGE)?;
    let (entry, stack) = (call.argument(1), call.argument(2));
    check_start(entry, stack)?;
    let frame = TrapFrame::new_user(entry, stack, call.argument(3));
    let thread = Thread::new(&process, frame, PRIORITY_DEFAULT as u8, sched::online_mask())?;
    start_with_handle(call, &thread, true)
}

/// Starts a thread and returns the caller's handle of it. The handle comes first, so that a call that fails has started nothing.
pub(super) fn start_with_handle(call: &Call, thread: &Arc<Thread>, first: bool) -> Result<u64, Errno> {
    let handles = call.process().handles();
    let handle = handles.insert(Entry {
        object: Object::Thread(thread.clone()),
        rights: Thread::RIGHTS,
    })?;
    if let Err(errno) = thread.start(first) {
        drop(handles.take(handle, Rights::empty()));
        return Err(errno);
    }
    Ok(u64::from(handle.0))
}

/// `process_exit(status)`: takes effect at the return to user mode.
pub fn exit(call: &Call) -> u64 {
    let status = (call.argument(0) & 0xff) as u32;
    call.process().end(WaitStatus {
        reason: ENDED_EXIT,
        status,
        ..WaitStatus::default()
    });
    call.thread.exit();
    0
}

/// `process_kill(process, status)`.
pub fn kill(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::KILL)?;
    let status = (call.argument(1) & 0xff) as u32;
    process.end(WaitStatus {
        reason: ENDED_KILLED,
        status,
        ..WaitStatus::default()
    });
    Ok(0)
}

/// `process_wait(process, timeout, *mut WaitStatus)`.
pub fn wait(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::WAIT)?;
    if process.id() == call.process().id() {
        return Err(Errno::EINVAL);
    }
    let status = process.wait(deadline_after(call.argument(1)), call.thread)?;
    copy::write(call.argument(2), &status)?;
    Ok(0)
}

/// `process_vmspace(process)`.
pub fn vmspace(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::MANAGE)?;
    let rights = GuestVmspace::RIGHTS - Rights::RUN;
    let entry = Entry {
        object: Object::Vmspace(GuestVmspace::of_process(&process)),
        rights,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}

/// `process_give(process, handle, rights)`.
pub fn give(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::MANAGE)?;
    let entry = call.entry(1)?;
    let rights = super::handle::rights_of(call.argument(2))?;
    if !entry.rights.contains(rights | Rights::TRANSFER) {
        return Err(Errno::EPERM);
    }
    // Two new processes that hold each other, or one that holds itself, would never be freed: nobody is left to close their
    // handles. A process that has been started closes them when it ends.
    if let Object::Process(given) = &entry.object
        && process.is_new()
        && given.is_new()
    {
        return Err(Errno::EBUSY);
    }
    Ok(u64::from(
        process
            .handles()
            .insert(Entry {
                object: entry.object,
                rights,
            })?
            .0,
    ))
}

/// `process_list(system, *mut ProcessInfo, count)`.
pub fn list(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::INSPECT)?;
    let (address, count) = (call.argument(1), call.argument(2));
    let mut written = 0u64;
    let mut last = 0;
    while written < count
        && let Some(process) = proc::after(last)
    {
        last = process.id();
        let offset = written * size_of::<ProcessInfo>() as u64;
        copy::write(address.checked_add(offset).ok_or(Errno::EFAULT)?, &process.info())?;
        written += 1;
    }
    Ok(written)
}

/// `process_open(system, id)`.
pub fn open(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::OPEN_PROCESS)?;
    let process = proc::by_id(call.argument(1))?;
    let entry = Entry {
        object: Object::Process(process),
        rights: Process::RIGHTS,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}

/// `process_limit(process, kind, value)`.
pub fn limit(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::MANAGE)?;
    let kind = LimitKind::from_number(call.argument(1)).ok_or(Errno::EINVAL)?;
    let account = process.vmspace().account();
    let own = call.process().vmspace().account();
    let (quota, own) = match kind {
        LimitKind::Memory | LimitKind::MemoryUsed => (&account.pages, &own.pages),
        LimitKind::AddressSpace | LimitKind::AddressSpaceUsed => (&account.addresses, &own.addresses),
    };
    let is_limit = matches!(kind, LimitKind::Memory | LimitKind::AddressSpace);
    match call.argument(2) {
        LIMIT_READ if is_limit => Ok(quota.limit()),
        LIMIT_READ => Ok(quota.used()),
        value if !is_limit || value > NO_LIMIT => Err(Errno::EINVAL),
        value if value > own.limit() => Err(Errno::EPERM),
        value => Ok(quota.set_limit(value)),
    }
}
