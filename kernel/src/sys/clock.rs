//! System calls on time and on words to sleep on.

use super::{Call, deadline_after};
use crate::arch::clock;
use crate::ipc::umtx;
use crate::sched::{self, Schedulable};
use dragonet_abi::Errno;
use dragonet_abi::time::Clock;

/// `umtx_sleep(word, expected, timeout)`.
pub fn umtx_sleep(call: &Call) -> Result<u64, Errno> {
    let expected = u32::try_from(call.argument(1)).map_err(|_| Errno::EINVAL)?;
    umtx::sleep(
        call.thread,
        call.argument(0),
        expected,
        deadline_after(call.argument(2)),
    )
    .map(|()| 0)
}

/// `umtx_wakeup(word, count)`.
pub fn umtx_wakeup(call: &Call) -> Result<u64, Errno> {
    umtx::wakeup(call.thread, call.argument(0), call.argument(1))
}

/// `clock_get(clock)`.
pub fn get(call: &Call) -> Result<u64, Errno> {
    match Clock::from_number(call.argument(0)).ok_or(Errno::EINVAL)? {
        Clock::Monotonic => Ok(clock::now()),
        Clock::Realtime => Ok(clock::realtime_at_boot() + clock::now()),
        Clock::ThreadCpu => Ok(call.thread.task().cpu_time_now()),
    }
}

/// `sleep_until(deadline)`.
pub fn sleep_until(call: &Call) -> Result<u64, Errno> {
    let deadline = call.argument(0);
    while clock::now() < deadline {
        call.thread.interrupted()?;
        sched::park(deadline);
    }
    Ok(0)
}
