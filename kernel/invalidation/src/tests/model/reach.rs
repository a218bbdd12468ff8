//! A CPU caches whatever it can reach, as soon as it can reach it.
//!
//! A walk may begin at the loaded root and at every paging-structure entry under the current tags, whatever the table that
//! it points to has become meanwhile (4.10.3.2). So whenever memory, a root or a tag changes, each CPU takes all that is
//! now reachable into its caches. A walk into a page that is no longer the table that it was is the violation that this finds.

use super::cache::{Cached, Rights, Tag};
use super::format::Format;
use super::memory::Use;
use super::{Guest, Hardware};
use crate::tests::universe;
use page_table::span;

/// A table that a walker stands before.
#[derive(Clone, Copy)]
struct At {
    table: u64,
    allocation: u64,
    level: u8,
    base: u64,
    rights: Rights,
}

impl At {
    fn behind(cached: &Cached) -> At {
        At {
            table: cached.target,
            allocation: cached.allocation,
            level: cached.level - 1,
            base: cached.base,
            rights: cached.rights,
        }
    }

    fn root(table: u64, allocation: u64) -> At {
        At {
            table,
            allocation,
            level: page_table::ROOT_LEVEL,
            base: 0,
            rights: Rights::ALL,
        }
    }
}

impl Hardware {
    /// Takes everything into the caches of `cpu` that it can reach now.
    pub fn reach(&mut self, cpu: usize) {
        match self.cpus[cpu].guest {
            None => self.reach_host(cpu, None),
            Some(guest) => self.reach_guest(cpu, guest),
        }
    }

    /// After a word of `page` changed: what CPUs can reach through it.
    pub fn changed(&mut self, page: u64, index: usize) {
        for cpu in 0..self.cpus.len() {
            match self.cpus[cpu].guest {
                None => self.reach_host(cpu, Some((page, index))),
                Some(guest) => self.reach_guest(cpu, guest),
            }
        }
    }

    /// Where the walkers of a CPU outside of a guest may begin.
    fn host_starts(&mut self, cpu: usize) -> Vec<At> {
        let tag = self.cpus[cpu].linear_tag();
        let root = self.cpus[cpu].root;
        let allocation = self.cpus[cpu].root_allocation;
        let structures = &self.cpus[cpu].cache.context(tag).structures;
        let mut starts: Vec<At> = structures.iter().map(At::behind).collect();
        starts.push(At::root(root, allocation));
        starts
    }

    /// With `only`, just what that one word leads to.
    fn reach_host(&mut self, cpu: usize, only: Option<(u64, usize)>) {
        let tag = self.cpus[cpu].linear_tag();
        let mut starts = self.host_starts(cpu);
        if let Some((page, index)) = only {
            starts.retain(|at| at.table == page);
            for at in std::mem::take(&mut starts) {
                let entry = self.memory.word(page, index);
                starts.extend(self.take_in(cpu, tag, Format::Linear, &at, index, entry));
            }
        }
        self.walk(cpu, tag, Format::Linear, starts);
    }

    /// Walks tables of one address space down from all `starts`.
    fn walk(&mut self, cpu: usize, tag: Tag, format: Format, mut starts: Vec<At>) {
        let mut seen = Vec::new();
        while let Some(at) = starts.pop() {
            if seen.contains(&(at.table, at.base, at.rights)) {
                continue;
            }
            seen.push((at.table, at.base, at.rights));
            let page = self.memory.page(at.table);
            if page.allocation != at.allocation || !matches!(page.state, Use::Table(_)) {
                self.violation(&format!(
                    "CPU {cpu} walks from {tag:?} into {:#x}, once a table of level {} for {:#x}, now {:?}",
                    at.table, at.level, at.base, page.state
                ));
            }
            let words: Vec<(usize, u64)> = page.words.iter().map(|(&index, &word)| (index, word)).collect();
            for (index, entry) in words {
                starts.extend(self.take_in(cpu, tag, format, &at, index, entry));
            }
        }
    }

    /// Takes one entry of a table into the cache; returns the table that it points to.
    fn take_in(
        &mut self,
        cpu: usize,
        tag: Tag,
        format: Format,
        at: &At,
        index: usize,
        entry: u64,
    ) -> Option<At> {
        if !format.is_present(entry) {
            return None;
        }
        let leaf = format.is_leaf(entry, at.level);
        if format == Format::Linear || self.features.nested_dirty {
            // Nothing is cached from an entry without its accessed flag (4.10.2.3).
            self.memory.set_word(at.table, index, entry | format.accessed());
        }
        let mut own = format.rights(entry, leaf);
        own.dirty |= format == Format::Nested && !self.features.nested_dirty;
        let target = if leaf {
            format.page(entry, at.level)
        } else {
            format.table(entry)
        };
        let cached = Cached {
            level: at.level,
            size: at.level,
            base: at.base + index as u64 * span(at.level),
            target,
            allocation: self.memory.page(target).allocation,
            rights: at.rights.and(own),
            guest_physical: 0,
        };
        if !leaf {
            self.cpus[cpu].cache.context(tag).structures.insert(cached);
            return Some(At::behind(&cached));
        }
        let tag = match tag {
            Tag::Linear { vpid, .. } if format.is_global(entry) => Tag::Linear { vpid, pcid: None },
            other => other,
        };
        if at.level == 1 {
            self.take_translation(cpu, tag, cached);
        } else {
            for page in universe::all_pages().filter(|&page| cached.covers(page)) {
                let small = Cached {
                    level: 1,
                    base: page,
                    target: cached.translate(page),
                    ..cached
                };
                self.take_translation(cpu, tag, small);
            }
        }
        None
    }

    /// One access must not meet two sizes of a page: several families end in a machine check then (see `page_table::Tables::split`).
    fn take_translation(&mut self, cpu: usize, tag: Tag, cached: Cached) {
        let context = self.cpus[cpu].cache.context(tag);
        let mut same = context
            .translations
            .iter()
            .filter(|other| other.base == cached.base);
        if let Some(other) = same.find(|other| other.size != cached.size) {
            let text = format!("CPU {cpu} finds two sizes under {tag:?}: {other:x?} and {cached:x?}");
            self.violation(&text);
        }
        context.translations.insert(cached);
    }

    /// The guest-physical mappings, then everything that the guest's own table makes of them.
    fn reach_guest(&mut self, cpu: usize, guest: Guest) {
        let tag = Tag::GuestPhysical { nested: guest.nested };
        let structures = &self.cpus[cpu].cache.context(tag).structures;
        let mut starts: Vec<At> = structures.iter().map(At::behind).collect();
        starts.push(At::root(guest.nested, guest.nested_allocation));
        self.walk(cpu, tag, Format::Nested, starts);
        self.reach_combined(cpu, guest);
    }

    fn reach_combined(&mut self, cpu: usize, guest: Guest) {
        let tag = guest.combined_tag();
        let nested_dirty = self.features.nested_dirty;
        let physical: Vec<Cached> = self.cpus[cpu]
            .cache
            .context(Tag::GuestPhysical { nested: guest.nested })
            .translations
            .iter()
            .copied()
            .collect();
        let structures = &self.cpus[cpu].cache.context(tag).structures;
        let mut starts: Vec<At> = structures.iter().map(At::behind).collect();
        let walkable = |cached: &Cached| !nested_dirty || cached.rights.stores();
        for root in physical
            .iter()
            .filter(|cached| cached.covers(guest.root) && walkable(cached))
        {
            let table = root.translate(guest.root);
            starts.push(At::root(table, self.memory.page(table).allocation));
        }
        let mut seen = Vec::new();
        while let Some(at) = starts.pop() {
            if seen.contains(&(at.table, at.base, at.rights)) {
                continue;
            }
            seen.push((at.table, at.base, at.rights));
            let page = self.memory.page(at.table);
            if page.allocation != at.allocation || !matches!(page.state, Use::Frame(_)) {
                self.violation(&format!(
                    "CPU {cpu} walks as guest {} into {:#x}, once a table of level {} for {:#x}, now {:?}",
                    guest.linear, at.table, at.level, at.base, page.state
                ));
            }
            let words: Vec<(usize, u64)> = page.words.iter().map(|(&index, &word)| (index, word)).collect();
            for (index, entry) in words {
                if !Format::Linear.is_present(entry) {
                    continue;
                }
                let leaf = Format::Linear.is_leaf(entry, at.level);
                let mut own = Format::Linear.rights(entry, leaf);
                // The guest's own accessed and dirty flags are not modelled: as if they were set.
                own.dirty = true;
                let address = if leaf {
                    Format::Linear.page(entry, at.level)
                } else {
                    Format::Linear.table(entry)
                };
                for mapping in physical
                    .iter()
                    .filter(|cached| cached.covers(address) && (leaf || walkable(cached)))
                {
                    let target = mapping.translate(address);
                    let mut rights = at.rights.and(own);
                    if leaf {
                        // What nested paging allows counts for the page, not for the tables on the way.
                        rights = rights.and(Rights {
                            user: true,
                            ..mapping.rights
                        });
                    }
                    let cached = Cached {
                        level: at.level,
                        size: at.level,
                        base: at.base + index as u64 * span(at.level),
                        target,
                        allocation: self.memory.page(target).allocation,
                        rights,
                        guest_physical: address,
                    };
                    let global = leaf && Format::Linear.is_global(entry);
                    let tag = match tag {
                        Tag::Combined { vpid, nested, .. } if global => Tag::Combined {
                            vpid,
                            pcid: None,
                            nested,
                        },
                        other => other,
                    };
                    let context = self.cpus[cpu].cache.context(tag);
                    if leaf {
                        context.translations.insert(cached);
                    } else {
                        context.structures.insert(cached);
                        starts.push(At::behind(&cached));
                    }
                }
            }
        }
    }

    /// True if the walkers of some CPU may stand in `page` at this moment; says which.
    pub fn walkers_in(&self, page: u64) -> Option<usize> {
        (0..self.cpus.len()).find(|&cpu| {
            let processor = &self.cpus[cpu];
            let structures = processor
                .usable_tags()
                .filter_map(|tag| processor.cache.contexts.get(&tag))
                .flat_map(|context| &context.structures);
            let nested = processor.guest.map(|guest| guest.nested);
            let root = match nested {
                None => processor.root == page,
                Some(nested) => nested == page,
            };
            root || structures.into_iter().any(|cached| cached.target == page)
        })
    }
}
