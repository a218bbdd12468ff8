//! The end of threads and processes: what others wait for is told, what was owned is freed, the parent hears of it.

use crate::kernel::kernel;
use crate::linux::flags::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use crate::linux::signal::{CLD_EXITED, CLD_KILLED, SIGCHLD};
use crate::linux::structures::RobustListHead;
use crate::memory::fault::Access;
use crate::memory::{AddressSpace, copy::WordKey};
use crate::process::futex::ANY;
use crate::process::{ExitStatus, Process, Task};
use crate::signal::{Detail, Notice};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Entries of a robust list that are looked at; a longer one is a loop.
const MOST_ROBUST_ENTRIES: usize = 2048;

impl Task {
    /// Ends the thread. The caller returns from the thread's body right after.
    pub fn finish(self) {
        let Task {
            thread,
            process,
            space,
            files,
            clear_child_tid,
            robust_list,
            ..
        } = self;
        if robust_list != 0 {
            release_robust_mutexes(&space, robust_list, thread.id());
        }
        if clear_child_tid != 0 && space.write(clear_child_tid, &0_u32).is_ok() {
            wake_word(&space, clear_child_tid, 1);
        }
        // Memory and files go before anyone is told: who waits for the end finds pipes closed and frames free.
        drop(space);
        drop(files);
        kernel().processes().lock().remove_thread(thread.id());
        let last = process.remove_thread(&thread);
        process.release_parent_memory_if(last);
        if last {
            end_process(&process);
        }
    }
}

impl Process {
    /// A thread has ended; if it was the last, so has whatever the process shared with a `vfork` parent.
    fn release_parent_memory_if(&self, last: bool) {
        if last {
            self.release_parent_memory();
        } else {
            self.thread_events.notify();
        }
    }
}

/// The last thread is gone.
fn end_process(process: &Arc<Process>) {
    let status = process.exit_status().unwrap_or(ExitStatus::Code(0));
    if process.id == 1 {
        kernel().shut_down(status.shell_status());
    }
    let parent = {
        let mut table = kernel().processes().lock();
        for other in table.all() {
            if other.parent.load(Ordering::Relaxed) == process.id {
                other.parent.store(1, Ordering::Relaxed);
                // The first process expects no other.
                other.exit_signal.store(SIGCHLD, Ordering::Relaxed);
                if other.ended().is_some() {
                    // Nobody is told of it any more, as nobody waits for children of others.
                    table.remove_process(other.id);
                }
            }
        }
        let parent = table.process(process.parent.load(Ordering::Relaxed));
        let unwanted = parent
            .as_ref()
            .is_none_or(|parent| parent.actions().discards_children());
        if unwanted {
            table.remove_process(process.id);
        }
        process.mark_ended(status);
        parent
    };
    if let Some(parent) = parent {
        let signal = process.exit_signal.load(Ordering::Relaxed);
        if signal != 0 {
            let (code, value) = match status {
                ExitStatus::Code(code) => (CLD_EXITED, i32::from(code)),
                ExitStatus::Signal(signal) => (CLD_KILLED, i32::from(signal)),
            };
            parent.send(Notice {
                signal,
                code,
                detail: Detail::Child(process.id, value),
            });
        }
        parent.child_events.notify();
    }
}

/// Wakes threads that wait on a word.
pub fn wake_word(space: &AddressSpace, address: u64, count: usize) {
    let key: Result<WordKey, _> = space.with_word(address, Access::Read, |_, key| key);
    if let Ok(key) = key {
        for thread in kernel().futexes().wake(key, count, ANY) {
            thread.wake();
        }
    }
}

/// Marks the mutexes that a dead thread held, so that others can take them (set_robust_list(2)).
fn release_robust_mutexes(space: &AddressSpace, head: u64, thread: u32) {
    let Ok(list) = space.read::<RobustListHead>(head) else {
        return;
    };
    let release = |entry: u64| {
        // The lowest bit marks priority inheritance, which there is none of.
        let address = (entry & !1).wrapping_add_signed(list.offset);
        let died = space.with_word(address, Access::Write, |word, _| {
            let owned = |value: u32| {
                (value & FUTEX_TID_MASK == thread).then_some(value & FUTEX_WAITERS | FUTEX_OWNER_DIED)
            };
            word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, owned)
                .unwrap_or(0)
        });
        if died.is_ok_and(|old| old & FUTEX_WAITERS != 0) {
            wake_word(space, address, 1);
        }
    };
    let mut entry = list.first;
    for _ in 0..MOST_ROBUST_ENTRIES {
        if entry & !1 == head {
            break;
        }
        let Ok(next) = space.read::<u64>(entry & !1) else {
            break;
        };
        if entry != list.pending {
            release(entry);
        }
        entry = next;
    }
    if list.pending != 0 {
        release(list.pending);
    }
}
