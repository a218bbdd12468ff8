//! Running part of a program in guest mode.
//!
//! [`IdentityMap`] is a page table that maps every address below 64 GiB, where all of a program lies, to itself; what is really there,
//! and with which rights, the kernel's nested table decides. A thread that goes on under it does not notice, except that
//! system calls leave the guest by `vmcall`.

use crate::memory::Mapping;
use crate::{processor, syscall};
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::{PAGE_SIZE, PLACEMENT_END};
use dragonet_abi::memory::{Advice, Vpte};
use dragonet_abi::vmm::{GUEST_MASTER, GuestOptions};

const ENTRIES: u64 = 512;
const GIBIBYTE: u64 = 1 << 30;
const LARGE_PAGE: u64 = 2 << 20;
/// Everything is allowed here; accessed and dirty are set so that nobody has to.
const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER | Vpte::ACCESSED | Vpte::DIRTY;

/// A page table that maps all of a program's addresses to themselves.
#[derive(Debug)]
pub struct IdentityMap {
    tables: Mapping,
}

impl IdentityMap {
    /// Builds one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        let gibibytes = PLACEMENT_END / GIBIBYTE;
        let huge = has_huge_pages();
        let tables = Mapping::anonymous(PAGE_SIZE * if huge { 2 } else { 2 + gibibytes })?;
        let base = tables.address();
        let set = |table: u64, index: u64, entry: u64| -> Result<(), Errno> {
            let word = tables.word(table * PAGE_SIZE + index * 8)?;
            word.store(entry, Ordering::Relaxed);
            Ok(())
        };
        set(0, 0, (base + PAGE_SIZE) | ALLOW)?;
        for number in 0..gibibytes {
            if huge {
                set(1, number, (number * GIBIBYTE) | ALLOW | Vpte::LARGE)?;
                continue;
            }
            set(1, number, (base + (2 + number) * PAGE_SIZE) | ALLOW)?;
            for page in 0..ENTRIES {
                let address = number * GIBIBYTE + page * LARGE_PAGE;
                set(2 + number, page, address | ALLOW | Vpte::LARGE)?;
            }
        }
        Ok(IdentityMap { tables })
    }

    /// Address of the root table.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.tables.address()
    }

    /// The first entry of the root table, through which all that it maps is reached: for tables that map something else beside it.
    #[must_use]
    pub fn first_entry(&self) -> u64 {
        (self.tables.address() + PAGE_SIZE) | ALLOW
    }

    /// Runs `action` in guest mode: as master, or joining the guest that another thread of the process is master of.
    ///
    /// # Errors
    /// Those of `vmm_guest_ctl`; `action` has not run then.
    pub fn run<R>(&self, master: bool, action: impl FnOnce() -> R) -> Result<R, Errno> {
        let options = GuestOptions {
            cr3: self.root(),
            flags: if master { GUEST_MASTER } else { 0 },
            reserved: 0,
        };
        // SAFETY: the table maps every address of the program to itself and lives until the thread has left guest mode.
        unsafe { syscall::vmm_guest_run(&options)? };
        let result = action();
        syscall::vmm_guest_leave()?;
        Ok(result)
    }
}

/// Forgets translations of a range of linear addresses, on all CPUs; the caller is in guest mode.
///
/// # Errors
/// `EINVAL` outside of guest mode, or for a range that is not whole pages.
pub fn invalidate(address: u64, length: u64) -> Result<(), Errno> {
    if !processor::is_guest() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: in guest mode the call changes no memory and no mapping.
    unsafe { syscall::madvise(address, length, Advice::Invalidate) }
}

/// Exchanges a word of a page table while no other CPU is in this guest, and makes all forget the guest's translations; returns
/// what it was.
///
/// # Errors
/// Those of `vmm_guest_sync_addr`.
pub fn exchange(word: &AtomicU64, new: u64) -> Result<u64, Errno> {
    let mut value = new;
    // SAFETY: an exchange is what the owner of an atomic reckons with.
    unsafe { syscall::vmm_guest_sync_addr(Some(word.as_ptr()), &mut value)? };
    Ok(value)
}

fn has_huge_pages() -> bool {
    const EXTENDED: u32 = 0x8000_0001;
    processor::cpuid(EXTENDED, 0)[3] >> 26 & 1 != 0
}
