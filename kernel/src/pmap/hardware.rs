//! The instructions behind the invalidation protocol, and what is counted of it.

use crate::arch::apic::{self, Vector};
use crate::arch::irq::IrqsOff;
use crate::arch::{cpu, paging, vmx};
use crate::debug::counters;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use dragonet_abi::counters::Counter;
use invalidation::{Event, GuestMachine, Machine};
use x86_64::{PhysAddr, VirtAddr};

/// This CPU, with interrupts off for as long as it lives.
pub(super) struct Hardware<'irqs> {
    irqs: &'irqs IrqsOff,
}

impl<'irqs> Hardware<'irqs> {
    pub(super) fn new(irqs: &'irqs IrqsOff) -> Self {
        Hardware { irqs }
    }
}

impl Machine for Hardware<'_> {
    type Word = AtomicU64;

    #[inline]
    fn load_root(&self, root: u64, tag: u16, keep: bool) {
        counters::count(Counter::Cr3Load);
        // SAFETY: `cpu::switch_to` passes the root of a pmap that its caller keeps alive, or the kernel's own: both have the kernel's half, so the
        // kernel goes on; the program's half belongs to the caller's thread.
        unsafe { paging::load_root(PhysAddr::new(root), tag, keep) };
    }

    #[inline]
    fn flush_page(&self, address: u64) {
        paging::flush_page(VirtAddr::new_truncate(address));
    }

    #[inline]
    fn flush_tag(&self, root: u64, tag: u16) {
        if paging::flush_identifier(tag) {
            counters::count(Counter::FlushInvpcid);
            return;
        }
        // SAFETY: this root is loaded already.
        unsafe { paging::load_root(PhysAddr::new(root), tag, false) };
    }

    fn interrupt(&self, cpu: usize) {
        apic::send(cpu, Vector::Shootdown);
    }

    fn release(&self, object: u64) {
        // SAFETY: only `ask_to_release` posts such a request, for a region that it owns and that is active nowhere else.
        unsafe { vmx::release(self.irqs, PhysAddr::new(object)) };
    }

    #[inline]
    fn barrier(&self) {
        // The read-modify-write before it is a locked instruction, which orders loads after it (SDM 3A 9.2.3.9).
        compiler_fence(Ordering::SeqCst);
    }

    #[inline]
    fn relax(&self) {
        core::hint::spin_loop();
    }

    #[inline]
    fn note(&self, event: Event) {
        match event {
            Event::PagesFlushed(pages) => counters::count_n(Counter::FlushPage, pages),
            Event::TagFlushed => counters::count(Counter::FlushAll),
            Event::Shootdown(_) => counters::count(Counter::Shootdown),
            Event::ShootdownAvoided => counters::count(Counter::IpiAvoided),
            // A CPU without tags keeps nothing, whatever it is told.
            Event::RootKept if cpu::features().pcid => counters::count(Counter::PcidHit),
            Event::RootKept | Event::RootFlushed => counters::count(Counter::PcidMiss),
            Event::TagEvicted => counters::count(Counter::PcidEviction),
            Event::AnsweredEarly => counters::count(Counter::EarlyAcknowledgement),
            Event::NestedFlushed => counters::count(Counter::FlushNested),
            Event::GuestFlushed => counters::count(Counter::FlushGuest),
        }
    }
}

/// The protocol uses these between the look at a guest's generations and the entry, or for a guest that has run here: VMX is on.
impl GuestMachine for Hardware<'_> {
    fn flush_nested(&self, root: u64) {
        if let Some(on) = vmx::on(self.irqs) {
            vmx::tlb::flush_nested(&on, root);
        }
    }

    fn flush_guest(&self, tag: u16) {
        if let Some(on) = vmx::on(self.irqs) {
            vmx::tlb::flush_tag(&on, tag);
        }
    }

    fn flush_guest_page(&self, tag: u16, address: u64) {
        if let Some(on) = vmx::on(self.irqs) {
            vmx::tlb::flush_address(&on, tag, address);
        }
    }
}
