//! The walker of virtual page tables: page tables of the hardware's format that live in a memory object and name
//! pages of that object.
//!
//! Everything that it reads is hostile: the owner of the object writes it, at any time and from any CPU. A walk takes a
//! fixed number of steps, uses each entry as it was read once, and bounds every page number by the size of the object.

use crate::{Interlock, Stamp};
use dragonet_abi::memory::Vpte;

/// Entry words of the object that holds the table.
pub trait VpteMemory {
    /// Pages of the object; a page number must be below.
    fn pages(&self) -> u64;
    /// The entry, zero where the object was never written. `page` is below [`Self::pages`], `index` below 512.
    fn load(&self, page: u64, index: usize) -> u64;
    /// Atomically writes `new` if the entry is `old`.
    ///
    /// # Errors
    /// The entry that is there instead.
    fn compare_exchange(&self, page: u64, index: usize, old: u64, new: u64) -> Result<(), u64>;
}

/// What the access wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A store.
    pub write: bool,
    /// An instruction fetch.
    pub execute: bool,
}

/// Where an access goes and what may go there from now on without another walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Page of the object.
    pub page: u64,
    /// Every level allows stores *and* the dirty bit is set, so that nothing is missed if stores are no longer seen.
    pub writable: bool,
    /// No level forbids fetches.
    pub executable: bool,
    /// Entries read.
    pub steps: u32,
}

/// Why there is no translation. The order is that of the checks in hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An entry is not valid.
    NotValid,
    /// An entry has bits set that must be clear where it stands: a large root-level entry, an unaligned large page.
    Reserved,
    /// A page number lies outside the object.
    OutOfBounds,
    /// The entries are valid but do not allow the access from user mode.
    Denied,
    /// The table keeps changing under the walker. The access may be tried again.
    Busy,
}

/// [`walk`] for a fault at `place`, a mapping's address, by someone who found `root` there since `stamp`. `None`, with the memory neither read
/// nor marked, if something at `place` was invalidated meanwhile.
///
/// Whoever invalidates needs the interlock for itself, so it waits for walks, and no walk that began before it comes after it: what
/// was a table may be anything by then, and a mark in it would be damage.
pub fn walk_since(
    interlock: &Interlock,
    stamp: Stamp,
    place: u64,
    memory: &impl VpteMemory,
    root: u64,
    address: u64,
    access: Access,
) -> Option<Result<Translation, Refusal>> {
    interlock
        .admits(stamp, place)
        .then(|| walk(memory, root, address, access))
}

/// Translates `address`, an index into the table's 48-bit space, beginning with the entry `root`.
///
/// The root is an entry like any other, except that it lives in no memory and so has no accessed and dirty bits: with
/// [`Vpte::LARGE`] it maps the object linearly, otherwise it points to the level-4 table. Every level must be valid and allow the
/// access; all must have [`Vpte::USER`], since whoever faults is in user mode. Accessed bits are set in each entry
/// used and the dirty bit in the last one on a store, by compare-and-swap: an entry that changes meanwhile is judged anew.
///
/// # Errors
/// The [`Refusal`]; no accessed bit of the entry that refuses is set.
pub fn walk(
    memory: &impl VpteMemory,
    root: u64,
    address: u64,
    access: Access,
) -> Result<Translation, Refusal> {
    let mut entry = root;
    let (mut write, mut user, mut execute) = (true, true, true);
    let mut level = 5;
    let mut steps = 0;
    if !Vpte(entry).has(Vpte::VALID) {
        return Err(Refusal::NotValid);
    }
    let dirty = loop {
        write &= Vpte(entry).has(Vpte::WRITE);
        user &= Vpte(entry).has(Vpte::USER);
        execute &= !Vpte(entry).has(Vpte::NO_EXECUTE);
        if level == 5 && Vpte(entry).has(Vpte::LARGE) {
            // No entry in memory can tell that a store happened, so nobody can rely on a dirty bit.
            break true;
        }
        if level <= 3 && (level == 1 || Vpte(entry).has(Vpte::LARGE)) {
            break Vpte(entry).has(Vpte::DIRTY);
        }
        let page = Vpte(entry).offset() >> 12;
        if page >= memory.pages() {
            return Err(Refusal::OutOfBounds);
        }
        level -= 1;
        let index = super::index(address, level);
        entry = memory.load(page, index);
        loop {
            steps += 1;
            let last = judge(entry, level)?;
            let writable = write && Vpte(entry).has(Vpte::WRITE);
            let executable = execute && !Vpte(entry).has(Vpte::NO_EXECUTE);
            let reachable = user && Vpte(entry).has(Vpte::USER);
            let denied = !reachable || access.write && !writable || access.execute && !executable;
            if last && denied {
                return Err(Refusal::Denied);
            }
            let mut used = entry | Vpte::ACCESSED;
            if last && access.write {
                used |= Vpte::DIRTY;
            }
            if last && target(entry, level, address) >= memory.pages() {
                return Err(Refusal::OutOfBounds);
            }
            if used == entry {
                break;
            }
            match memory.compare_exchange(page, index, entry, used) {
                Ok(()) => {
                    entry = used;
                    break;
                }
                Err(_) if steps >= MAX_STEPS => return Err(Refusal::Busy),
                Err(now) => entry = now,
            }
        }
    };
    if !user || access.write && !write || access.execute && !execute {
        return Err(Refusal::Denied);
    }
    let page = target(entry, level, address);
    if page >= memory.pages() {
        return Err(Refusal::OutOfBounds);
    }
    Ok(Translation {
        page,
        writable: write && dirty,
        executable: execute,
        steps,
    })
}

/// Steps after which a walk gives up on a table that keeps changing.
const MAX_STEPS: u32 = 64;

/// Checks an entry of a table of `level`; true if it ends the walk.
fn judge(entry: u64, level: u8) -> Result<bool, Refusal> {
    let vpte = Vpte(entry);
    if !vpte.has(Vpte::VALID) {
        return Err(Refusal::NotValid);
    }
    if level == 1 {
        return Ok(true);
    }
    if !vpte.has(Vpte::LARGE) {
        return Ok(false);
    }
    // Bit 12 of a large leaf selects the memory type and is not part of the address.
    let unaligned = vpte.offset() & (super::span(level) - 1) & !(1 << 12) != 0;
    if level == 4 || unaligned {
        Err(Refusal::Reserved)
    } else {
        Ok(true)
    }
}

/// The page that a last entry names for `address`. With a root entry (level 5) the whole address counts.
fn target(entry: u64, level: u8, address: u64) -> u64 {
    let offset = Vpte(entry).offset();
    if level == 5 {
        return (offset >> 12).saturating_add((address & (super::ADDRESS_END - 1)) >> 12);
    }
    let within = super::span(level) - 1;
    (offset & !within | address & within) >> 12
}
