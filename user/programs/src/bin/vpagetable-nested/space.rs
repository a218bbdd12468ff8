//! Address spaces that level 1 makes: level 2's own, and those of its users.
//!
//! A map says what each address means, the shadow caches the answers for the microkernel: the division that the microkernel has too.

use crate::object::Object;
use crate::shadow::Shadow;
use alloc::rc::Rc;
use core::ops::Range;
use dragonet_abi::Errno;
use dragonet_abi::layout::{PAGE_SIZE, PLACEMENT_END, PLACEMENT_START, USER_END, USER_START};
use dragonet_abi::memory::{MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::vmspace::{RUN_EXCEPTION, RunState};
use dragonet_programs::vm::{Guest, Ram, run_for};
use page_table::vpagetable::{self, Access, Refusal};
use vm_map::{Map, Payload};

/// Entries of a space at most.
const MAX_ENTRIES: usize = 4096;
/// Vector of a page fault.
const PAGE_FAULT: u32 = 14;
/// Bits of its error code.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const RESERVED: u64 = 8;
const FETCH: u64 = 16;

/// What a range of addresses shows.
#[derive(Clone)]
pub struct Region {
    object: Rc<Object>,
    /// Byte in the object, or index of the table, that the start corresponds to.
    offset: u64,
    protection: Protection,
    /// Root entry, if a table in the object says what is shown.
    pub root: Option<Vpte>,
}

impl Payload for Region {
    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn retreat(&mut self, bytes: u64) -> bool {
        self.offset
            .checked_sub(bytes)
            .map(|offset| self.offset = offset)
            .is_some()
    }
}

/// An address space: a map, a shadow, and the vmspace of the microkernel that sees the RAM through it.
pub struct Space {
    ram: Rc<Ram>,
    map: Map<Region>,
    shadow: Shadow,
    guest: Guest,
}

impl Space {
    /// An empty one.
    pub fn new(ram: &Rc<Ram>) -> Result<Self, Errno> {
        let (shadow, guest) = (Shadow::new(ram)?, Guest::empty()?);
        guest.map_table(ram, USER_START, USER_END - USER_START, USER_START, shadow.root())?;
        Ok(Space {
            ram: Rc::clone(ram),
            map: Map::new(USER_START..USER_END, MAX_ENTRIES),
            shadow,
            guest,
        })
    }

    /// Maps an object; with `VPAGETABLE` by a table in it, which has no root yet. `None` stands for new memory.
    pub fn map(&mut self, request: &MapRequest, object: Option<Rc<Object>>) -> Result<u64, Errno> {
        let flags = MapFlags::from_bits(request.flags).ok_or(Errno::EINVAL)?;
        let length = request
            .length
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(Errno::EINVAL)?;
        let vpagetable = flags.contains(MapFlags::VPAGETABLE);
        let object = object.unwrap_or_else(|| Object::new(&self.ram, length));
        let end = request.offset.checked_add(length).ok_or(Errno::ERANGE)?;
        if !vpagetable && end > object.size() {
            return Err(Errno::ERANGE);
        }
        let range = if flags.contains(MapFlags::FIXED) {
            let range = checked(request.address, length)?;
            self.unmap(&range)?;
            range
        } else {
            let gap = self.map.find_gap(length, PLACEMENT_START..PLACEMENT_END);
            let start = gap.filter(|_| length > 0).ok_or(Errno::ENOMEM)?;
            start..start + length
        };
        let region = Region {
            object,
            offset: request.offset,
            protection: Protection::from_bits(request.protection).ok_or(Errno::EINVAL)?,
            root: vpagetable.then_some(Vpte(0)),
        };
        let start = range.start;
        self.map.insert(range, region).map_err(|_| Errno::ENOMEM)?;
        Ok(start)
    }

    /// Unmaps a range.
    pub fn unmap(&mut self, range: &Range<u64>) -> Result<(), Errno> {
        let removed = self.map.remove(range.clone()).map_err(|_| Errno::ENOMEM)?;
        drop(removed);
        self.forget(range)
    }

    /// Sets the root of a range that consists of mappings with tables.
    pub fn set_root(&mut self, range: &Range<u64>, root: Vpte) -> Result<(), Errno> {
        let covered = range.start < range.end && self.map.covers(range.clone());
        if !covered || !self.has_tables_only(range) {
            return Err(Errno::EINVAL);
        }
        self.map
            .update(range.clone(), |region| region.root = Some(root))
            .map_err(|_| Errno::ENOMEM)?;
        self.forget(range)
    }

    /// Makes changes of level 2's table visible.
    pub fn invalidate(&self, range: &Range<u64>) -> Result<(), Errno> {
        if !self.has_tables_only(range) {
            return Err(Errno::EINVAL);
        }
        self.forget(range)
    }

    fn has_tables_only(&self, range: &Range<u64>) -> bool {
        self.map
            .overlapping(range.clone())
            .all(|entry| entry.payload.root.is_some())
    }

    /// Drops translations: first from the shadow, then from what the microkernel made of it.
    fn forget(&self, range: &Range<u64>) -> Result<(), Errno> {
        self.shadow.remove(range);
        self.guest.invalidate(range.start, range.end - range.start)
    }

    /// Finds what an access reaches and enters it into the shadow; returns where its page is in the RAM.
    ///
    /// # Errors
    /// The error code for whoever made the access.
    pub fn resolve(&self, address: u64, access: Access) -> Result<u64, u64> {
        let fault = |cause: u64| {
            cause | USER | if access.write { WRITE } else { 0 } | if access.execute { FETCH } else { 0 }
        };
        let page = address & !(PAGE_SIZE - 1);
        let entry = self.map.find(page).ok_or(fault(0))?;
        let region = entry.payload;
        let index = region.offset + (page - entry.start);
        let (number, protection) = match region.root {
            None => {
                let wanted = page_table::Protection::from_bits_truncate(region.protection.bits() as u8);
                if !allows(wanted, access) {
                    return Err(fault(PRESENT));
                }
                (index / PAGE_SIZE, wanted)
            }
            Some(root) => {
                let walked = vpagetable::walk(&*region.object, root.0, index, access);
                let found = walked.map_err(|refusal| match refusal {
                    Refusal::NotValid | Refusal::Busy => fault(0),
                    Refusal::Denied => fault(PRESENT),
                    Refusal::Reserved | Refusal::OutOfBounds => fault(PRESENT | RESERVED),
                })?;
                let mut protection = page_table::Protection::READ;
                protection.set(page_table::Protection::WRITE, found.writable);
                protection.set(page_table::Protection::EXECUTE, found.executable);
                (found.page, protection)
            }
        };
        let place = region.object.place(number).map_err(|_| fault(0))?;
        self.shadow
            .enter(page, place, protection, |range| {
                self.guest.invalidate(range.start, range.end - range.start)
            })
            .map_err(|_| fault(0))?;
        Ok(place + (address - page))
    }

    /// Runs a user until something happens that level 1 cannot resolve; faults have the error code that level 2's table gives.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        let timeout = state.timeout;
        loop {
            *state = run_for(self.guest.vmspace(), state.registers, timeout)?;
            if state.reason != RUN_EXCEPTION || state.vector != PAGE_FAULT {
                return Ok(());
            }
            let access = Access {
                write: state.error_code & WRITE != 0,
                execute: state.error_code & FETCH != 0,
            };
            if let Err(code) = self.resolve(state.fault_address, access) {
                state.error_code = code;
                return Ok(());
            }
        }
    }

    /// Copies from the space; how much, up to the first bad page.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let access = Access::default();
        self.transfer(address, buffer.len(), access, |place, range| {
            self.ram.read(place, &mut buffer[range])
        })
    }

    /// Copies to the space; how much, up to the first bad page.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let access = Access {
            write: true,
            execute: false,
        };
        self.transfer(address, bytes.len(), access, |place, range| {
            self.ram.write(place, &bytes[range])
        })
    }

    fn transfer(
        &self,
        address: u64,
        length: usize,
        access: Access,
        mut copy: impl FnMut(u64, Range<usize>) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let Ok(place) = self.resolve(at, access) else {
                break;
            };
            let in_page = (PAGE_SIZE - at % PAGE_SIZE) as usize;
            let end = length.min(done + in_page);
            copy(place, done..end)?;
            done = end;
        }
        if done == 0 && length > 0 {
            return Err(Errno::EFAULT);
        }
        Ok(done)
    }
}

const fn allows(protection: page_table::Protection, access: Access) -> bool {
    use page_table::Protection as P;
    protection.contains(P::READ)
        && (!access.write || protection.contains(P::WRITE))
        && (!access.execute || protection.contains(P::EXECUTE))
}

/// A page-aligned range of a program's addresses; empty for length 0.
pub fn checked(address: u64, length: u64) -> Result<Range<u64>, Errno> {
    let length = length.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let end = address.checked_add(length).ok_or(Errno::EINVAL)?;
    if !address.is_multiple_of(PAGE_SIZE) || address < USER_START || end > USER_END {
        return Err(Errno::EINVAL);
    }
    Ok(address..end)
}
