//! Which address space each CPU runs, and the invalidation of translations on every CPU that may use them.
//!
//! The protocol is the crate `invalidation`; here are the words and the state that it works on, one set per CPU.

use super::hardware::Hardware;
use super::kernel_space;
use super::space::Pmap;
use crate::arch::cpu;
use crate::arch::irq::IrqsOff;
use crate::sync;
use crate::vm::Vmspace;
use core::cell::UnsafeCell;
use core::ptr::null;
use core::sync::atomic::AtomicU64;
use guest_mode::Border;
use invalidation::{Cpu, GuestEntry, GuestTag, Loaded, Local, Mailbox, Space};
use page_table::FlushSet;
use x86_64::PhysAddr;

const _: () = assert!(cpu::MAX_CPUS <= invalidation::MAX_CPUS);

static MAILBOXES: [Mailbox<AtomicU64>; cpu::MAX_CPUS] = [const { Mailbox::new_const() }; cpu::MAX_CPUS];

/// What one CPU has of its own.
#[repr(align(128))]
struct Own(UnsafeCell<State>);

struct State {
    local: Local,
    /// The pmap whose root is loaded, null for the kernel's own table.
    pmap: *const Pmap,
}

// SAFETY: each is used by its own CPU with interrupts off only, and the pmap that it points to is shared by all CPUs anyway.
unsafe impl Sync for Own {}

static OWN: [Own; cpu::MAX_CPUS] = [const {
    Own(UnsafeCell::new(State {
        local: Local::new(),
        pmap: null(),
    }))
}; cpu::MAX_CPUS];

/// Runs `action` with this CPU's state. `action` takes no lock and comes not back here.
fn with_own<R>(_irqs: &IrqsOff, action: impl FnOnce(usize, &mut State) -> R) -> R {
    let index = cpu::index();
    // SAFETY: own CPU, interrupts off, and the callers below call nothing that leads here: the protocol and the
    // instructions of `Hardware` take no lock.
    action(index, unsafe { &mut *OWN[index].0.get() })
}

/// Makes this CPU run in `vmspace`, or with `None` in the kernel's own table. Writes CR3 only if that changes something.
///
/// The caller keeps the vmspace alive until this CPU has switched to something else; a vmspace that is dropped earlier
/// stops the machine.
pub fn switch_to(irqs: &IrqsOff, vmspace: Option<&Vmspace>) {
    let next = vmspace.map(Vmspace::pmap);
    with_own(irqs, |index, state| {
        let pointer = next.map_or(null(), core::ptr::from_ref);
        if state.pmap == pointer {
            return;
        }
        // SAFETY: this CPU's bit is still set in it, and a pmap with a bit set does not go away: its drop would panic.
        let before = unsafe { state.pmap.as_ref() };
        state.pmap = pointer;
        let loaded = next.map(|pmap| Loaded {
            space: pmap.space(),
            root: pmap.root().as_u64(),
        });
        let hardware = Hardware::new(irqs);
        Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).switch(
            before.map(Pmap::space),
            loaded.as_ref(),
            kernel_space::kernel_root().as_u64(),
        );
    });
}

/// Drops, on every CPU that runs `space`, the translations in `set`, and returns when no CPU can use them any more. Called with
/// the changes made in the table and the pmap's lock held, so that nobody enters a translation in between.
pub(super) fn flush(irqs: &IrqsOff, space: &Space<AtomicU64>, set: &FlushSet) {
    with_own(irqs, |index, state| {
        let hardware = Hardware::new(irqs);
        Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).invalidate(space, set);
    });
}

/// Does and answers what other CPUs ask of this one: in the interrupt, and wherever a CPU waits with interrupts off.
#[inline]
pub fn serve(irqs: &IrqsOff) {
    sync::assert_locks_allowed("an invalidation is served");
    if MAILBOXES[cpu::index()].has_notes() {
        with_own(irqs, |index, state| {
            let hardware = Hardware::new(irqs);
            Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).serve();
        });
    }
}

/// Has CPU number `cpu`, which may be this one, clear the VMCS in `region`; returns when it is clear.
///
/// The caller owns the VMCS, which is clear, or active on that CPU.
pub fn ask_to_release(irqs: &IrqsOff, cpu: usize, region: PhysAddr) {
    with_own(irqs, |index, state| {
        let hardware = Hardware::new(irqs);
        Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).ask_to_release(cpu, region.as_u64());
    });
}

/// This CPU before the entry into a guest and after the exit.
pub struct GuestBorder<'irqs> {
    irqs: &'irqs IrqsOff,
    identifiers: bool,
}

impl<'irqs> GuestBorder<'irqs> {
    /// This CPU. `identifiers`: guests' page tables have some.
    #[inline]
    pub fn new(irqs: &'irqs IrqsOff, identifiers: bool) -> Self {
        GuestBorder { irqs, identifiers }
    }
}

impl Border for GuestBorder<'_> {
    type Word = AtomicU64;

    #[inline]
    fn prepare(&self, entry: &GuestEntry<'_, AtomicU64>) -> GuestTag {
        let tag = with_own(self.irqs, |index, state| {
            let hardware = Hardware::new(self.irqs);
            Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).enter_guest(entry, self.identifiers)
        });
        sync::forbid_locks();
        tag
    }

    #[inline]
    fn finish(&self, entry: &GuestEntry<'_, AtomicU64>) {
        sync::allow_locks();
        with_own(self.irqs, |index, state| {
            let hardware = Hardware::new(self.irqs);
            Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).leave_guest(entry);
        });
    }
}

/// Drops linear addresses of a guest, whose page table has changed, on every CPU that is in it now and on this one.
pub fn invalidate_guest(irqs: &IrqsOff, linear: &Space<AtomicU64>, set: &FlushSet) {
    with_own(irqs, |index, state| {
        let hardware = Hardware::new(irqs);
        Cpu::new(&hardware, &MAILBOXES, index, &mut state.local).invalidate_guest(linear, set);
    });
}

/// The interrupt of [`crate::arch::apic::Vector::Shootdown`].
pub fn on_shootdown(irqs: &IrqsOff) {
    serve(irqs);
}
