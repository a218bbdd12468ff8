//! Invalidation across CPUs: who must flush, how they are told, how their answer is awaited.
//!
//! Each CPU has one request slot, used while it waits for answers with interrupts off, and one inbox: a bit for each
//! CPU with a request for it. Only the CPU that makes an inbox non-empty sends an interrupt; whoever finds it non-empty
//! knows that the target will look. A CPU that waits - for answers or for a lock - serves its own inbox, so two CPUs that
//! invalidate at each other with interrupts off both proceed.

use super::active;
use super::space::Pmap;
use crate::arch::apic::{self, Vector};
use crate::arch::irq::IrqsOff;
use crate::arch::{cpu, paging};
use crate::debug::counters;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use dragonet_abi::counters::Counter;
use page_table::FlushSet;
use x86_64::VirtAddr;

/// `count` of a request for everything.
const EVERYTHING: usize = usize::MAX;

/// What one CPU asks others to flush.
#[repr(align(128))]
struct Request {
    /// CPUs that have not answered, a bit each. The other fields are stable while it is not zero.
    waiting: AtomicU64,
    /// Root of the pmap.
    root: AtomicU64,
    /// Pages that count, or [`EVERYTHING`].
    count: AtomicUsize,
    pages: [AtomicU64; FlushSet::MAX_PAGES],
}

#[repr(align(128))]
struct Inbox(AtomicU64);

static REQUESTS: [Request; cpu::MAX_CPUS] = [const {
    Request {
        waiting: AtomicU64::new(0),
        root: AtomicU64::new(0),
        count: AtomicUsize::new(0),
        pages: [const { AtomicU64::new(0) }; FlushSet::MAX_PAGES],
    }
}; cpu::MAX_CPUS];

static INBOXES: [Inbox; cpu::MAX_CPUS] = [const { Inbox(AtomicU64::new(0)) }; cpu::MAX_CPUS];

/// The interrupt of [`Vector::Shootdown`].
pub fn on_shootdown(irqs: &IrqsOff) {
    serve(irqs);
}

/// Drops, on every CPU that runs `pmap`, the translations in `set`, and returns when all have. Called with the changes made
/// in the table and the pmap's lock held, so that nobody enters a translation in between.
pub(super) fn flush(irqs: &IrqsOff, pmap: &Pmap, set: &FlushSet) {
    // The changes in the table come before the look at the active set; pairs with the barrier in `Pmap::activate`.
    fence(Ordering::SeqCst);
    let active = pmap.active();
    let here = 1u64 << cpu::index();
    let others = active & !here;
    if others == 0 {
        counters::count(Counter::IpiAvoided);
    } else {
        post(pmap, set, others);
    }
    if active & here != 0 {
        flush_here(set.pages());
    }
    if others != 0 {
        // Acquire: what the others did before they answered is over, accesses through old translations included.
        while REQUESTS[cpu::index()].waiting.load(Ordering::Acquire) != 0 {
            serve(irqs);
            core::hint::spin_loop();
        }
    }
}

/// Fills this CPU's request and tells the targets.
fn post(pmap: &Pmap, set: &FlushSet, targets: u64) {
    counters::count(Counter::Shootdown);
    let me = cpu::index();
    let request = &REQUESTS[me];
    request.root.store(pmap.root().as_u64(), Ordering::Relaxed);
    match set.pages() {
        None => request.count.store(EVERYTHING, Ordering::Relaxed),
        Some(pages) => {
            for (slot, page) in request.pages.iter().zip(pages) {
                slot.store(*page, Ordering::Relaxed);
            }
            request.count.store(pages.len(), Ordering::Relaxed);
        }
    }
    request.waiting.store(targets, Ordering::Release);
    let mut rest = targets;
    while rest != 0 {
        let target = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        // A non-empty inbox has an interrupt on its way, or its CPU is about to take all of it: the swap in `serve` comes after
        // this and finds the bit.
        if INBOXES[target].0.fetch_or(1 << me, Ordering::SeqCst) == 0 {
            apic::send(target, Vector::Shootdown);
        }
    }
}

/// Does and answers what other CPUs ask of this one. To be called wherever a CPU waits with interrupts off.
#[inline]
pub fn serve(irqs: &IrqsOff) {
    let me = cpu::index();
    if INBOXES[me].0.load(Ordering::Relaxed) != 0 {
        serve_all(irqs, me);
    }
}

fn serve_all(irqs: &IrqsOff, me: usize) {
    let mut from = INBOXES[me].0.swap(0, Ordering::SeqCst);
    let root = active::current_root(irqs).map_or(0, |root| root.as_u64());
    while from != 0 {
        let request = &REQUESTS[from.trailing_zeros() as usize];
        from &= from - 1;
        // On another root nothing of the pmap is left here: loading that root dropped it.
        if request.root.load(Ordering::Relaxed) == root {
            let count = request.count.load(Ordering::Relaxed);
            if count == EVERYTHING {
                flush_here(None);
            } else {
                let mut pages = [0; FlushSet::MAX_PAGES];
                for (page, slot) in pages.iter_mut().zip(&request.pages) {
                    *page = slot.load(Ordering::Relaxed);
                }
                flush_here(Some(&pages[..count.min(FlushSet::MAX_PAGES)]));
            }
        }
        // Only after the flush, and the last thing that touches the request: its owner may then use it again.
        request.waiting.fetch_and(!(1 << me), Ordering::AcqRel);
    }
}

/// Flushes pages, or everything that is not global, on this CPU.
fn flush_here(pages: Option<&[u64]>) {
    match pages {
        Some(pages) => {
            counters::count_n(Counter::FlushPage, pages.len() as u64);
            for &page in pages {
                paging::flush_page(VirtAddr::new_truncate(page));
            }
        }
        None => {
            counters::count(Counter::FlushAll);
            paging::flush_all_non_global();
        }
    }
}
