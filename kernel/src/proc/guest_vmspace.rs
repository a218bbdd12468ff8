//! A vmspace that is named by a handle: a vkernel runs its users in it, a parent fills its child's.

use super::Process;
use crate::vm::Vmspace;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use dragonet_abi::{Errno, Rights};

/// A vmspace by handle.
pub struct GuestVmspace {
    vmspace: Arc<Vmspace>,
    /// Threads that run in it now.
    running: AtomicU32,
    destroyed: AtomicBool,
    /// The vkernel that created it; none for the vmspace of a process.
    creator: Weak<Process>,
}

impl GuestVmspace {
    /// A new, empty vmspace for users of the vkernel `creator`.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(creator: &Arc<Process>) -> Result<Arc<Self>, Errno> {
        let vmspace = Vmspace::new()?;
        creator.guest_vmspaces.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(GuestVmspace {
            vmspace,
            running: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
            creator: Arc::downgrade(creator),
        }))
    }

    /// The vmspace of a process, to be filled by another.
    pub fn of_process(process: &Process) -> Arc<Self> {
        Arc::new(GuestVmspace {
            vmspace: process.vmspace().clone(),
            running: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
            creator: Weak::new(),
        })
    }

    /// The address space.
    ///
    /// # Errors
    /// EBADF once it has been destroyed.
    pub fn vmspace(&self) -> Result<&Arc<Vmspace>, Errno> {
        if self.destroyed.load(Ordering::Acquire) {
            Err(Errno::EBADF)
        } else {
            Ok(&self.vmspace)
        }
    }

    /// The address space, for a thread that is in it.
    pub(super) fn entered(&self) -> &Arc<Vmspace> {
        &self.vmspace
    }

    /// Counts the calling thread as running in it.
    ///
    /// # Errors
    /// EBADF once it has been destroyed.
    pub(super) fn enter(&self) -> Result<(), Errno> {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.destroyed.load(Ordering::SeqCst) {
            self.leave();
            return Err(Errno::EBADF);
        }
        Ok(())
    }

    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Empties it for good.
    ///
    /// # Errors
    /// EBUSY while a thread runs in it; EINVAL for the vmspace of a process; EBADF the second time.
    pub fn destroy(&self) -> Result<(), Errno> {
        if self.creator.strong_count() == 0 {
            return Err(Errno::EINVAL);
        }
        if self.destroyed.swap(true, Ordering::SeqCst) {
            return Err(Errno::EBADF);
        }
        // A thread counts itself before it looks at `destroyed`: either it sees the flag, or we see it here.
        if self.running.load(Ordering::SeqCst) != 0 {
            self.destroyed.store(false, Ordering::SeqCst);
            return Err(Errno::EBUSY);
        }
        self.vmspace.clear();
        Ok(())
    }

    /// Rights that the creator gets.
    pub const RIGHTS: Rights = Rights::MANAGE
        .union(Rights::RUN)
        .union(Rights::READ)
        .union(Rights::WRITE)
        .union(Rights::DUPLICATE)
        .union(Rights::TRANSFER);
}

impl Drop for GuestVmspace {
    fn drop(&mut self) {
        if let Some(creator) = self.creator.upgrade() {
            creator.guest_vmspaces.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
