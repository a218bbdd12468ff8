//! `kernel/src/pmap/space.rs`, with a nested page table beside the regular one.

use super::Rig;
use super::cpu::Core;
use super::memory::{Removed, RigSource, RigTables};
use crate::Space;
use crate::tests::fault::{Fault, planted};
use crate::tests::machine::SharedWord;
use crate::tests::model::memory::Use;
use page_table::{
    Attributes, CacheMode, Entered, FlushSet, Format, Interlock, PAGE_SIZE, Protection, Released, Stamp,
    Tables, X86_64, ept_format, release_subtree, span,
};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::AtomicU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The address was invalidated after the stamp was taken.
#[derive(Debug)]
pub struct Stale;

/// Where a translation leads.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub frame: u64,
    /// 1 or 2.
    pub level: u8,
    pub write: bool,
}

impl Target {
    /// A page of 4 KiB.
    pub fn small(frame: u64, write: bool) -> Self {
        let level = 1;
        Target { frame, level, write }
    }
}

/// Which of the two page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Regular,
    Nested,
}

pub struct Nested {
    format: &'static Format,
    pub space: Space<SharedWord>,
    pub root: u64,
}

#[derive(Default)]
pub struct Locked {
    pub(super) interlock: Interlock,
    nested: Option<Arc<Nested>>,
}

pub struct Pmap {
    pub space: Space<SharedWord>,
    pub root: u64,
    stamp: AtomicU64,
    pub(super) locked: Mutex<Locked>,
}

impl Pmap {
    pub fn new(rig: &Rig) -> Self {
        let id = rig.fresh_id();
        Pmap {
            space: Space::new(id),
            root: rig.new_root(id),
            stamp: AtomicU64::new(0),
            locked: Mutex::default(),
        }
    }

    /// The nested page table, which comes into being when a guest is first entered.
    pub fn nested(&self, core: &mut Core) -> Arc<Nested> {
        core.with_lock(&self.locked, |core, locked| {
            let rig = &core.rig;
            let nested = locked.nested.get_or_insert_with(|| {
                let id = rig.fresh_id();
                let mut hardware = rig.hardware();
                Arc::new(Nested {
                    format: ept_format(hardware.features.nested_dirty),
                    space: Space::new(id),
                    root: hardware.memory.allocate(Use::Table(id)),
                })
            });
            Arc::clone(nested)
        })
    }

    /// `Pmap::stamp`.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Acquire))
    }

    pub(super) fn raise(&self, interlock: &mut Interlock, range: &Range<u64>) {
        if !planted(Fault::SkipInterlock) {
            self.stamp.store(interlock.invalidate(range).0, Ordering::Release);
        }
    }

    /// `Pmap::enter`, with the neighbours of the page.
    pub fn enter(
        &self,
        core: &mut Core,
        which: Which,
        address: u64,
        target: Target,
        neighbours: &[(u64, Target)],
        stamp: Stamp,
    ) -> Result<(), Stale> {
        core.with_lock(&self.locked, |core, locked| {
            let range = address..address + span(target.level);
            if !locked.interlock.admits_range(stamp, &range) && !planted(Fault::IgnoreInterlock) {
                core.rig.hardware().count("refused by the interlock");
                return Err(Stale);
            }
            self.enter_locked(core, locked, which, address, target);
            let rig = Arc::clone(&core.rig);
            let memory = RigTables(&rig);
            let (format, root, _) = self.table(locked, which);
            for &(address, target) in neighbours {
                let admitted = locked.interlock.admits(stamp, address) || planted(Fault::AdmitNeighbours);
                let tables = Tables::new(format, root, &memory);
                if admitted && tables.enter_absent(address, leaf(format, target)) {
                    rig.hardware().count("mapped around");
                }
            }
            Ok(())
        })
    }

    pub(super) fn table<'a>(
        &'a self,
        locked: &'a Locked,
        which: Which,
    ) -> (&'static Format, u64, &'a Space<SharedWord>) {
        match (which, &locked.nested) {
            (Which::Nested, Some(nested)) => (nested.format, nested.root, &nested.space),
            _ => (&X86_64, self.root, &self.space),
        }
    }

    fn enter_locked(&self, core: &mut Core, locked: &Locked, which: Which, address: u64, target: Target) {
        let rig = Arc::clone(&core.rig);
        let (format, root, space) = self.table(locked, which);
        let entry = leaf(format, target);
        let memory = RigTables(&rig);
        let tables = Tables::new(format, root, &memory);
        let mut source = RigSource(&rig, space.id());
        let mut broken = false;
        while let Entered::Broken(owed) = tables
            .enter(address, target.level, entry, &mut source)
            .expect("there is always memory")
        {
            broken = true;
            rig.hardware().count("broken");
            let taken = owed.discharge(|set| {
                if !planted(Fault::SkipBreakFlush) {
                    core.invalidate(space, set);
                }
            });
            let mut removed = Removed::new(&rig, format);
            taken.hand_to(&mut removed);
            removed.release();
        }
        if target.level > 1 {
            rig.hardware().count("large");
        }
        if broken && which == Which::Regular {
            rig.hardware().check_only(space.id(), address, target.frame);
        }
    }

    /// `Pmap::commit_copy`.
    pub fn commit_copy(
        &self,
        core: &mut Core,
        which: Which,
        address: u64,
        copy: u64,
        stamp: Stamp,
        insert: impl Fn() -> bool,
    ) -> Result<(), Stale> {
        core.with_lock(&self.locked, |core, locked| {
            if !locked.interlock.admits(stamp, address) && !planted(Fault::IgnoreInterlock) {
                return Err(Stale);
            }
            let early = planted(Fault::CopyBeforeFlush);
            if early && !insert() {
                return Err(Stale);
            }
            let page = address..address + PAGE_SIZE;
            let rig = Arc::clone(&core.rig);
            let removed = self.remove_in(core, &rig, locked, &page, &(0..0));
            removed.into_iter().for_each(|mut removed| removed.release());
            if !early && !insert() {
                return Err(Stale);
            }
            self.raise(&mut locked.interlock, &page);
            self.enter_locked(core, locked, which, address, Target::small(copy, true));
            rig.hardware().count("copied");
            Ok(())
        })
    }

    /// `Pmap::remove`, and `RemovedTables` dropped.
    pub fn remove(&self, core: &mut Core, range: &Range<u64>, releasable: &Range<u64>) {
        let rig = Arc::clone(&core.rig);
        let removed = core.with_lock(&self.locked, |core, locked| {
            self.raise(&mut locked.interlock, range);
            self.remove_in(core, &rig, locked, range, releasable)
        });
        removed.into_iter().for_each(|mut removed| removed.release());
    }

    fn remove_in<'rig>(
        &self,
        core: &mut Core,
        rig: &'rig Rig,
        locked: &Locked,
        range: &Range<u64>,
        releasable: &Range<u64>,
    ) -> Vec<Removed<'rig>> {
        let memory = RigTables(rig);
        let mut one = |format, root, space: &Space<SharedWord>| {
            let late = !planted(Fault::FlushBeforeChange);
            if !late {
                let mut set = FlushSet::nothing();
                set.add_table(&(0..1 << 39));
                core.invalidate(space, &set);
            }
            let owed =
                Tables::new(format, root, &memory).remove(range, releasable, Removed::new(rig, format));
            owed.discharge(|set| {
                if late {
                    core.invalidate(space, set);
                }
            })
        };
        let mut removed = vec![one(&X86_64, self.root, &self.space)];
        if let Some(nested) = locked.nested.as_ref().filter(|_| !planted(Fault::ForgetNested)) {
            removed.push(one(nested.format, nested.root, &nested.space));
        }
        removed
    }

    /// `Pmap::with_interlock`.
    pub fn with_interlock<R>(&self, core: &mut Core, look: impl FnOnce(&Interlock) -> R) -> R {
        core.with_lock(&self.locked, |_, locked| look(&locked.interlock))
    }

    /// `Pmap::narrow_after` to loads.
    pub fn narrow_after<R>(&self, core: &mut Core, range: &Range<u64>, change: impl FnOnce() -> R) -> R {
        let rig = Arc::clone(&core.rig);
        core.with_lock(&self.locked, |core, locked| {
            let result = change();
            let memory = RigTables(&rig);
            let mut one = |format, root, space: &Space<SharedWord>| {
                let owed = Tables::new(format, root, &memory).narrow(range, Protection::READ);
                owed.discharge(|set| {
                    if !planted(Fault::SkipNarrowFlush) {
                        core.invalidate(space, set);
                    }
                });
            };
            one(&X86_64, self.root, &self.space);
            if let Some(nested) = &locked.nested {
                one(nested.format, nested.root, &nested.space);
            }
            self.raise(&mut locked.interlock, range);
            result
        })
    }

    /// `Drop for Pmap`: nobody runs it any more.
    pub fn end(self, rig: &Rig) {
        let nested = self
            .locked
            .into_inner()
            .expect("no CPU died with the lock")
            .nested;
        end_tables(rig, &X86_64, &self.space, self.root);
        if let Some(nested) = nested {
            end_tables(rig, nested.format, &nested.space, nested.root);
        }
    }
}

fn end_tables(rig: &Rig, format: &'static Format, space: &Space<SharedWord>, root: u64) {
    let active = space.active();
    assert_eq!(
        active,
        0,
        "space {} goes away while CPUs {active:#b} use it",
        space.id()
    );
    // The kernel's half is not the space's own.
    for slot in 0..2 {
        let entry = rig.hardware().memory.word(root, slot);
        if format.is_present(entry) {
            let table = format.table_address(entry);
            release_subtree(format, &RigTables(rig), table, 3, &mut |released| {
                if let Released::Table(table) = released {
                    rig.hardware().free(table);
                }
            });
        }
    }
    rig.hardware().free(root);
    rig.retire_id(space.id());
}

/// A leaf for a page of a program. Accessed and dirty are set at once.
pub(super) fn leaf(format: &Format, target: Target) -> u64 {
    let mut protection = Protection::READ;
    protection.set(Protection::WRITE, target.write);
    let attributes = Attributes {
        protection,
        user: true,
        global: planted(Fault::GlobalPages),
        cache: CacheMode::WriteBack,
        software: 0,
    };
    let dirty = if target.write { format.dirty } else { 0 };
    format.leaf(target.level, target.frame, attributes) | format.accessed | dirty
}
