//! What the processor makes of a page table, by the manual (SDM 3A 4.5), for accesses of users.

use dragonet_abi::memory::Vpte;
use page_table::{ROOT_LEVEL, index, span};

/// Page-fault error code.
pub const PRESENT: u64 = 1;
pub const WRITE: u64 = 2;
pub const USER: u64 = 4;
pub const RESERVED: u64 = 8;

/// What tables can be read from.
pub trait Memory {
    /// The word at a physical address that is a multiple of 8; `None` if there is no memory that a walk can use.
    fn load(&self, address: u64) -> Option<u64>;
}

/// What CPUs have.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Bits of physical addresses.
    pub width: u8,
    /// Pages of 1 GiB.
    pub huge: bool,
}

/// What comes of an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walked {
    /// It goes to this physical address. The addresses of the entries on the way.
    To {
        address: u64,
        entries: alloc::vec::Vec<u64>,
    },
    /// A page fault with this error code.
    Fault(u64),
    /// An entry is where there is no memory.
    Lost,
}

/// Translates a linear address for a load or a store.
pub fn walk(memory: &impl Memory, format: Format, root: u64, address: u64, store: bool) -> Walked {
    let access = USER | if store { WRITE } else { 0 };
    let mut table = root;
    let (mut writable, mut reachable) = (true, true);
    let mut entries = alloc::vec::Vec::new();
    for level in (1..=ROOT_LEVEL).rev() {
        let place = table + 8 * index(address, level) as u64;
        let Some(word) = memory.load(place) else {
            return Walked::Lost;
        };
        let entry = Vpte(word);
        if !entry.has(Vpte::VALID) {
            return Walked::Fault(access);
        }
        let last = level == 1 || entry.has(Vpte::LARGE);
        if is_reserved(word, level, last, format) {
            return Walked::Fault(access | RESERVED | PRESENT);
        }
        entries.push(place);
        writable &= entry.has(Vpte::WRITE);
        reachable &= entry.has(Vpte::USER);
        if last {
            if !reachable || store && !writable {
                return Walked::Fault(access | PRESENT);
            }
            let within = span(level) - 1;
            return Walked::To {
                address: entry.offset() & !within | address & within,
                entries,
            };
        }
        table = entry.offset();
    }
    Walked::Lost
}

/// True if an entry has bits set that must be clear.
fn is_reserved(word: u64, level: u8, last: bool, format: Format) -> bool {
    let beyond = Vpte::FRAME & !((1 << format.width) - 1);
    // Bit 12 of a large leaf selects the memory type.
    let unaligned = if last && level > 1 {
        Vpte::FRAME & (span(level) - 1) & !(1 << 12)
    } else {
        0
    };
    let no_such_page = last && (level == ROOT_LEVEL || level == 3 && !format.huge);
    word & (beyond | unaligned) != 0 || no_such_page
}
