//! Page faults of programs: bring the page in, copy it on write, or say what is wrong.

use crate::linux::Errno;
use crate::memory::area::{Area, Protection, Source};
use crate::memory::frames::Page;
use crate::memory::page_floor;
use crate::memory::page_table::Leaf;
use crate::memory::ram::Frame;
use crate::memory::space::{AddressSpace, Inner};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;

/// What a program tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// From the error code of a page-fault exception.
    pub const fn from_error_code(code: u64) -> Self {
        if code & 0x10 != 0 {
            Access::Execute
        } else if code & 2 != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// x86 cannot map memory that is writable or executable and not readable.
    const fn allowed_by(self, protection: Protection) -> bool {
        match self {
            Access::Read => !protection.is_empty(),
            Access::Write => protection.contains(Protection::WRITE),
            Access::Execute => protection.contains(Protection::EXECUTE),
        }
    }
}

/// Why an access cannot be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No area holds the address.
    NotMapped,
    /// The area forbids the access.
    Forbidden,
    /// The page lies behind the end of its object.
    BehindEnd,
    /// No frame for the page.
    OutOfMemory,
}

/// What a successful fault did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The table now allows the access.
    Changed,
    /// It did already: another thread was faster, or the host could not use the entry.
    Already,
}

impl AddressSpace {
    /// Makes the table allow `access` to the page of `address`.
    ///
    /// # Errors
    /// Why that must not or cannot be.
    pub fn fault(&self, address: u64, access: Access) -> Result<Resolution, Fault> {
        self.resolve(&mut self.inner.lock(), address, access)
            .map(|(_, resolution)| resolution)
    }

    /// As [`Self::fault`], with the frame that holds the page as long as the space stays locked.
    pub(super) fn resolve(
        &self,
        inner: &mut Inner,
        address: u64,
        access: Access,
    ) -> Result<(Frame, Resolution), Fault> {
        let address = page_floor(address);
        let area = inner.areas.find(address).ok_or(Fault::NotMapped)?;
        if !access.allowed_by(area.protection) {
            return Err(Fault::Forbidden);
        }
        match inner.table.get(address) {
            Some(leaf) if allows(leaf, access) => Ok((leaf.frame(), Resolution::Already)),
            Some(leaf) => {
                let exclusive = area.shared || self.memory.owners(leaf.frame()) == 1;
                if access == Access::Write && !exclusive {
                    let bits = leaf_bits(area, true, access);
                    self.copy_on_write(inner, address, leaf, bits)
                } else {
                    let set = leaf_bits(area, exclusive, access);
                    let clear = if set & Vpte::NO_EXECUTE == 0 {
                        Vpte::NO_EXECUTE
                    } else {
                        0
                    };
                    inner.table.change(address, set, clear);
                    Ok((leaf.frame(), Resolution::Changed))
                }
            }
            None => {
                let (page, exclusive) = self.first_contents(area, address, access)?;
                let bits = leaf_bits(area, exclusive, access);
                let frame = page.frame();
                inner
                    .table
                    .insert(address, page, bits)
                    .map_err(|_| Fault::OutOfMemory)?;
                Ok((frame, Resolution::Changed))
            }
        }
    }

    fn copy_on_write(
        &self,
        inner: &mut Inner,
        address: u64,
        leaf: Leaf,
        bits: u64,
    ) -> Result<(Frame, Resolution), Fault> {
        let copy = self
            .memory
            .allocate_for_overwrite()
            .map_err(|_| Fault::OutOfMemory)?;
        self.memory.ram().copy(leaf.frame(), copy.frame());
        let frame = copy.frame();
        let flush = |old: Leaf| {
            if old.was_used() {
                self.vmspace.invalidate(address..address + PAGE_SIZE);
            }
        };
        drop(inner.table.replace(address, copy, bits, flush));
        Ok((frame, Resolution::Changed))
    }

    /// The page for an address that has none, and whether a private area may write to it.
    fn first_contents(&self, area: &Area, address: u64, access: Access) -> Result<(Page, bool), Fault> {
        let out_of_memory = |_: Errno| Fault::OutOfMemory;
        match &area.source {
            Source::Anonymous => Ok((self.memory.allocate_zeroed().map_err(out_of_memory)?, true)),
            Source::Object {
                object,
                offset,
                limit,
            } => {
                let position = offset + (address - area.start);
                let index = position / PAGE_SIZE;
                if area.shared {
                    let page = object
                        .page(index)
                        .map_err(out_of_memory)?
                        .ok_or(Fault::BehindEnd)?;
                    return Ok((page, true));
                }
                let cut = *limit < position + PAGE_SIZE;
                if access == Access::Write || cut {
                    let page = object.private_page(index, *limit).map_err(out_of_memory)?;
                    return Ok((page.ok_or(Fault::BehindEnd)?, true));
                }
                let page = object
                    .page(index)
                    .map_err(out_of_memory)?
                    .ok_or(Fault::BehindEnd)?;
                Ok((page, false))
            }
        }
    }
}

fn allows(leaf: Leaf, access: Access) -> bool {
    leaf.has(Vpte::VALID)
        && match access {
            Access::Read => true,
            Access::Write => leaf.has(Vpte::WRITE),
            Access::Execute => !leaf.has(Vpte::NO_EXECUTE),
        }
}

/// Bits of a valid leaf. A store is about to follow a write fault, so the entry starts dirty and the host need not
/// come back to make it so.
fn leaf_bits(area: &Area, exclusive: bool, access: Access) -> u64 {
    let mut bits = Vpte::VALID | Vpte::USER;
    if area.protection.contains(Protection::WRITE) && exclusive {
        bits |= Vpte::WRITE;
    }
    if access == Access::Write {
        bits |= Vpte::DIRTY;
    }
    if !area.protection.contains(Protection::EXECUTE) {
        bits |= Vpte::NO_EXECUTE;
    }
    bits
}
