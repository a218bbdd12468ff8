//! A thread in guest mode.

use super::Exit;
use super::process::{GuestProcess, Membership};
use super::vmx::{Context, Vcpu};
use crate::arch::irq::IrqGuard;
use crate::arch::segments;
use crate::arch::trap::TrapFrame;
use crate::sched::TimerKey;
use crate::vm::{Access, Vmspace};
use alloc::boxed::Box;
use alloc::sync::Arc;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use guest_mode::{Backend, Role};

/// The vkernel's user while RUN lasts: what the vkernel itself must find again.
#[derive(Debug)]
pub struct User {
    /// Root of the user's page table.
    pub root: u64,
    /// The user's bases of FS and GS.
    pub bases: (u64, u64),
    /// The vkernel's registers.
    pub saved: TrapFrame,
    /// Where it wants to be told how RUN ended.
    pub state_address: u64,
    /// The time-out.
    pub timer: Option<TimerKey>,
}

/// A thread in guest mode. The thread itself has it, in the call that runs it: nobody else sees it.
pub struct Guest {
    vcpu: Vcpu,
    membership: Membership,
    vmspace: Arc<Vmspace>,
    /// Root of the thread's own page table.
    root: u64,
    user: Option<User>,
}

/// Checks the root of a page table.
///
/// # Errors
/// EINVAL if CR3 cannot have it, or it lies beyond guest-physical memory. What is in it is the guest's affair.
pub fn check_root(root: u64) -> Result<(), Errno> {
    if root != 0 && root.is_multiple_of(PAGE_SIZE) && root < super::vmx::physical_end() {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

impl Guest {
    /// A guest that will go on under the page table at `root`.
    ///
    /// # Errors
    /// ENODEV where the machine has no guest mode; EINVAL for the root; EBUSY for a second master; ENOENT for a slave without one; EAGAIN
    /// at the limit; ENOMEM.
    pub fn new(
        process: &Arc<GuestProcess>,
        vmspace: &Arc<Vmspace>,
        role: Role,
        root: u64,
    ) -> Result<Box<Self>, Errno> {
        check_root(root)?;
        let kind = super::vmx::turn_on()?;
        if role == Role::Master {
            vmspace.make_nested(kind)?;
        }
        let membership = process.join(role)?;
        let nested = vmspace.nested().ok_or(Errno::ENOENT)?;
        Ok(Box::new(Guest {
            vcpu: Vcpu::new(nested, membership.number())?,
            membership,
            vmspace: vmspace.clone(),
            root,
            user: None,
        }))
    }

    /// What the guest threads of the process share.
    pub fn process(&self) -> &GuestProcess {
        self.membership.guest()
    }

    /// The address space.
    pub fn vmspace(&self) -> &Arc<Vmspace> {
        &self.vmspace
    }

    /// From the next entry on the user runs.
    pub fn begin_user(&mut self, user: User) {
        self.user = Some(user);
    }

    /// From the next entry on the vkernel itself runs again; the user with the bases that it left.
    pub fn end_user(&mut self) -> Option<User> {
        let mut user = self.user.take()?;
        let guard = IrqGuard::new();
        if let Some(bases) = self.vcpu.take_bases(guard.witness()) {
            user.bases = bases;
        }
        Some(user)
    }

    /// Forgets the user, since the guest ends.
    pub fn abandon_user(&mut self) -> Option<User> {
        self.user.take()
    }
}

impl Backend for Guest {
    type Guard = IrqGuard;
    type Registers = TrapFrame;
    type Access = Access;

    fn enter(&mut self, guard: &IrqGuard, frame: &mut TrapFrame) -> Exit {
        let Some(nested) = self.vmspace.nested() else {
            return Exit::Dead;
        };
        let guest = self.membership.guest();
        let (root, bases) = match &self.user {
            Some(user) => (user.root, user.bases),
            None => (self.root, segments::user_bases()),
        };
        let context = Context {
            root,
            bases,
            nested: nested.space(),
            linear: guest.linear(),
            gate: guest.gate(),
        };
        self.vcpu.enter(guard.witness(), frame, &context)
    }

    fn is_user(&self) -> bool {
        self.user.is_some()
    }
}
