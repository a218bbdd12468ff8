//! What a map entry is: object, offset, rights and kind.

use super::object::MemoryObject;
use super::vmspace::to_table;
use crate::mm::{self, PageTree, TakenPages};
use crate::pmap::Target;
use alloc::sync::Arc;
use core::ops::Range;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Inheritance, Protection, Vpte};
use page_table::CacheMode;
use vm_map::{Entry, Map, Payload};

/// Pages that are taken out of a tree at once, with interrupts off.
pub(super) const DROP_BATCH: usize = 256;

/// What an entry is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Memory.
    Memory,
    /// Memory of a stack, which takes over addresses from an [`Role::Ungrown`] entry right below.
    Stack,
    /// Reserved for the stack right above.
    Ungrown,
    /// Reserved for nothing.
    Guard,
}

/// A private mapping's own pages.
#[derive(Clone, Debug)]
pub(super) struct Overlay {
    /// The copies, by page.
    pub(super) object: Arc<MemoryObject>,
    /// Byte in it that the entry's start corresponds to.
    pub(super) offset: u64,
}

/// Payload of a map entry.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) role: Role,
    pub(super) object: Arc<MemoryObject>,
    /// Byte in the object that the entry's start corresponds to. With a virtual page table: index of the entry's start.
    pub(super) offset: u64,
    /// Accesses allowed now.
    pub(super) protection: Protection,
    /// Accesses that `mprotect` can give.
    pub(super) maximum: Protection,
    /// Where writes go, if not to the object.
    pub(super) overlay: Option<Overlay>,
    /// Root entry, if translations come from a page table in the object.
    pub(super) root: Option<Vpte>,
    /// Memory of a virtual machine, whose own page tables decide about execution.
    pub(super) guest_memory: bool,
    /// What a fork makes of it.
    pub(super) inheritance: Inheritance,
}

impl Region {
    /// What a program gets that asks for `protection`. Write and execute cannot be asked for together; in a mapping with a virtual
    /// page table, whose entries decide page by page, execute comes with the right to it.
    pub(super) fn effective(&self, protection: Protection) -> Protection {
        if self.root.is_some() && protection.contains(Protection::READ) {
            protection | self.maximum & Protection::EXECUTE
        } else {
            protection
        }
    }

    /// Becomes what guests see: of a virtual machine's memory, their own page tables say page by page what may be executed, as the entries of a
    /// virtual page table do.
    pub(super) fn show_to_guest(&mut self) {
        if self.guest_memory && self.protection.contains(Protection::READ) {
            self.protection |= self.maximum & Protection::EXECUTE;
        }
    }

    /// True if there is memory behind the entry.
    pub(super) fn is_memory(&self) -> bool {
        matches!(self.role, Role::Memory | Role::Stack)
    }

    /// What a load `distance` bytes into the entry would be given, if the page is there already. Not for virtual page tables.
    pub(super) fn resident(&self, distance: u64) -> Option<Target> {
        let own = self
            .own_pages()
            .and_then(|(pages, offset)| pages.get((offset + distance) / PAGE_SIZE));
        let (physical, protection) = match own {
            Some(page) if mm::is_shared(page) => (page, self.protection - Protection::WRITE),
            Some(page) => (page, self.protection),
            None => {
                let page = self.object.resident_page((self.offset + distance) / PAGE_SIZE)?;
                let mut allowed = self.protection;
                if self.overlay.is_some() {
                    // A store makes a copy.
                    allowed -= Protection::WRITE;
                }
                (page, allowed)
            }
        };
        Some(Target {
            physical,
            level: 1,
            protection: to_table(protection),
            cache: CacheMode::WriteBack,
        })
    }

    /// The pages that belong to this mapping alone, and the byte among them that the entry's start corresponds to.
    pub(super) fn own_pages(&self) -> Option<(&PageTree, u64)> {
        let (object, offset) = match &self.overlay {
            Some(overlay) => (&overlay.object, overlay.offset),
            None => (&self.object, self.offset),
        };
        object.private_pages().map(|pages| (pages, offset))
    }

    /// Gives back the own pages of an entry of `length` bytes that is in no map and no page table any more, if another entry keeps
    /// the object that has them. Otherwise they go with the object.
    pub(super) fn discard(&self, length: u64) {
        let object = self
            .overlay
            .as_ref()
            .map_or(&self.object, |overlay| &overlay.object);
        let Some((pages, offset)) = self.own_pages().filter(|_| Arc::strong_count(object) > 1) else {
            return;
        };
        let mut index = offset / PAGE_SIZE;
        let end = (offset + length) / PAGE_SIZE;
        while index < end {
            let mut taken = TakenPages::new();
            index = pages.take(index..end, DROP_BATCH, &mut taken);
        }
    }

    /// True if a fork can do that with it. Reserved addresses have nothing to share or copy and are inherited as they are. Private
    /// memory cannot be shared: its pages come and go under the interlock of one vmspace. Shared memory cannot be copied: nobody
    /// knows every translation through which its pages may be written.
    pub(super) fn can_inherit(&self, inheritance: Inheritance) -> bool {
        match inheritance {
            _ if !self.is_memory() => true,
            Inheritance::None => true,
            Inheritance::Share => self.own_pages().is_none(),
            Inheritance::Copy | Inheritance::Zero => self.own_pages().is_some(),
        }
    }

    /// Bytes of address space that an account is charged for `length` bytes of it. Mappings with virtual page tables, of which a
    /// vkernel has a whole user space each, are free.
    pub(super) fn charged(&self, length: u64) -> u64 {
        if self.root.is_some() { 0 } else { length }
    }

    /// True if this, `distance` bytes from the start of its entry, and `other`, at its own distance, say the same.
    pub(super) fn agrees_with(&self, distance: u64, other: &Region, other_distance: u64) -> bool {
        let overlays = match (&self.overlay, &other.overlay) {
            (Some(one), Some(two)) => {
                Arc::ptr_eq(&one.object, &two.object) && one.offset + distance == two.offset + other_distance
            }
            (one, two) => one.is_none() && two.is_none(),
        };
        overlays
            && self.role == other.role
            && Arc::ptr_eq(&self.object, &other.object)
            && self.offset + distance == other.offset + other_distance
            && self.protection == other.protection
            && self.maximum == other.maximum
            && self.root == other.root
            && self.guest_memory == other.guest_memory
            && self.inheritance == other.inheritance
    }
}

impl Payload for Region {
    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        if let Some(overlay) = &mut self.overlay {
            overlay.offset += bytes;
        }
    }

    fn retreat(&mut self, bytes: u64) -> bool {
        let overlay = self.overlay.as_ref().map_or(u64::MAX, |overlay| overlay.offset);
        if self.offset < bytes || overlay < bytes {
            return false;
        }
        self.offset -= bytes;
        if let Some(overlay) = &mut self.overlay {
            overlay.offset -= bytes;
        }
        true
    }
}

/// Bytes of addresses that entries are charged for.
pub(super) fn charged<'map>(entries: impl Iterator<Item = Entry<&'map Region>>) -> u64 {
    entries
        .map(|entry| entry.payload.charged(entry.end - entry.start))
        .sum()
}

/// The same for the part of the entries that lies in `range`.
pub(super) fn charged_within(map: &Map<Region>, range: &Range<u64>) -> u64 {
    map.overlapping(range.clone())
        .map(|entry| {
            let part = entry.end.min(range.end) - entry.start.max(range.start);
            entry.payload.charged(part)
        })
        .sum()
}
