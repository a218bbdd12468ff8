//! System calls on threads.

use super::{Call, deadline_after};
use crate::arch::segments;
use crate::arch::trap::TrapFrame;
use crate::proc::{Thread, current_cpu};
use crate::sched::{self, Schedulable};
use dragonet_abi::process::{PRIORITIES, ThreadControl};
use dragonet_abi::{Errno, Rights};

/// `thread_create(entry, stack, argument, affinity)`.
pub fn create(call: &Call) -> Result<u64, Errno> {
    let (entry, stack, affinity) = (call.argument(0), call.argument(1), call.argument(3));
    super::process::check_start(entry, stack)?;
    let affinity = if affinity == 0 {
        call.thread.task().affinity()
    } else {
        affinity
    };
    check_affinity(affinity)?;
    let frame = TrapFrame::new_user(entry, stack, call.argument(2));
    let thread = Thread::new(call.process(), frame, call.thread.task().priority(), affinity)?;
    super::process::start_with_handle(call, &thread, false)
}

fn check_affinity(mask: u64) -> Result<(), Errno> {
    if mask & sched::online_mask() != 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// `thread_exit()`: takes effect at the return to user mode.
pub fn exit(call: &Call) -> u64 {
    call.thread.exit();
    0
}

/// `thread_control(thread, operation, value)`.
pub fn control(call: &Call) -> Result<u64, Errno> {
    let operation = ThreadControl::from_number(call.argument(1)).ok_or(Errno::EINVAL)?;
    let value = call.argument(2);
    let rights = match operation {
        ThreadControl::SetPriority | ThreadControl::SetAffinity => Rights::MANAGE,
        _ => Rights::READ,
    };
    let thread = call.thread_object(0, rights)?;
    let own = thread.id() == call.thread.id();
    match operation {
        ThreadControl::SetPriority => {
            let priority = u8::try_from(value)
                .ok()
                .filter(|&priority| usize::from(priority) < PRIORITIES);
            thread.task().set_priority(priority.ok_or(Errno::EINVAL)?);
            sched::reconsider(&*thread);
            Ok(0)
        }
        ThreadControl::SetAffinity => {
            check_affinity(value)?;
            thread.task().set_affinity(value);
            if own {
                sched::move_if_needed();
            } else {
                sched::reconsider(&*thread);
            }
            Ok(0)
        }
        ThreadControl::SetFsBase | ThreadControl::SetGsBase => {
            if !own || value >= 1 << 47 {
                return Err(Errno::EINVAL);
            }
            let (fs, gs) = segments::user_bases();
            if operation == ThreadControl::SetFsBase {
                segments::set_user_bases(value, gs);
            } else {
                segments::set_user_bases(fs, value);
            }
            Ok(0)
        }
        ThreadControl::GetId => Ok(thread.id()),
        ThreadControl::GetCpu if own => Ok(current_cpu()),
        ThreadControl::GetCpu => Ok(thread.task().cpu() as u64),
        ThreadControl::GetCpuTime => Ok(thread.task().cpu_time()),
    }
}

/// `thread_yield()`.
pub fn yield_now() -> u64 {
    sched::yield_now();
    0
}

/// `thread_wait(thread, timeout)`.
pub fn wait(call: &Call) -> Result<u64, Errno> {
    let thread = call.thread_object(0, Rights::WAIT)?;
    if thread.id() == call.thread.id() {
        return Err(Errno::EINVAL);
    }
    thread.wait(deadline_after(call.argument(1)), call.thread)?;
    Ok(0)
}
