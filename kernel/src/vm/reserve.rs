//! Addresses that are reserved: guards, and stacks that grow into theirs.
//!
//! A stack is three entries that adjoin each other: a guard, what it has not grown to, and what it has. Only the last one has an
//! object, as large as the whole reservation, in which the place of a page follows from its address; so growing moves
//! a border and nothing else. No translation exists below the border, so nothing is flushed.

use super::fault::{Access, FaultError};
use super::object::MemoryObject;
use super::region::{Region, Role};
use super::vmspace::{MapArguments, Vmspace};
use crate::mm::{self, Account};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::ops::Range;
use dragonet_abi::Errno;
use dragonet_abi::layout::{PAGE_SIZE, STACK_GUARD, STACK_STEP};
use dragonet_abi::memory::{Inheritance, MapFlags, Protection};
use vm_map::{Map, NoBorder, Payload};

/// Entries that one mapping takes at most.
pub(super) const MOST_PARTS: usize = 3;

/// The entries of one mapping, ascending, each with its end.
pub(super) type Parts = ArrayVec<(u64, Region), MOST_PARTS>;

const STACK_PROTECTION: Protection = Protection::READ.union(Protection::WRITE);

/// Reserved addresses, to which `mprotect` can give nothing.
fn reserved(role: Role) -> Region {
    Region {
        role,
        object: MemoryObject::nothing(),
        offset: 0,
        protection: Protection::empty(),
        maximum: Protection::empty(),
        overlay: None,
        root: None,
        inheritance: Inheritance::Share,
    }
}

/// The entry for `GUARD` or `STACK`; none without these flags.
///
/// # Errors
/// EINVAL for flags and protections that do not go with them, or a length without room for a stack; ENOMEM.
pub(super) fn region(
    arguments: &MapArguments,
    length: u64,
    account: &Arc<Account>,
) -> Result<Option<Region>, Errno> {
    let guard = arguments.flags.contains(MapFlags::GUARD);
    let stack = arguments.flags.contains(MapFlags::STACK);
    if !guard && !stack {
        return Ok(None);
    }
    let needed = MapFlags::ANONYMOUS | MapFlags::PRIVATE;
    if guard && stack || !arguments.flags.contains(needed) || arguments.flags.contains(MapFlags::VPAGETABLE) {
        return Err(Errno::EINVAL);
    }
    let protection = if guard {
        Protection::empty()
    } else {
        STACK_PROTECTION
    };
    if arguments.protection != protection || stack && length < STACK_GUARD + PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    if guard {
        return Ok(Some(reserved(Role::Guard)));
    }
    Ok(Some(Region {
        role: Role::Stack,
        object: MemoryObject::private(length, account)?,
        protection,
        maximum: Protection::all(),
        inheritance: Inheritance::Copy,
        ..reserved(Role::Stack)
    }))
}

/// The entries that `range` is made of, if `region` is its payload as a whole.
pub(super) fn parts(range: &Range<u64>, mut region: Region) -> Parts {
    let mut parts = Parts::new();
    if region.role == Role::Stack {
        let bottom = range.start + STACK_GUARD;
        let border = range.end.saturating_sub(STACK_STEP).max(bottom);
        parts.push((bottom, reserved(Role::Guard)));
        if bottom < border {
            parts.push((border, reserved(Role::Ungrown)));
        }
        region.advance(border - range.start);
    }
    parts.push((range.end, region));
    parts
}

impl Vmspace {
    /// Grows the stack above `page` down to it, rounded. The access is then tried again.
    ///
    /// # Errors
    /// Guard if there is no stack right above any more; Protection if what is right above does not allow the access; out of
    /// memory.
    pub(super) fn grow_stack(&self, page: u64, access: Access) -> Result<(), FaultError> {
        // Outlives the lock, as everything that is dropped.
        let _gone;
        let mut map = self.map.lock();
        _gone = grow(&mut map, page, access)?;
        Ok(())
    }
}

/// [`Vmspace::grow_stack`] under the map's lock. What it returns is dropped without it.
pub(super) fn grow(map: &mut Map<Region>, page: u64, access: Access) -> Result<Option<Region>, FaultError> {
    // Another key in the tree may take a node of it.
    mm::check_headroom().map_err(|_| FaultError::OutOfMemory)?;
    let entry = map.find(page).ok_or(FaultError::NotMapped)?;
    if entry.payload.role != Role::Ungrown {
        // Somebody else was faster.
        return Ok(None);
    }
    let (bottom, border) = (entry.start, entry.end);
    let above = map
        .find(border)
        .filter(|above| above.start == border && above.payload.role == Role::Stack);
    let above = above.ok_or(FaultError::Guard)?;
    if !access.allowed_by(above.payload.protection) {
        return Err(FaultError::Protection);
    }
    let to = (page - page % STACK_STEP).max(bottom);
    map.lower_border(border, to).map_err(|NoBorder| FaultError::Guard)
}
