//! The owed flush: a value that stands for translations that are gone from the table but perhaps not from TLBs.

/// What must be flushed.
#[derive(Clone, Copy, Debug)]
pub enum FlushSet {
    /// Nothing was removed or narrowed.
    Nothing,
    /// These pages (the first `count`). Page by page this also drops all paging-structure caches (SDM volume 3, 4.10.4.1).
    Pages([u64; FlushSet::MAX_PAGES], usize),
    /// Everything that is not global.
    Everything,
}

impl FlushSet {
    /// Above this many pages a full flush is cheaper than page by page.
    pub const MAX_PAGES: usize = 16;

    /// Adds the page at `address`.
    pub fn add(&mut self, address: u64) {
        match self {
            FlushSet::Nothing => {
                let mut pages = [0; Self::MAX_PAGES];
                pages[0] = address;
                *self = FlushSet::Pages(pages, 1);
            }
            FlushSet::Pages(pages, count) if *count < Self::MAX_PAGES => {
                pages[*count] = address;
                *count += 1;
            }
            FlushSet::Pages(..) => *self = FlushSet::Everything,
            FlushSet::Everything => {}
        }
    }

    /// True if there is nothing to do.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self, FlushSet::Nothing)
    }

    /// The pages, or `None` for everything.
    #[must_use]
    pub fn pages(&self) -> Option<&[u64]> {
        match self {
            FlushSet::Nothing => Some(&[]),
            FlushSet::Pages(pages, count) => Some(&pages[..*count]),
            FlushSet::Everything => None,
        }
    }
}

/// Translations were removed or narrowed: until every CPU that may hold them has flushed, nothing of what they reached may
/// be reused. `kept` is what waits for that, typically detached tables.
#[must_use = "translations may still be in TLBs until the flush is discharged"]
#[derive(Debug)]
pub struct OwedFlush<D> {
    set: FlushSet,
    kept: D,
}

impl<D> OwedFlush<D> {
    pub(crate) fn new(set: FlushSet, kept: D) -> Self {
        OwedFlush { set, kept }
    }

    /// Calls `flush`, which must not return before every CPU has dropped the translations; then hands out what waited.
    pub fn discharge(self, flush: impl FnOnce(&FlushSet)) -> D {
        if !self.set.is_nothing() {
            flush(&self.set);
        }
        self.kept
    }
}
