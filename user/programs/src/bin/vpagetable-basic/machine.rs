//! The machine of most tests: memory, a table in it, and a vmspace that sees the memory through the table.

use core::fmt::Debug;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{Guest, PageTable, Ram, Seen, code};

/// Where the memory is seen through the table. The table is indexed by address.
pub const SPACE: u64 = 1 << 40;
/// Bytes of the mapping.
pub const LENGTH: u64 = 1 << 40;
/// Byte of a page from [`Machine::page_with`] where [`code::LANDING`] is.
pub const LANDING: u64 = 64;

// Error codes of page faults in user mode.
/// A load where nothing is.
pub const ABSENT: u64 = 4;
/// Added for a page that is there.
pub const PRESENT: u64 = 1;
/// Added for a store.
pub const WRITE: u64 = 2;
/// Added for reserved bits.
pub const RESERVED: u64 = 8;
/// Added for a fetch.
pub const FETCH: u64 = 16;

/// Memory, a table in it, and a vmspace.
pub struct Machine {
    pub ram: Ram,
    pub table: PageTable,
    pub guest: Guest,
}

impl Machine {
    /// With `size` bytes of memory.
    pub fn new(size: u64) -> Result<Self, Errno> {
        let ram = Ram::new(size)?;
        let table = PageTable::new(&ram)?;
        let guest = Guest::new()?;
        guest.map_table(&ram, SPACE, LENGTH, SPACE, table.root())?;
        Ok(Machine { ram, table, guest })
    }

    /// A new page that begins with `value`.
    pub fn page_with(&self, value: u64) -> Result<u64, Errno> {
        let page = self.ram.page()?;
        self.fill(page, value)?;
        Ok(page)
    }

    /// Makes the page at `offset` one that begins with `value` and has [`code::LANDING`] in it.
    pub fn fill(&self, offset: u64, value: u64) -> Result<(), Errno> {
        self.ram.store(offset, value)?;
        self.ram.write(offset + LANDING, &code::LANDING)
    }

    /// Sets the entry of the page at `address`.
    pub fn map(&self, address: u64, entry: u64) -> Result<(), Errno> {
        self.table.map(&self.ram, address, entry)
    }

    /// The entry for `address` in the table of `level`.
    pub fn entry(&self, address: u64, level: u8) -> Result<u64, Errno> {
        let entry = self.table.entry(&self.ram, address, level)?;
        Ok(entry.load(core::sync::atomic::Ordering::SeqCst))
    }

    /// Sets the entry for `address` in the table of `level`.
    pub fn set(&self, address: u64, level: u8, entry: u64) -> Result<(), Errno> {
        let place = self.table.entry(&self.ram, address, level)?;
        place.store(entry, core::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    /// Makes a change of the entries of a page visible.
    pub fn invalidate(&self, address: u64) -> Result<(), Errno> {
        self.guest.invalidate(address & !(PAGE_SIZE - 1), PAGE_SIZE)
    }
}

/// A page fault in user mode; `cause` is a sum of the constants above.
pub const fn fault_at(address: u64, cause: u64) -> Seen {
    Seen::Fault {
        error_code: ABSENT | cause,
        address,
    }
}

/// Reports whether `got` is what was expected.
pub fn expect<T: PartialEq + Debug>(checks: &mut Checks, name: &str, got: T, expected: T) {
    checks.report(
        name,
        got == expected,
        format_args!("got {got:x?}, expected {expected:x?}"),
    );
}
