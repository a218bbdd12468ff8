//! Exit mode: the CPUs' threads are guests, and the MMU walks the page tables of programs.
//!
//! The host has nothing for a program: not a vmspace, not a handle. A program is the root of its table, in guest-physical addresses, which are
//! addresses of this process. The design record is docs/src/design/vkernel-exit-mode.md.

use crate::linux::Errno;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use dragonet_abi::layout::{USER_END, USER_START};
use dragonet_abi::memory::{Advice, Vpte};
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::RunState;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::syscall;
use dragonet_rt::thread::{Builder, JoinHandle};

/// The thread has not tried to enter guest mode yet.
const NOT_YET: u32 = u32::MAX;
/// It is in guest mode. Any other value is the error.
const ENTERED: u32 = 0;

/// What the CPUs' threads have in common: the page table under which the vkernel itself runs.
pub struct Guest {
    map: IdentityMap,
    has_master: AtomicBool,
}

impl Guest {
    /// A guest without threads.
    pub fn new() -> Result<Self, Errno> {
        Ok(Guest {
            map: IdentityMap::new()?,
            has_master: AtomicBool::new(false),
        })
    }

    /// Starts a thread and waits until it is in guest mode; the first is the master.
    pub fn spawn(
        &'static self,
        builder: Builder,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, Errno> {
        let master = !self.has_master.swap(true, Ordering::Relaxed);
        let outcome = Arc::new(AtomicU32::new(NOT_YET));
        let told = outcome.clone();
        let handle = builder.spawn(move || {
            let tell = |value| {
                told.store(value, Ordering::Release);
                let _ = syscall::umtx_wakeup(&told, 0);
            };
            let entered = self.map.run(master, || {
                tell(ENTERED);
                body();
            });
            if let Err(errno) = entered {
                tell(errno as u32);
            }
        })?;
        loop {
            match outcome.load(Ordering::Acquire) {
                // It returns at once if the value is another one meanwhile; for whatever reason it returns, the value decides.
                NOT_YET => drop(syscall::umtx_sleep(&outcome, NOT_YET, FOREVER)),
                ENTERED => return Ok(handle),
                errno => {
                    dragonet_abi::Errno::decode(-i64::from(errno))?;
                    return Err(Errno::EINVAL);
                }
            }
        }
    }
}

/// A program: the root of its page table.
pub struct Space {
    root: u64,
    has_run: AtomicBool,
}

impl Space {
    /// The program of this root, which nobody has run yet.
    pub fn new(root: Vpte) -> Self {
        Space {
            root: root.offset(),
            has_run: AtomicBool::new(false),
        }
    }

    /// Runs the calling thread, a guest, as the program until something happens.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        if !self.has_run.load(Ordering::Relaxed) {
            self.has_run.store(true, Ordering::Relaxed);
        }
        Ok(syscall::vmm_run_user(self.root, state)?)
    }
}

impl Drop for Space {
    /// The frames of the table are free next, the root among them, which is also the name under which CPUs keep translations: they must
    /// forget all that came from it. No thread runs the program: whoever does so holds the address space. So only the thread that
    /// drops the last one waits, and the host interrupts just the CPUs that are in this guest.
    fn drop(&mut self) {
        if self.has_run.load(Ordering::Relaxed) {
            invalidate(USER_START..USER_END).expect("the host invalidates all of a program's addresses");
        }
    }
}

/// Makes every CPU forget translations of a range of linear addresses, whatever table they came from. The caller is a guest.
pub fn invalidate(range: Range<u64>) -> Result<(), Errno> {
    let length = range.end.saturating_sub(range.start);
    // SAFETY: from a guest it drops translations of the guest's own tables and changes nothing in the process. The vkernel's own table, which
    // maps everything to itself, never changes.
    unsafe { syscall::madvise(range.start, length, Advice::Invalidate) }.map_err(Errno::from)
}
