//! The EPT pointer: SDM 3C 25.6.11, table 25-9.

use crate::capability::{Cpu, EptVpid};

/// An EPT pointer: where the root of a nested page table is, and how the CPU walks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptPointer(u64);

const MEMORY_TYPE: u64 = 7;
const UNCACHEABLE: u64 = 0;
const WRITE_BACK: u64 = 6;
/// Levels of the walk less one, shifted.
const LEVELS: u64 = 7 << 3;
const FOUR_LEVELS: u64 = 3 << 3;
const FIVE_LEVELS: u64 = 4 << 3;
const ACCESSED_DIRTY: u64 = 1 << 6;
const SHADOW_STACK: u64 = 1 << 7;
const RESERVED: u64 = 0xf << 8;
const ADDRESS: u64 = !0xfff;

impl EptPointer {
    /// The pointer to a table of four levels in write-back memory. `None` if `root` is not the address of a page.
    #[must_use]
    pub const fn new(root: u64, accessed_dirty: bool, cpu: &Cpu) -> Option<EptPointer> {
        if root & !ADDRESS != 0 || !cpu.is_physical(root) {
            return None;
        }
        let flags = if accessed_dirty { ACCESSED_DIRTY } else { 0 };
        Some(EptPointer(root | WRITE_BACK | FOUR_LEVELS | flags))
    }

    /// The value for [`crate::Field::EptPointer`] and for INVEPT's descriptor.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Physical address of the root.
    #[must_use]
    pub const fn root(self) -> u64 {
        self.0 & ADDRESS
    }
}

/// What is wrong with a value for [`crate::Field::EptPointer`] (SDM 3C 27.2.1.1), if anything.
pub(crate) fn fault(value: u64, capabilities: EptVpid, cpu: &Cpu) -> Option<&'static str> {
    let has = |bit| capabilities.contains(bit);
    let memory_type = match value & MEMORY_TYPE {
        UNCACHEABLE => has(EptVpid::UNCACHEABLE),
        WRITE_BACK => has(EptVpid::WRITE_BACK),
        _ => false,
    };
    let levels = match value & LEVELS {
        FOUR_LEVELS => has(EptVpid::FOUR_LEVELS),
        FIVE_LEVELS => has(EptVpid::FIVE_LEVELS),
        _ => false,
    };
    if !memory_type {
        Some("the memory type is not one that the CPU has")
    } else if !levels {
        Some("the walk's length is not one that the CPU has")
    } else if value & ACCESSED_DIRTY != 0 && !has(EptVpid::ACCESSED_DIRTY) {
        Some("accessed and dirty flags are on, and the CPU has none")
    } else if value & SHADOW_STACK != 0 && !has(EptVpid::SUPERVISOR_SHADOW_STACK) {
        Some("supervisor shadow-stack control is on, and the CPU has none")
    } else if value & RESERVED != 0 || !cpu.is_physical(value) {
        Some("reserved bits are set")
    } else {
        None
    }
}
