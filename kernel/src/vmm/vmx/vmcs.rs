//! A VMCS: its page, and where it is. When it moves is decided by the crate `guest-mode`, see [`Place`].

use crate::arch::cpu;
use crate::arch::irq::{IrqGuard, IrqsOff};
use crate::arch::vmx::{self, Current, Failure, VmxOn};
use crate::mm::frame::{self, Frame};
use crate::pmap;
use dragonet_abi::Errno;
use guest_mode::{Loader, Place};
use x86_64::PhysAddr;

/// A VMCS. Only the thread that owns it loads it, and only with interrupts off.
#[derive(Debug)]
pub(super) struct Vmcs {
    region: Frame,
    place: Place,
}

/// A VMCS that was just loaded.
#[derive(Debug)]
pub(super) struct Loaded<'on> {
    pub vmcs: Current<'on>,
    /// It was not on this CPU before: what belongs to the CPU must be written.
    pub moved: bool,
}

/// This CPU and a region that the caller owns.
struct ThisCpu<'on> {
    irqs: &'on IrqsOff,
    on: &'on VmxOn<'on>,
    region: PhysAddr,
}

impl<'on> Loader for ThisCpu<'on> {
    type Current = Current<'on>;
    type Failure = Failure;

    #[inline]
    fn cpu(&self) -> usize {
        cpu::index()
    }

    fn ask_to_release(&self, cpu: usize) {
        pmap::ask_to_release(self.irqs, cpu, self.region);
    }

    #[inline]
    fn load(&self) -> Result<Current<'on>, Failure> {
        // SAFETY: the VMCS is its owner's alone, has the revision, and `Place` says that it is clear or active on this CPU; it is
        // released before the page goes.
        unsafe { vmx::load(self.on, self.region) }
    }
}

impl Vmcs {
    /// A clear one with the CPU's revision.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(revision: u32) -> Result<Self, Errno> {
        let mut region = frame::allocate_zeroed()?;
        region.bytes()[..4].copy_from_slice(&revision.to_le_bytes());
        Ok(Vmcs {
            region,
            place: Place::new(),
        })
    }

    fn address(&self) -> PhysAddr {
        self.region.address()
    }

    /// Makes it current here, wherever it was.
    ///
    /// # Errors
    /// [`Failure`] if the CPU does not take it.
    #[inline]
    pub fn load<'on>(&mut self, irqs: &'on IrqsOff, on: &'on VmxOn<'_>) -> Result<Loaded<'on>, Failure> {
        let region = self.address();
        let (vmcs, moved) = self.place.load(&ThisCpu { irqs, on, region })?;
        Ok(Loaded { vmcs, moved })
    }

    /// True if it has been entered since it was last clear.
    pub fn is_launched(&self) -> bool {
        self.place.is_launched()
    }

    /// An entry succeeded.
    pub fn note_launched(&mut self) {
        self.place.note_launched();
    }
}

impl Drop for Vmcs {
    fn drop(&mut self) {
        let region = self.address();
        self.place.release(|cpu| {
            let guard = IrqGuard::new();
            pmap::ask_to_release(guard.witness(), cpu, region);
        });
        // The next owner of the page does not see what the guest's registers were.
        self.region.zero();
    }
}
