//! The owed flush: a value that stands for translations that are gone from the table but perhaps not from TLBs.

use core::ops::Range;

/// What must be flushed.
///
/// It also says whether a CPU may answer before it has flushed, as long as it flushes before it can use a translation of the space
/// again (Intel SDM volume 3, 4.10.4.4, delayed invalidation). It must not in two cases:
/// - A table was detached. A CPU may still *walk* through it: its paging-structure caches hold entries that point to it
///   (4.10.3), it may use those for any address that shares the entry, at any time and without an access of the program, and it
///   reads translations from such a page and sets accessed and dirty bits in it.
/// - A leaf larger than a page was removed or changed. Leaves of another size may take its place as soon as the lock is free, and
///   a CPU that walks of its own accord then holds both sizes. And INVLPG drops all that a TLB has of a large page only while
///   the tables have the page (4.10.2.3); who comes next may remove it.
#[derive(Clone, Copy, Debug)]
pub struct FlushSet {
    extent: Extent,
    tables_detached: bool,
    large_leaves: bool,
}

#[derive(Clone, Copy, Debug)]
enum Extent {
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

    /// Nothing to flush.
    #[must_use]
    pub const fn nothing() -> Self {
        FlushSet {
            extent: Extent::Nothing,
            tables_detached: false,
            large_leaves: false,
        }
    }

    /// Everything that is not global, whatever became of its tables.
    #[must_use]
    pub const fn everything() -> Self {
        FlushSet {
            extent: Extent::Everything,
            tables_detached: true,
            large_leaves: true,
        }
    }

    /// Adds the page at `address`, which is no part of a larger leaf.
    pub fn add(&mut self, address: u64) {
        match &mut self.extent {
            Extent::Nothing => {
                let mut pages = [0; Self::MAX_PAGES];
                pages[0] = address;
                self.extent = Extent::Pages(pages, 1);
            }
            Extent::Pages(pages, count) if *count < Self::MAX_PAGES => {
                pages[*count] = address;
                *count += 1;
            }
            Extent::Pages(..) => self.extent = Extent::Everything,
            Extent::Everything => {}
        }
    }

    /// Adds a leaf of `level` for `address` that is still there, with less in it.
    pub(crate) fn add_changed(&mut self, address: u64, level: u8) {
        self.large_leaves |= level > 1;
        self.add(address);
    }

    /// Adds a leaf of `level` for `address` that is no longer there.
    ///
    /// A TLB may hold a larger page as several smaller ones. INVLPG drops all of them only while the tables still have the
    /// page (SDM volume 3, 4.10.2.3), so once it is gone, nothing short of a full flush is certain to.
    pub(crate) fn add_removed(&mut self, address: u64, level: u8) {
        if level == 1 {
            self.add(address);
        } else {
            self.large_leaves = true;
            self.extent = Extent::Everything;
        }
    }

    /// Adds all pages of a range that is not empty, and notes that a table which translated it was detached.
    pub fn add_table(&mut self, range: &Range<u64>) {
        debug_assert!(range.start < range.end);
        self.tables_detached = true;
        if (range.end - range.start) / super::PAGE_SIZE > Self::MAX_PAGES as u64 {
            self.extent = Extent::Everything;
        } else {
            for page in range.clone().step_by(super::PAGE_SIZE as usize) {
                self.add(page);
            }
        }
    }

    /// True if there is nothing to do.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self.extent, Extent::Nothing)
    }

    /// The pages, or `None` for everything that is not global.
    #[must_use]
    pub fn pages(&self) -> Option<&[u64]> {
        match &self.extent {
            Extent::Nothing => Some(&[]),
            Extent::Pages(pages, count) => Some(&pages[..*count]),
            Extent::Everything => None,
        }
    }

    /// True if page walkers of CPUs may still be in pages that are no tables any more.
    #[must_use]
    pub const fn tables_detached(&self) -> bool {
        self.tables_detached
    }

    /// True if a CPU may answer before it has flushed.
    #[must_use]
    pub const fn may_be_delayed(&self) -> bool {
        !self.tables_detached && !self.large_leaves
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
