//! A process: a vmspace, handles and threads that live and end together.

use super::{Exception, HandleTable, Thread, table};
use crate::debug::counters;
use crate::sched::{self, Schedulable, State, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::vm::Vmspace;
use crate::vmm::{GuestProcess, new_guest_process};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{MAX_NAME, MAX_THREADS};
use dragonet_abi::process as abi;
use dragonet_abi::process::{ProcessInfo, WaitStatus};
use dragonet_abi::{Errno, Rights};
use spin::Once;

/// A process.
pub struct Process {
    id: u64,
    parent: u64,
    name: [u8; MAX_NAME],
    vmspace: Arc<Vmspace>,
    handles: HandleTable,
    life: SpinLock<Life>,
    /// Set with `life`, read without it on every return to user mode.
    ending: AtomicBool,
    ended: WaitQueue,
    /// vmspaces that the process made as a vkernel and that still exist.
    pub(super) guest_vmspaces: AtomicU32,
    /// What its threads in guest mode share, once there was one.
    guest: Once<Arc<GuestProcess>>,
}

struct Life {
    stage: Stage,
    threads: Vec<Arc<Thread>>,
    /// Started and not yet reaped; a thread leaves `threads` only when it is gone.
    cpu_time_of_ended: u64,
}

enum Stage {
    New,
    Running,
    Ending(WaitStatus),
    Ended(WaitStatus),
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static ALIVE: AtomicU32 = AtomicU32::new(0);

/// Processes that have not been freed.
pub fn processes_alive() -> u32 {
    ALIVE.load(Ordering::Relaxed)
}

impl Process {
    /// A process without threads and without limits.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(name: [u8; MAX_NAME], parent: u64) -> Result<Arc<Self>, Errno> {
        let process = Arc::new(Process {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            parent,
            name,
            vmspace: Vmspace::new()?,
            handles: HandleTable::new(),
            life: SpinLock::new(
                Rank::Process,
                Life {
                    stage: Stage::New,
                    threads: Vec::new(),
                    cpu_time_of_ended: 0,
                },
            ),
            ending: AtomicBool::new(false),
            ended: WaitQueue::new(),
            guest_vmspaces: AtomicU32::new(0),
            guest: Once::new(),
        });
        ALIVE.fetch_add(1, Ordering::Relaxed);
        table::add(&process);
        Ok(process)
    }

    /// A process that this one creates, with the same limits.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new_child(&self, name: [u8; MAX_NAME]) -> Result<Arc<Self>, Errno> {
        let child = Self::new(name, self.id)?;
        child.vmspace.account().inherit(self.vmspace.account());
        Ok(child)
    }

    /// Process id, never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name, without its padding.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|&byte| byte == 0).unwrap_or(MAX_NAME);
        core::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }

    /// The address space.
    pub fn vmspace(&self) -> &Arc<Vmspace> {
        &self.vmspace
    }

    /// What its threads in guest mode share.
    pub fn guest(&self) -> &Arc<GuestProcess> {
        self.guest.call_once(new_guest_process)
    }

    /// The handle table.
    pub fn handles(&self) -> &HandleTable {
        &self.handles
    }

    /// True once the process is being killed or has called exit.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// True before the first thread is started.
    pub fn is_new(&self) -> bool {
        matches!(self.life.lock().stage, Stage::New)
    }

    /// Adds a thread, which the caller makes ready.
    ///
    /// # Errors
    /// ESRCH when the process is ending; EBUSY when `first` and it has been started, EINVAL when not `first` and it has not; EAGAIN
    /// at the limit of threads.
    pub(super) fn add_thread(&self, thread: &Arc<Thread>, first: bool) -> Result<(), Errno> {
        let mut life = self.life.lock();
        match life.stage {
            Stage::New if first => {}
            Stage::Running if first => return Err(Errno::EBUSY),
            Stage::New => return Err(Errno::EINVAL),
            Stage::Running => {}
            Stage::Ending(_) | Stage::Ended(_) => return Err(Errno::ESRCH),
        }
        if life.threads.len() >= MAX_THREADS {
            return Err(Errno::EAGAIN);
        }
        life.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if first {
            life.stage = Stage::Running;
        }
        life.threads.push(thread.clone());
        Ok(())
    }

    /// Begins the end of the process; the first call decides the status. Returns at once: each thread leaves at its next return
    /// to user mode, waiting ones are woken.
    pub fn end(&self, status: WaitStatus) {
        let was_new = {
            let mut life = self.life.lock();
            let was_new = match life.stage {
                Stage::New => true,
                Stage::Running => false,
                Stage::Ending(_) | Stage::Ended(_) => return,
            };
            life.stage = Stage::Ending(status);
            was_new
        };
        self.ending.store(true, Ordering::Release);
        if was_new {
            // No thread will come to do it.
            self.finish();
            return;
        }
        // One after the other by ascending id, since they go meanwhile, and without memory for a list. None is added any more.
        let mut last = 0;
        while let Some(thread) = self.thread_after(last) {
            last = thread.id();
            let thread: Arc<dyn Schedulable> = thread;
            sched::unpark(&thread);
            sched::reschedule_request(&*thread);
        }
    }

    /// The thread with the lowest id above `id`.
    fn thread_after(&self, id: u64) -> Option<Arc<Thread>> {
        let life = self.life.lock();
        let later = life.threads.iter().filter(|thread| thread.id() > id);
        later.min_by_key(|thread| thread.id()).cloned()
    }

    /// Ends the process because of an exception that nobody handles, and says so.
    pub fn end_by_exception(&self, exception: Exception) {
        log::warn!("process {} ({}) ended: {exception}", self.id, self.name());
        self.end(WaitStatus {
            reason: abi::ENDED_EXCEPTION,
            status: u32::from(exception.vector),
            address: exception.address,
            error_code: exception.error_code,
            instruction: exception.instruction,
        });
    }

    /// Ends the process because a guest of it cannot go on; why is in the log already.
    pub fn end_with_guest(&self, instruction: u64) {
        log::warn!(
            "process {} ({}) ended: its guest cannot go on",
            self.id,
            self.name()
        );
        self.end(WaitStatus {
            reason: abi::ENDED_GUEST,
            instruction,
            ..WaitStatus::default()
        });
    }

    /// Ends the process because there is no frame for a page that it touched.
    pub fn end_without_memory(&self, address: u64) {
        log::warn!(
            "process {} ({}) ended: no memory for the page at {address:#x}",
            self.id,
            self.name()
        );
        self.end(WaitStatus {
            reason: abi::ENDED_NO_MEMORY,
            address,
            ..WaitStatus::default()
        });
    }

    /// A thread is gone: it runs nowhere and will not run again. With the last one everything the process owns is given back.
    pub(super) fn thread_gone(&self, thread: Arc<Thread>) {
        let last = {
            let mut life = self.life.lock();
            life.cpu_time_of_ended += thread.task().cpu_time();
            life.threads.retain(|other| other.id() != thread.id());
            if life.threads.is_empty() && matches!(life.stage, Stage::Running) {
                // The last thread left by itself.
                life.stage = Stage::Ending(WaitStatus {
                    reason: abi::ENDED_EXIT,
                    ..WaitStatus::default()
                });
                self.ending.store(true, Ordering::Release);
            }
            life.threads.is_empty()
        };
        thread.note_gone();
        drop(thread);
        if last {
            self.finish();
        }
    }

    fn finish(&self) {
        self.handles.close_all();
        // For good: others may have handles of it.
        self.vmspace.close();
        counters::count(Counter::ProcessExit);
        {
            let mut life = self.life.lock();
            if let Stage::Ending(status) = life.stage {
                life.stage = Stage::Ended(status);
            }
        }
        self.ended.wake_all();
    }

    /// Waits for the end of the process and everything it owned.
    ///
    /// # Errors
    /// ETIMEDOUT, EINTR.
    pub fn wait(&self, deadline: u64, waiter: &Thread) -> Result<WaitStatus, Errno> {
        self.ended.wait(
            deadline,
            || waiter.interrupted(),
            || match self.life.lock().stage {
                Stage::Ended(status) => Some(status),
                _ => None,
            },
        )
    }

    /// The process as `process_list` shows it.
    pub fn info(&self) -> ProcessInfo {
        let (state, threads, cpu_time) = {
            let life = self.life.lock();
            let waiting = life
                .threads
                .iter()
                .all(|thread| thread.task().state() == State::Waiting);
            let state = match life.stage {
                Stage::New => abi::STATE_NEW,
                Stage::Running if waiting => abi::STATE_WAITING,
                Stage::Running => abi::STATE_RUNNING,
                Stage::Ending(_) => abi::STATE_ENDING,
                Stage::Ended(_) => abi::STATE_ENDED,
            };
            let live: u64 = life.threads.iter().map(|thread| thread.task().cpu_time()).sum();
            (state, life.threads.len() as u32, life.cpu_time_of_ended + live)
        };
        let memory = self.vmspace.statistics();
        ProcessInfo {
            id: self.id,
            parent: self.parent,
            threads,
            handles: self.handles.len(),
            resident_pages: memory.resident_pages,
            table_pages: memory.table_pages,
            cpu_time,
            state,
            vmspaces: self.guest_vmspaces.load(Ordering::Relaxed),
            name: self.name,
        }
    }

    /// All rights that a creator gets on its process.
    pub const RIGHTS: Rights = Rights::WAIT
        .union(Rights::KILL)
        .union(Rights::MANAGE)
        .union(Rights::READ)
        .union(Rights::WRITE)
        .union(Rights::DUPLICATE)
        .union(Rights::TRANSFER);
}

impl Drop for Process {
    fn drop(&mut self) {
        table::remove(self.id);
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
