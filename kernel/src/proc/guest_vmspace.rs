//! A vmspace that is named by a handle: a vkernel runs its users in it, a parent fills its child's.

use super::Process;
use crate::vm::Vmspace;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::{Errno, Rights};

/// A vmspace by handle.
pub struct GuestVmspace {
    vmspace: Arc<Vmspace>,
    /// Threads that run in it now, or [`DESTROYED`].
    running: AtomicU32,
    /// The vkernel that created it; none for the vmspace of a process.
    creator: Option<Weak<Process>>,
}

/// In place of the count of threads that run in it: none ever will.
const DESTROYED: u32 = u32::MAX;

impl GuestVmspace {
    /// A new, empty vmspace for users of the vkernel `creator`, who pays for what is in it.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(creator: &Arc<Process>) -> Result<Arc<Self>, Errno> {
        let vmspace = Vmspace::charged_to(creator.vmspace().account().clone())?;
        creator.guest_vmspaces.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(GuestVmspace {
            vmspace,
            running: AtomicU32::new(0),
            creator: Some(Arc::downgrade(creator)),
        }))
    }

    /// The vmspace of a process, to be filled by another.
    pub fn of_process(process: &Process) -> Arc<Self> {
        Arc::new(GuestVmspace {
            vmspace: process.vmspace().clone(),
            running: AtomicU32::new(0),
            creator: None,
        })
    }

    /// The address space.
    ///
    /// # Errors
    /// EBADF once it has been destroyed.
    pub fn vmspace(&self) -> Result<&Arc<Vmspace>, Errno> {
        if self.running.load(Ordering::Acquire) == DESTROYED {
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
        self.running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running != DESTROYED).then(|| running + 1)
            })
            .map(|_| ())
            .map_err(|_| Errno::EBADF)
    }

    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Empties it for good.
    ///
    /// # Errors
    /// EBUSY while a thread runs in it; EINVAL for the vmspace of a process; EBADF the second time.
    pub fn destroy(&self) -> Result<(), Errno> {
        if self.creator.is_none() {
            return Err(Errno::EINVAL);
        }
        // In one step, so that a refused call is seen by nobody.
        match self
            .running
            .compare_exchange(0, DESTROYED, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => self.vmspace.clear(),
            Err(DESTROYED) => return Err(Errno::EBADF),
            Err(_) => return Err(Errno::EBUSY),
        }
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
        if let Some(creator) = self.creator.as_ref().and_then(Weak::upgrade) {
            creator.guest_vmspaces.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
