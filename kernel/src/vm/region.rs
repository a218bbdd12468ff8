//! What a map entry is: object, offset, rights and kind.

use super::object::MemoryObject;
use super::vmspace::to_table;
use crate::pmap::Target;
use alloc::sync::Arc;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Protection, Vpte};
use page_table::CacheMode;
use vm_map::Payload;

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

    /// True if there is memory behind the entry.
    pub(super) fn is_memory(&self) -> bool {
        matches!(self.role, Role::Memory | Role::Stack)
    }

    /// What a load `distance` bytes into the entry would be given, if the page is there already. Not for virtual page tables.
    pub(super) fn resident(&self, distance: u64) -> Option<Target> {
        let at = |physical, protection| Target {
            physical,
            level: 1,
            protection: to_table(protection),
            cache: CacheMode::WriteBack,
        };
        let index = (self.offset + distance) / PAGE_SIZE;
        let Some(overlay) = &self.overlay else {
            return Some(at(self.object.resident_page(index)?, self.protection));
        };
        match overlay
            .object
            .resident_page((overlay.offset + distance) / PAGE_SIZE)
        {
            Some(copy) => Some(at(copy, self.protection)),
            None => Some(at(
                self.object.resident_page(index)?,
                self.protection - Protection::WRITE,
            )),
        }
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
