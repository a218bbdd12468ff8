//! A VMCS and where it is.
//!
//! SDM 3C 25.1: a VMCS is *clear*, or *active* on one CPU, where it may be *current*; while it is active that CPU may hold its
//! contents, and no other may load it. Here only the thread that owns a VMCS loads it, and only with interrupts off; to
//! take it to another CPU it has the old one clear it, by a request that every CPU serves while it waits.

use crate::arch::cpu;
use crate::arch::irq::{IrqGuard, IrqsOff};
use crate::arch::vmx::{self, Current, Failure, VmxOn};
use crate::mm::frame::{self, Frame};
use crate::pmap;
use dragonet_abi::Errno;
use x86_64::PhysAddr;

/// Where a VMCS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Clear,
    Active { cpu: usize, launched: bool },
}

/// A VMCS.
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
            place: Place::Clear,
        })
    }

    fn address(&self) -> PhysAddr {
        self.region.address()
    }

    /// Makes it current here, wherever it was.
    ///
    /// # Errors
    /// [`Failure`] if the CPU does not take it.
    pub fn load<'on>(&mut self, irqs: &IrqsOff, on: &'on VmxOn<'_>) -> Result<Loaded<'on>, Failure> {
        let here = cpu::index();
        let region = self.address();
        let moved = !matches!(self.place, Place::Active { cpu, .. } if cpu == here);
        if moved {
            // A new one too must be cleared before its first load (25.11.3).
            let cpu = match self.place {
                Place::Active { cpu, .. } => cpu,
                Place::Clear => here,
            };
            pmap::ask_to_release(irqs, cpu, region);
            self.place = Place::Active {
                cpu: here,
                launched: false,
            };
        }
        // SAFETY: ours alone, with the revision, clear or active on this CPU; it is released before the page goes.
        let vmcs = unsafe { vmx::load(on, region)? };
        Ok(Loaded { vmcs, moved })
    }

    /// True if it has been entered since it was last clear.
    pub fn is_launched(&self) -> bool {
        matches!(self.place, Place::Active { launched: true, .. })
    }

    /// An entry succeeded.
    pub fn note_launched(&mut self) {
        if let Place::Active { launched, .. } = &mut self.place {
            *launched = true;
        }
    }
}

impl Drop for Vmcs {
    fn drop(&mut self) {
        if let Place::Active { cpu, .. } = self.place {
            let guard = IrqGuard::new();
            pmap::ask_to_release(guard.witness(), cpu, self.address());
        }
        // The next owner of the page does not see what the guest's registers were.
        self.region.zero();
    }
}
