//! Which address space each CPU runs.
//!
//! A CPU is in a pmap's active set from before it loads the root until after it has loaded another one. Loading CR3 drops
//! every translation that is not global (there are no process-context identifiers in use), so a CPU outside of the set
//! holds none of the pmap's translations.

use super::space::Pmap;
use super::{kernel_space, shootdown};
use crate::arch::irq::IrqsOff;
use crate::arch::{cpu, paging};
use crate::debug::counters;
use crate::vm::Vmspace;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use dragonet_abi::counters::Counter;
use x86_64::PhysAddr;

#[repr(align(128))]
struct Current {
    /// The pmap whose root is loaded, null for the kernel's own table.
    pmap: AtomicPtr<Pmap>,
    /// Its root, 0 for the kernel's own.
    root: AtomicU64,
}

static CURRENT: [Current; cpu::MAX_CPUS] = [const {
    Current {
        pmap: AtomicPtr::new(null_mut()),
        root: AtomicU64::new(0),
    }
}; cpu::MAX_CPUS];

/// Root of the pmap that this CPU runs, `None` for the kernel's own table.
pub(super) fn current_root(_irqs: &IrqsOff) -> Option<PhysAddr> {
    let root = CURRENT[cpu::index()].root.load(Ordering::Relaxed);
    (root != 0).then(|| PhysAddr::new(root))
}

/// Makes this CPU run in `vmspace`, or with `None` in the kernel's own table. Writes CR3 only if that changes something.
///
/// The caller keeps the vmspace alive until this CPU has switched to something else; a vmspace that is dropped earlier
/// stops the machine.
pub fn switch_to(irqs: &IrqsOff, vmspace: Option<&Vmspace>) {
    let index = cpu::index();
    let current = &CURRENT[index];
    let next: *mut Pmap = vmspace.map_or(null_mut(), |vmspace| {
        core::ptr::from_ref(vmspace.pmap()).cast_mut()
    });
    let before = current.pmap.load(Ordering::Relaxed);
    if before == next {
        return;
    }
    let root = match vmspace {
        Some(vmspace) => {
            // Before the root is loaded: whoever changes a translation after this CPU may have read it sees the bit. The
            // read-modify-write is a full barrier, and the page walks of this CPU come after it.
            vmspace.pmap().activate(index);
            current
                .root
                .store(vmspace.pmap().root().as_u64(), Ordering::Relaxed);
            vmspace.pmap().root()
        }
        None => {
            current.root.store(0, Ordering::Relaxed);
            kernel_space::kernel_root()
        }
    };
    counters::count(Counter::Cr3Load);
    // SAFETY: both tables have the kernel's half, so the kernel goes on; the program's half belongs to the caller's thread.
    unsafe { paging::write_cr3(root) };
    current.pmap.store(next, Ordering::Relaxed);
    // After the root is loaded: from here on no translation of the old pmap is left.
    // SAFETY: the bit of this CPU is still set there, and a pmap with a bit set does not go away: its drop would panic.
    if let Some(before) = unsafe { before.as_ref() } {
        before.deactivate(index);
    }
    // A request for the old pmap may have come in between; it must be acknowledged, and there is nothing left to flush.
    shootdown::serve(irqs);
}
