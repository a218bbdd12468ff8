//! IA32_VMX_CR0_FIXED0/1 and IA32_VMX_CR4_FIXED0/1: SDM 3D A.7, A.8.

/// CR0.PE.
pub(crate) const CR0_PE: u64 = 1;
/// CR0.WP.
pub(crate) const CR0_WP: u64 = 1 << 16;
/// CR0.PG.
pub(crate) const CR0_PG: u64 = 1 << 31;
/// CR4.PAE.
pub(crate) const CR4_PAE: u64 = 1 << 5;
/// CR4.CET.
pub(crate) const CR4_CET: u64 = 1 << 23;

/// Which bits a control register must and may have in VMX operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedBits {
    /// Bits that must be 1 (FIXED0).
    pub must: u64,
    /// Bits that may be 1 (FIXED1).
    pub may: u64,
}

impl FixedBits {
    /// CR4.VMXE (SDM 3A 2.5). Without it VMXON is an undefined opcode; it is one of the bits that must be 1.
    pub const CR4_VMXE: u64 = 1 << 13;

    /// Bits of `value` that are 0 and must be 1.
    #[must_use]
    pub const fn wrongly_clear(self, value: u64) -> u64 {
        self.must & !value
    }

    /// Bits of `value` that are 1 and must be 0.
    #[must_use]
    pub const fn wrongly_set(self, value: u64) -> u64 {
        value & !self.may
    }

    /// Whether VMX operation supports `value`. VMXON and MOV to the register fault otherwise (SDM 3C 24.8).
    #[must_use]
    pub const fn supports(self, value: u64) -> bool {
        self.wrongly_clear(value) == 0 && self.wrongly_set(value) == 0
    }

    /// `value` with the bits that must be 1, without those that must be 0.
    #[must_use]
    pub const fn adjusted(self, value: u64) -> u64 {
        (value | self.must) & self.may
    }
}
