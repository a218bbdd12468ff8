//! IA32_VMX_BASIC: SDM 3D A.1, and the rules for the regions it describes (SDM 3C 25.2, 25.11.5).

use super::Cpu;
use core::fmt;

/// The value of IA32_VMX_BASIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basic(pub u64);

/// Why a physical address cannot be that of a VMXON region, a VMCS or a structure they refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// Not a multiple of 4 KiB.
    Misaligned,
    /// Bits beyond what the CPU takes, which is this many.
    TooHigh(u8),
}

/// Regions are aligned to this.
const REGION_ALIGNMENT: u64 = 4096;
/// The memory type of regions that this kernel can give: write-back.
const WRITE_BACK: u64 = 6;

impl Basic {
    /// What the first four bytes of a region must hold.
    #[must_use]
    pub const fn revision(self) -> u32 {
        self.0 as u32 & 0x7fff_ffff
    }

    /// Bytes of a VMXON region and of a VMCS, at most 4096 by the manual.
    #[must_use]
    pub const fn region_size(self) -> u16 {
        (self.0 >> 32) as u16 & 0x1fff
    }

    /// Physical addresses of regions and of what they refer to are limited to 32 bits.
    #[must_use]
    pub const fn is_limited_to_32_bits(self) -> bool {
        self.0 & 1 << 48 != 0
    }

    /// Memory type that the CPU uses, and software should use, for regions: 0 uncacheable, 6 write-back.
    #[must_use]
    pub const fn memory_type(self) -> u8 {
        (self.0 >> 50) as u8 & 0xf
    }

    /// Regions may lie in ordinary memory.
    #[must_use]
    pub const fn is_write_back(self) -> bool {
        self.memory_type() as u64 == WRITE_BACK
    }

    /// The TRUE capability registers exist, and controls of the default1 class may be 0.
    #[must_use]
    pub const fn has_true_controls(self) -> bool {
        self.0 & 1 << 55 != 0
    }

    /// An entry may deliver a hardware exception with or without an error code, whatever its vector.
    #[must_use]
    pub const fn allows_any_error_code(self) -> bool {
        self.0 & 1 << 56 != 0
    }

    /// Width of the physical addresses that regions and structures may have.
    #[must_use]
    pub const fn address_bits(self, cpu: &Cpu) -> u8 {
        if self.is_limited_to_32_bits() && cpu.physical_bits > 32 {
            32
        } else {
            cpu.physical_bits
        }
    }

    /// Checks the physical address of a region.
    ///
    /// # Errors
    /// What is wrong with it.
    pub const fn check_region(self, address: u64, cpu: &Cpu) -> Result<(), RegionError> {
        let bits = self.address_bits(cpu);
        if address & (REGION_ALIGNMENT - 1) != 0 {
            Err(RegionError::Misaligned)
        } else if bits < 64 && address >> bits != 0 {
            Err(RegionError::TooHigh(bits))
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionError::Misaligned => f.write_str("the address is not a multiple of 4096"),
            RegionError::TooHigh(bits) => write!(f, "the address has more than {bits} bits"),
        }
    }
}
