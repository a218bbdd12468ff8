//! Threads of this program.
//!
//! A thread's stack lies where the kernel places mappings, below 64 GiB, so that the thread may later become a guest
//! thread. It takes memory as it grows; a guard below it catches overflows. Stacks of threads that were joined are unmapped at once, those of
//! detached threads when a later thread is started.

use crate::memory::Mapping;
use crate::sync::Mutex;
use crate::{OwnedHandle, syscall};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ptr;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Handle};

/// Bytes of a thread's stack, unless asked otherwise.
pub const DEFAULT_STACK_SIZE: u64 = 64 * 1024;

/// Detached threads whose stacks are not yet unmapped.
static DETACHED: Mutex<Vec<Running>> = Mutex::new(Vec::new());

/// A thread that may still run, and its stack.
struct Running {
    handle: OwnedHandle,
    stack: ManuallyDrop<Mapping>,
}

impl Running {
    /// Waits for the thread and unmaps its stack; gives itself back if the thread still runs after `timeout`.
    fn reap(mut self, timeout: u64) -> Result<(), Self> {
        loop {
            match syscall::thread_wait(self.handle.get(), timeout) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(_) => return Err(self),
            }
        }
        // SAFETY: the thread has ended, so nobody uses the stack, and `self` is not used again.
        unsafe { ManuallyDrop::drop(&mut self.stack) };
        Ok(())
    }
}

/// How a thread is to be started.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    stack_size: u64,
    affinity: u64,
}

impl Builder {
    /// The defaults: [`DEFAULT_STACK_SIZE`], the creator's CPUs.
    #[must_use]
    pub const fn new() -> Self {
        Builder {
            stack_size: DEFAULT_STACK_SIZE,
            affinity: 0,
        }
    }

    /// Bytes of the stack.
    #[must_use]
    pub const fn stack_size(self, bytes: u64) -> Self {
        Builder {
            stack_size: bytes,
            ..self
        }
    }

    /// Mask of CPUs on which the thread may run; 0 = the creator's.
    #[must_use]
    pub const fn affinity(self, mask: u64) -> Self {
        Builder {
            affinity: mask,
            ..self
        }
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// `ENOMEM`, `EMFILE`, `EAGAIN` at the limit of threads, `EINVAL` for an affinity without a CPU.
    pub fn spawn<T: Send + 'static>(
        self,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Errno> {
        reap_detached();
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        let task: Task = Box::new(move || *place.lock() = Some(function()));
        // Twice boxed: a pointer to a trait object does not fit into one register.
        let argument = Box::into_raw(Box::new(task));

        match start(self, argument.expose_provenance() as u64) {
            Ok(running) => Ok(JoinHandle {
                running: Some(running),
                result,
            }),
            Err(errno) => {
                // SAFETY: the thread does not exist, so the task is still ours.
                drop(unsafe { Box::from_raw(argument) });
                Err(errno)
            }
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// A stack and what is to be done on it, for a thread that does not begin in this process but in a copy of its memory. Dropping it frees
/// both here.
pub(crate) struct Beginning {
    stack: Mapping,
    task: *mut Task,
}

impl Beginning {
    pub(crate) fn new(function: impl FnOnce() + Send + 'static) -> Result<Self, Errno> {
        let stack = Mapping::stack(DEFAULT_STACK_SIZE)?;
        let task = Box::into_raw(Box::new(Box::new(function) as Task));
        Ok(Beginning { stack, task })
    }

    /// First instruction, stack pointer and argument.
    pub(crate) fn registers(&self) -> (u64, u64, u64) {
        let top = self.stack.address() + self.stack.length();
        let entry = thread_entry as *const () as u64;
        (entry, top, self.task.expose_provenance() as u64)
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        // SAFETY: `new` made the pointer; only a thread in another address space takes the task over, and there it is a copy.
        drop(unsafe { Box::from_raw(self.task) });
    }
}

fn start(builder: Builder, argument: u64) -> Result<Running, Errno> {
    let stack = Mapping::stack(builder.stack_size)?;
    let top = stack.address() + stack.length();
    // SAFETY: `thread_entry` takes a task as its argument and does not return; the stack is the thread's until it is reaped.
    let handle =
        unsafe { syscall::thread_create(thread_entry as *const () as u64, top, argument, builder.affinity)? };
    Ok(Running {
        handle,
        stack: ManuallyDrop::new(stack),
    })
}

/// Where a thread begins.
#[unsafe(naked)]
unsafe extern "C" fn thread_entry() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp", // ends the chain of frames that a backtrace follows
        "and rsp, -16",
        "call {run}",
        "ud2",
        run = sym run,
    )
}

extern "C" fn run(argument: usize) -> ! {
    // SAFETY: `spawn` made the pointer with `Box::into_raw` for this thread alone.
    let task = unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Task>(argument)) };
    task();
    syscall::thread_exit()
}

/// Unmaps the stacks of detached threads that have ended.
fn reap_detached() {
    let mut detached = DETACHED.lock();
    let all = core::mem::take(&mut *detached);
    detached.extend(all.into_iter().filter_map(|running| running.reap(0).err()));
}

/// Starts a thread with the defaults.
///
/// # Errors
/// As for [`Builder::spawn`].
pub fn spawn<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Errno> {
    Builder::new().spawn(function)
}

/// A thread that was started. Dropping it lets the thread go on by itself.
pub struct JoinHandle<T> {
    /// `None` once joined.
    running: Option<Running>,
    result: Arc<Mutex<Option<T>>>,
}

impl<T> JoinHandle<T> {
    /// The thread's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.running
            .as_ref()
            .map_or(Handle::NONE, |running| running.handle.get())
    }

    /// Waits until the thread has ended and returns its result.
    ///
    /// `None` if the thread ended itself by [`syscall::thread_exit`].
    #[must_use]
    pub fn join(mut self) -> Option<T> {
        if let Some(running) = self.running.take()
            && let Err(running) = running.reap(FOREVER)
        {
            DETACHED.lock().push(running);
        }
        self.result.lock().take()
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            DETACHED.lock().push(running);
        }
    }
}

/// Lets other threads run.
pub fn yield_now() {
    syscall::thread_yield();
}

/// Id of the calling thread.
#[must_use]
pub fn current_id() -> u64 {
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::GetId, 0).unwrap_or(0)
}

/// Index of the CPU that the caller is on at this moment.
#[must_use]
pub fn current_cpu() -> u64 {
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::GetCpu, 0).unwrap_or(0)
}
