//! Accesses of programs, and what every CPU that runs one may be able to do at this moment.

use super::cache::{Cached, Tag};
use super::format::Format;
use super::memory::PAGE;
use super::{Guest, Hardware, Mode};
use crate::tests::oracle::{Access, Frame};
use crate::tests::universe;
use page_table::index;

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A page fault, in a guest one of the guest's own.
    Fault,
    /// An EPT violation at this guest-physical page, by a store or not.
    NestedFault(u64, bool),
}

impl Hardware {
    /// One load or store of the program on `cpu`. `choice` decides which of the translations that the CPU may use it does use.
    pub fn access(&mut self, cpu: usize, address: u64, write: bool, choice: u64) -> Outcome {
        let outcome = match self.cpus[cpu].guest {
            None => self.access_host(cpu, address, write, choice),
            Some(guest) => self.access_guest(cpu, guest, address, write, choice),
        };
        if outcome == Outcome::Done {
            self.count(match (self.cpus[cpu].guest.is_some(), write) {
                (false, false) => "loads",
                (false, true) => "stores",
                (true, false) => "guest loads",
                (true, true) => "guest stores",
            });
        }
        self.trace(|| format!("CPU {cpu} accesses {address:#x}, write {write}: {outcome:x?}"));
        outcome
    }

    fn candidates(&self, cpu: usize, address: u64) -> Vec<(Tag, Cached)> {
        let processor = &self.cpus[cpu];
        let linear = processor
            .usable_tags()
            .filter(|tag| !matches!(tag, Tag::GuestPhysical { .. }));
        let mut found = Vec::new();
        for tag in linear {
            if let Some(context) = processor.cache.contexts.get(&tag) {
                let covering = context
                    .translations
                    .iter()
                    .filter(|cached| cached.covers(address));
                found.extend(covering.map(|cached| (tag, *cached)));
            }
        }
        found
    }

    fn access_host(&mut self, cpu: usize, address: u64, write: bool, choice: u64) -> Outcome {
        let found = self.candidates(cpu, address);
        if !found.is_empty() {
            let (tag, used) = found[choice as usize % found.len()];
            if !write || used.rights.stores() {
                self.check(cpu, tag, &used, write);
                self.store(used.translate(address), write);
                return Outcome::Done;
            }
            if used.rights.write && self.set_dirty(cpu, address) {
                return Outcome::Done;
            }
        }
        let pcid = self.cpus[cpu].pcid;
        self.cpus[cpu].cache.page_fault(0, pcid, address);
        self.reach(cpu);
        Outcome::Fault
    }

    /// Sets the dirty flag for a store by a walk from the root, and does the store. False if that walk does not allow it.
    fn set_dirty(&mut self, cpu: usize, address: u64) -> bool {
        let Some((table, slot, level)) = self.leaf(cpu, address) else {
            return false;
        };
        let entry = self.memory.word(table, slot);
        if !Format::Linear.rights(entry, true).write {
            return false;
        }
        self.count("recorded anew");
        self.write(table, slot, entry | Format::Linear.dirty());
        let target = Format::Linear.page(entry, level) + (address & (page_table::span(level) - 1));
        let found = self.candidates(cpu, address);
        let (tag, used) = found
            .iter()
            .find(|(_, cached)| cached.rights.stores() && cached.target == target)
            .expect("what was just walked is cached");
        self.check(cpu, *tag, used, true);
        self.store(target, true);
        true
    }

    fn store(&mut self, frame: u64, write: bool) {
        self.memory.page_mut(frame).stores += u64::from(write);
    }

    fn access_guest(&mut self, cpu: usize, guest: Guest, address: u64, write: bool, choice: u64) -> Outcome {
        let found = self.candidates(cpu, address);
        if !found.is_empty() {
            let (tag, used) = found[choice as usize % found.len()];
            if !write || used.rights.stores() {
                self.check(cpu, tag, &used, write);
                self.store(used.translate(address), write);
                return Outcome::Done;
            }
        }
        // What faults is decided by a walk; it drops what would be used for the address.
        let outcome = self.walk_guest(cpu, guest, address, write);
        let cache = &mut self.cpus[cpu].cache;
        cache.page_fault(guest.vpid, guest.pcid, address);
        if let Outcome::NestedFault(physical, _) = outcome {
            cache.ept_violation(guest.vpid, guest.pcid, guest.nested, physical, address);
        }
        self.reach(cpu);
        outcome
    }

    /// Why a guest's access does not complete: the first obstacle on the way. `Done` if there is none, and only a stale
    /// translation forbade it.
    fn walk_guest(&self, cpu: usize, guest: Guest, address: u64, write: bool) -> Outcome {
        let mut table = guest.root;
        for level in (1..=4).rev() {
            let marks = self.features.nested_dirty;
            let Some(page) = self.guest_physical(cpu, guest, table, marks) else {
                return Outcome::NestedFault(table, marks);
            };
            let entry = self.memory.word(page, index(address, level));
            if !Format::Linear.is_present(entry) || write && !Format::Linear.rights(entry, false).write {
                return Outcome::Fault;
            }
            if Format::Linear.is_leaf(entry, level) {
                let target = Format::Linear.page(entry, level) + (address & (page_table::span(level) - 1));
                let target = target & !(PAGE - 1);
                return match self.guest_physical(cpu, guest, target, write) {
                    Some(_) => Outcome::Done,
                    None => Outcome::NestedFault(target, write),
                };
            }
            table = Format::Linear.table(entry);
        }
        Outcome::Fault
    }

    fn guest_physical(&self, cpu: usize, guest: Guest, address: u64, write: bool) -> Option<u64> {
        let tag = Tag::GuestPhysical { nested: guest.nested };
        let context = self.cpus[cpu].cache.contexts.get(&tag)?;
        context
            .translations
            .iter()
            .find(|cached| cached.covers(address) && (!write || cached.rights.write))
            .map(|cached| cached.translate(address))
    }

    /// The access through `used`, on every page of the programs that it translates, must be one that the oracle knows of.
    fn check(&self, cpu: usize, tag: Tag, used: &Cached, write: bool) {
        for page in universe::all_pages().filter(|&page| used.covers(page)) {
            let access = Access {
                frame: Frame {
                    address: used.translate(page),
                    allocation: used.allocation,
                },
                write,
            };
            let allowed = match (tag, self.cpus[cpu].guest) {
                (Tag::Linear { .. }, _) => self.oracle.allows(self.loaded(cpu), page, access),
                (Tag::GuestPhysical { .. }, Some(guest)) => self.oracle.allows(guest.process, page, access),
                (Tag::Combined { pcid, .. }, Some(guest)) => {
                    let root = pcid.map(|_| guest.root);
                    let physical = used.guest_physical + (page - used.base);
                    self.oracle
                        .guest_allows(guest.linear, root, page, physical, write)
                        && self.oracle.allows(guest.process, physical, access)
                }
                (_, None) => false,
            };
            if write && tag == self.cpus[cpu].linear_tag() && !self.is_recorded(cpu, page, used.target) {
                self.violation(&format!(
                    "CPU {cpu} stores to page {page:#x} through {used:x?}, and nothing records it"
                ));
            }
            if !allowed {
                let kind = if write { "stores to" } else { "loads from" };
                self.violation(&format!(
                    "CPU {cpu} {kind} page {page:#x} through {tag:?} {used:x?}, {:?}; allowed is {}",
                    self.memory.page(access.frame.address).state,
                    self.oracle.describe(self.owner(cpu, tag), page),
                ));
            }
        }
    }

    /// A store through a translation that is known to be dirty sets no flag, so it must be set already, except while a harvest runs.
    fn is_recorded(&self, cpu: usize, page: u64, target: u64) -> bool {
        let Some((table, slot, level)) = self.leaf(cpu, page) else {
            return true;
        };
        let entry = self.memory.word(table, slot);
        let found = Format::Linear.page(entry, level) + (page & (page_table::span(level) - 1));
        self.harvests != 0 || found != target || entry & Format::Linear.dirty() != 0
    }

    fn owner(&self, cpu: usize, tag: Tag) -> u64 {
        match (tag, self.cpus[cpu].guest) {
            (Tag::GuestPhysical { .. }, Some(guest)) => guest.process,
            (Tag::Combined { .. }, Some(guest)) => guest.linear,
            _ => self.loaded(cpu),
        }
    }

    /// If `cpu` runs a program, that may at this moment do whatever its caches allow: all of it must be right.
    pub fn check_cpu(&self, cpu: usize) {
        if self.cpus[cpu].mode != Mode::User {
            return;
        }
        for tag in self.cpus[cpu].usable_tags() {
            if let Some(context) = self.cpus[cpu].cache.contexts.get(&tag) {
                for cached in &context.translations {
                    self.check(cpu, tag, cached, cached.rights.stores());
                }
            }
        }
    }

    /// An operation on `space` returns that took away what was there before the moment `since`: no CPU can use it any more.
    pub fn promise(&mut self, space: u64, range: &std::ops::Range<u64>, since: u64) {
        self.trace(|| format!("space {space}: {range:x?} is over since {since}"));
        self.oracle.promise(space, range, since);
        for cpu in 0..self.cpus.len() {
            self.check_cpu(cpu);
        }
    }

    /// The page at `address` was replaced by `frame`: no program sees two pages in one place.
    pub fn check_only(&self, space: u64, address: u64, frame: u64) {
        for cpu in 0..self.cpus.len() {
            if self.cpus[cpu].mode == Mode::User
                && self.cpus[cpu].guest.is_none()
                && self.loaded(cpu) == space
            {
                for (_, cached) in self.candidates(cpu, address) {
                    if cached.translate(address) != frame {
                        self.violation(&format!(
                            "CPU {cpu} still finds {cached:x?} where {frame:#x} was entered"
                        ));
                    }
                }
            }
        }
    }

    /// A walk for a fault at this page, begun at that moment, marks an entry: nothing there was invalidated since, or the entry may be
    /// anything by now.
    pub fn check_walk(&self, space: u64, page: u64, began: u64) {
        if self.oracle.floor(space, page) > began {
            self.violation(&format!(
                "a walk for page {page:#x} of space {space} marks an entry after its invalidation"
            ));
        }
    }

    /// `copy` takes the place of `original`, of which it has all but the stores since it was made: there must be none.
    pub fn check_copy(&self, original: u64, copy: u64) {
        let [had, has] = [original, copy].map(|frame| self.memory.page(frame).stores);
        if had != has {
            self.violation(&format!(
                "{} stores to {original:#x} are not in its copy",
                had - has
            ));
        }
    }

    /// A copy takes the place of a frame: from this moment nobody may see the original there, since the copy may be written to.
    pub fn promise_frame(&mut self, object: u64, page: u64, original: u64) {
        let original = self.frame(original);
        self.oracle.promise_frame(object, page, original);
        for cpu in 0..self.cpus.len() {
            self.check_cpu(cpu);
        }
    }

    /// What a CPU does from now on.
    pub fn set_mode(&mut self, cpu: usize, mode: Mode) {
        self.cpus[cpu].mode = mode;
        self.check_cpu(cpu);
    }
}
