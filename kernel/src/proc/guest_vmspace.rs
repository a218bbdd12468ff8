//! A vmspace that is named by a handle: a vkernel runs its users in it, a parent fills its child's.
//!
//! Destroying one takes effect at once for whoever wants to use it, and empties it when the last thread has left it. Why nothing
//! stays in it and nothing is used after that is argued in docs/src/design/run.md.

use super::{Object, Process};
use crate::sched;
use crate::vm::Vmspace;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::vmspace::VmspaceInfo;
use dragonet_abi::{Errno, Rights};

/// A vmspace by handle.
pub struct GuestVmspace {
    vmspace: Arc<Vmspace>,
    /// Threads that run in it now, and [`DESTROYED`]: one value, so that exactly one finds that it was the last.
    running: AtomicU32,
    /// The vkernel that created it; none for the vmspace of a process.
    creator: Option<Weak<Process>>,
}

/// In the count of threads: it was destroyed, and no thread enters it any more.
const DESTROYED: u32 = 1 << 31;

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

    /// True if `process` created it.
    fn is_of(&self, process: &Process) -> bool {
        self.creator
            .as_ref()
            .is_some_and(|creator| core::ptr::eq(creator.as_ptr(), process))
    }

    /// Totals. Between two pieces of the work no lock is held and `goes_on` is asked; `None` if it said no.
    pub fn information(&self, goes_on: impl FnMut() -> bool) -> Option<VmspaceInfo> {
        let (mappings, mapped_bytes) = self.vmspace.mapped(goes_on)?;
        Some(VmspaceInfo {
            id: self.vmspace.pmap().id(),
            running: u64::from(self.running.load(Ordering::Relaxed) & !DESTROYED),
            mappings,
            mapped_bytes,
            resident_pages: self.vmspace.pmap().resident_pages(),
            table_pages: self.vmspace.pmap().table_pages(),
        })
    }

    /// The address space. Destroyed later, it can still be used by who has it, but nothing that he maps stays.
    ///
    /// # Errors
    /// EBADF once it has been destroyed.
    pub fn vmspace(&self) -> Result<&Arc<Vmspace>, Errno> {
        if self.is_destroyed() {
            Err(Errno::EBADF)
        } else {
            Ok(&self.vmspace)
        }
    }

    /// True once it has been destroyed: threads in it have to leave.
    pub(super) fn is_destroyed(&self) -> bool {
        self.running.load(Ordering::SeqCst) & DESTROYED != 0
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
                (running & DESTROYED == 0).then(|| running + 1)
            })
            .map(|_| ())
            .map_err(|_| Errno::EBADF)
    }

    /// The calling thread no longer runs in it: its CPU has another address space. True if it was destroyed meanwhile. The last one
    /// to leave empties it then, which may take long: no lock is held.
    pub(super) fn leave(&self) -> bool {
        let before = self.running.fetch_sub(1, Ordering::SeqCst);
        if before == DESTROYED | 1 {
            self.vmspace.close();
        }
        before & DESTROYED != 0
    }

    /// Destroys it. No thread enters it any more, those that run in it are told to leave, and it is emptied: here if there is none,
    /// else by the last one that leaves.
    ///
    /// # Errors
    /// EINVAL for the vmspace of a process; EBADF the second time.
    pub fn destroy(&self) -> Result<(), Errno> {
        if self.creator.is_none() {
            return Err(Errno::EINVAL);
        }
        let running = self.running.fetch_or(DESTROYED, Ordering::SeqCst);
        if running & DESTROYED != 0 {
            return Err(Errno::EBADF);
        }
        if running == 0 {
            self.vmspace.close();
        } else {
            // After the bit: a CPU that is not active yet looks at the bit when it is. A thread on no CPU looks when it gets one.
            sched::request_attention(self.vmspace.pmap().active());
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

impl Process {
    /// The first vmspace that this process has created and not destroyed, by the handles that it has at `position` and above; and where to go
    /// on.
    pub fn guest_vmspace_from(&self, position: u64) -> Option<(u64, Arc<GuestVmspace>)> {
        self.handles().find_from(position, |object| match object {
            Object::Vmspace(guest) if guest.is_of(self) && !guest.is_destroyed() => Some(guest.clone()),
            _ => None,
        })
    }
}
