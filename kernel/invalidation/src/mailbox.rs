//! Requests between CPUs.
//!
//! Each CPU has one request, which it fills when it wants something from others, and one inbox, a bit for each CPU with a
//! request for it. Only the one who makes an inbox non-empty sends an interrupt: whoever finds it non-empty knows that
//! its CPU will look, since it takes all bits at once.

use crate::Word;
use core::sync::atomic::{AtomicU64, Ordering};
use page_table::FlushSet;

/// In `what`: drop everything.
const EVERYTHING: u64 = 1 << 32;
/// In `what`: the answer may come before the deed.
pub(crate) const EARLY: u64 = 1 << 33;
/// In `what`: nothing is to be dropped, an object is to be let go.
pub(crate) const RELEASE: u64 = 1 << 34;

/// What one CPU shares with the others. A cache line of its own for the inbox, which others write while the request is read.
#[derive(Debug)]
#[repr(align(128))]
pub struct Mailbox<W> {
    inbox: Inbox<W>,
    request: Request<W>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Inbox<W>(W);

#[derive(Debug)]
#[repr(align(128))]
struct Request<W> {
    /// CPUs that have not answered, a bit each. The other fields are stable while it is not zero.
    waiting: W,
    space: W,
    generation: W,
    /// Count of pages, and flags.
    what: W,
    pages: [W; FlushSet::MAX_PAGES],
}

/// A request as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub space: u64,
    pub generation: u64,
    pub set: OrderSet,
    /// It may be answered before it is carried out.
    pub early: bool,
}

/// What a request asks to drop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderSet {
    Everything,
    Pages([u64; FlushSet::MAX_PAGES], usize),
    /// Not a flush: the CPU lets go of the object whose address stands in place of the space.
    Release,
}

impl OrderSet {
    pub fn of(set: &FlushSet) -> Self {
        let Some(list) = set.pages() else {
            return OrderSet::Everything;
        };
        let mut pages = [0; FlushSet::MAX_PAGES];
        pages[..list.len()].copy_from_slice(list);
        OrderSet::Pages(pages, list.len())
    }
}

impl<W: Word> Mailbox<W> {
    /// Nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Mailbox {
            inbox: Inbox(W::new(0)),
            request: Request {
                waiting: W::new(0),
                space: W::new(0),
                generation: W::new(0),
                what: W::new(0),
                pages: core::array::from_fn(|_| W::new(0)),
            },
        }
    }

    /// Fills this CPU's request for `targets`. Nobody reads it yet, and nobody reads an old one: all have answered.
    pub(crate) fn fill(&self, order: &Order, targets: u64) {
        let request = &self.request;
        request.space.store(order.space, Ordering::Relaxed);
        request.generation.store(order.generation, Ordering::Relaxed);
        let mut what = if order.early { EARLY } else { 0 };
        match &order.set {
            OrderSet::Everything => what |= EVERYTHING,
            OrderSet::Release => what |= RELEASE,
            OrderSet::Pages(pages, count) => {
                for (slot, page) in request.pages.iter().zip(&pages[..*count]) {
                    slot.store(*page, Ordering::Relaxed);
                }
                what |= *count as u64;
            }
        }
        request.what.store(what, Ordering::Relaxed);
        request.waiting.store(targets, Ordering::Release);
    }

    /// Reads a request, on a CPU that has not answered it.
    pub(crate) fn read(&self) -> Order {
        let request = &self.request;
        let what = request.what.load(Ordering::Relaxed);
        let set = if what & EVERYTHING != 0 {
            OrderSet::Everything
        } else if what & RELEASE != 0 {
            OrderSet::Release
        } else {
            let count = (what as u32 as usize).min(FlushSet::MAX_PAGES);
            let mut pages = [0; FlushSet::MAX_PAGES];
            for (page, slot) in pages[..count].iter_mut().zip(&request.pages) {
                *page = slot.load(Ordering::Relaxed);
            }
            OrderSet::Pages(pages, count)
        };
        Order {
            space: request.space.load(Ordering::Relaxed),
            generation: request.generation.load(Ordering::Relaxed),
            set,
            early: what & EARLY != 0,
        }
    }

    /// The answer of `cpu` to this mailbox's owner: the last thing by which it touches the request.
    pub(crate) fn answer(&self, cpu: usize) {
        self.request.waiting.fetch_and(!(1 << cpu), Ordering::AcqRel);
    }

    /// True when all have answered. What they did before they answered is over then, accesses through old translations included.
    pub(crate) fn is_answered(&self) -> bool {
        self.request.waiting.load(Ordering::Acquire) == 0
    }

    /// Puts a note of `sender` into this mailbox; true if its owner must be interrupted to look.
    pub(crate) fn put(&self, sender: usize) -> bool {
        self.inbox.0.fetch_or(1 << sender, Ordering::SeqCst) == 0
    }

    /// True if there are notes.
    #[inline]
    #[must_use]
    pub fn has_notes(&self) -> bool {
        self.inbox.0.load(Ordering::Relaxed) != 0
    }

    /// Takes all notes out: the senders, a bit each.
    pub(crate) fn take_notes(&self) -> u64 {
        self.inbox.0.swap(0, Ordering::SeqCst)
    }
}

impl<W: Word> Default for Mailbox<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl Mailbox<AtomicU64> {
    /// [`Self::new`] for constants.
    #[must_use]
    pub const fn new_const() -> Self {
        Mailbox {
            inbox: Inbox(AtomicU64::new(0)),
            request: Request {
                waiting: AtomicU64::new(0),
                space: AtomicU64::new(0),
                generation: AtomicU64::new(0),
                what: AtomicU64::new(0),
                pages: [const { AtomicU64::new(0) }; FlushSet::MAX_PAGES],
            },
        }
    }
}
