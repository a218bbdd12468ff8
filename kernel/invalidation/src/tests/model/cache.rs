//! The caches of one CPU and what each operation takes out of them: what the manual says that it must drop, and nothing more.
//!
//! Sections are those of the Intel SDM, volume 3.

use page_table::span;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Who may use a cached entry (4.10.1, 29.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    /// Linear addresses without nested paging. `pcid` is `None` for global translations (4.10.2.4).
    Linear { vpid: u16, pcid: Option<u16> },
    /// Guest-physical addresses.
    GuestPhysical { nested: u64 },
    /// Linear addresses under nested paging.
    Combined {
        vpid: u16,
        pcid: Option<u16>,
        nested: u64,
    },
}

/// Accesses that an entry allows. Loads always; every access here is one of user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rights {
    pub write: bool,
    pub user: bool,
    /// Stores need not set the dirty flag in the table any more.
    pub dirty: bool,
}

impl Rights {
    pub const ALL: Rights = Rights {
        write: true,
        user: true,
        dirty: true,
    };

    pub fn and(self, other: Rights) -> Rights {
        Rights {
            write: self.write && other.write,
            user: self.user && other.user,
            dirty: self.dirty && other.dirty,
        }
    }

    /// Stores complete without another walk.
    pub fn stores(self) -> bool {
        self.write && self.dirty
    }
}

/// A translation, or a pointer to a table from a paging-structure cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cached {
    /// Level of the entry that it was made from: it is for addresses that share what lies above. Of a translation always 1: a large
    /// page is cached as several small ones (4.10.2.3), those that programs use.
    pub level: u8,
    /// Level of the leaf that a translation was made from.
    pub size: u8,
    /// First address.
    pub base: u64,
    /// First physical address of the page, or that of the table.
    pub target: u64,
    /// The allocation that `target` belonged to.
    pub allocation: u64,
    /// What the entry and all above it allow.
    pub rights: Rights,
    /// Of a combined translation: the guest-physical address on the way, which only the oracle looks at.
    pub guest_physical: u64,
}

impl Cached {
    pub fn covers(&self, address: u64) -> bool {
        self.base <= address && address - self.base < span(self.level)
    }

    /// Where `address` goes.
    pub fn translate(&self, address: u64) -> u64 {
        self.target + (address - self.base)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Context {
    pub translations: BTreeSet<Cached>,
    pub structures: BTreeSet<Cached>,
}

impl Context {
    /// Drops what would be used to translate `address`.
    fn drop_address(&mut self, address: u64) {
        self.translations.retain(|cached| !cached.covers(address));
        self.structures.retain(|cached| !cached.covers(address));
    }
}

#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub contexts: BTreeMap<Tag, Context>,
}

/// Types of INVPCID (volume 2).
#[derive(Clone, Copy, Debug)]
pub enum Invpcid {
    Address(u16, u64),
    Single(u16),
    AllWithGlobals,
    All,
}

/// Types of INVVPID (29.4.3.1).
#[derive(Clone, Copy, Debug)]
pub enum Invvpid {
    Address(u16, u64),
    Single(u16),
    All,
    SingleRetainingGlobals(u16),
}

impl Tag {
    /// VPID and PCID of a mapping for linear addresses.
    fn linear(self) -> Option<(u16, Option<u16>)> {
        match self {
            Tag::Linear { vpid, pcid } | Tag::Combined { vpid, pcid, .. } => Some((vpid, pcid)),
            Tag::GuestPhysical { .. } => None,
        }
    }
}

impl Cache {
    pub fn context(&mut self, tag: Tag) -> &mut Context {
        self.contexts.entry(tag).or_default()
    }

    fn drop_contexts(&mut self, drop: impl Fn(Tag) -> bool) {
        self.contexts.retain(|&tag, _| !drop(tag));
    }

    fn linear_contexts(&mut self, vpid: u16) -> impl Iterator<Item = (Option<u16>, &mut Context)> {
        self.contexts
            .iter_mut()
            .filter_map(move |(tag, context)| match tag.linear() {
                Some((of, pcid)) if of == vpid => Some((pcid, context)),
                _ => None,
            })
    }

    /// INVLPG: the translations of the address under the current PCID, global ones under any, and *all* paging-structure entries of
    /// the current PCID (4.10.4.1). `page` is what the tables now say that the page of the address is: only if that is a large
    /// one, all small ones go that a TLB has of it (4.10.2.3, 4.10.4.1).
    pub fn invlpg(&mut self, vpid: u16, pcid: u16, page: &Range<u64>) {
        self.forget_translations(vpid, pcid, page);
        for (of, context) in self.linear_contexts(vpid) {
            if of == Some(pcid) {
                context.structures.clear();
            }
        }
    }

    /// What INVLPG does to translations.
    pub fn forget_translations(&mut self, vpid: u16, pcid: u16, page: &Range<u64>) {
        for (of, context) in self.linear_contexts(vpid) {
            if of.is_none_or(|of| of == pcid) {
                context.translations.retain(|cached| !page.contains(&cached.base));
            }
        }
    }

    /// MOV to CR3: what is not global under the PCID that is loaded, unless bit 63 says to keep it (4.10.4.1).
    pub fn mov_to_cr3(&mut self, vpid: u16, pcid: u16, keep: bool) {
        if !keep {
            self.drop_contexts(|tag| tag.linear() == Some((vpid, Some(pcid))));
        }
    }

    /// MOV to CR4 that changes PGE: everything under all PCIDs, global translations too (4.10.4.1).
    pub fn mov_to_cr4_pge(&mut self, vpid: u16) {
        self.drop_contexts(|tag| tag.linear().is_some_and(|(of, _)| of == vpid));
    }

    /// INVPCID (4.10.4.1). With an address it drops only what would be used to translate that address.
    pub fn invpcid(&mut self, vpid: u16, what: Invpcid) {
        match what {
            Invpcid::Address(pcid, address) => {
                for (of, context) in self.linear_contexts(vpid) {
                    if of == Some(pcid) {
                        context.drop_address(address);
                    }
                }
            }
            Invpcid::Single(pcid) => self.mov_to_cr3(vpid, pcid, false),
            Invpcid::AllWithGlobals => self.mov_to_cr4_pge(vpid),
            Invpcid::All => {
                self.drop_contexts(|tag| {
                    tag.linear()
                        .is_some_and(|(of, pcid)| of == vpid && pcid.is_some())
                });
            }
        }
    }

    /// A page fault: what would be used to translate the address under the current PCID (4.10.4.1), here with the global
    /// translations of the page, which could not have allowed the access either.
    pub fn page_fault(&mut self, vpid: u16, pcid: u16, address: u64) {
        for (of, context) in self.linear_contexts(vpid) {
            if of.is_none_or(|of| of == pcid) {
                context.drop_address(address);
            }
        }
    }

    /// An EPT violation: what would be used to translate the guest-physical address, and the combined mappings of the linear
    /// address whose translation it was (29.4.3.1).
    pub fn ept_violation(&mut self, vpid: u16, pcid: u16, nested: u64, physical: u64, linear: u64) {
        self.context(Tag::GuestPhysical { nested }).drop_address(physical);
        for pcid in [Some(pcid), None] {
            self.context(Tag::Combined { vpid, pcid, nested })
                .drop_address(linear);
        }
    }

    /// INVEPT for one root: guest-physical mappings, and combined ones under every VPID and PCID; no linear ones (29.4.3.1).
    pub fn invept(&mut self, root: u64) {
        self.drop_contexts(|tag| match tag {
            Tag::GuestPhysical { nested } | Tag::Combined { nested, .. } => nested == root,
            Tag::Linear { .. } => false,
        });
    }

    /// INVEPT for all roots (29.4.3.1).
    pub fn invept_all(&mut self) {
        self.drop_contexts(|tag| !matches!(tag, Tag::Linear { .. }));
    }

    /// INVVPID: linear and combined mappings under every PCID and root; no guest-physical ones (29.4.3.1).
    pub fn invvpid(&mut self, what: Invvpid) {
        match what {
            Invvpid::Address(vpid, address) => {
                for (_, context) in self.linear_contexts(vpid) {
                    context.drop_address(address);
                }
            }
            Invvpid::Single(vpid) => {
                self.drop_contexts(|tag| tag.linear().is_some_and(|(of, _)| of == vpid));
            }
            Invvpid::All => self.drop_contexts(|tag| tag.linear().is_some_and(|(of, _)| of != 0)),
            Invvpid::SingleRetainingGlobals(vpid) => {
                self.drop_contexts(|tag| {
                    tag.linear()
                        .is_some_and(|(of, pcid)| of == vpid && pcid.is_some())
                });
            }
        }
    }

    /// VM entry or exit while VPIDs are off: linear and combined mappings under VPID 0, for all PCIDs and roots (29.4.3.1). With
    /// VPIDs on, a transition drops nothing.
    pub fn transition_without_vpids(&mut self) {
        self.drop_contexts(|tag| tag.linear().is_some_and(|(of, _)| of == 0));
    }
}
