//! Which settings of a control field the CPU allows.

/// The allowed settings of one group, from its capability MSRs (SDM 3D A.2 to A.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Bits that must be 1.
    pub must: u32,
    /// Bits that may be 1. Every bit of `must` is one of them.
    pub may: u32,
    /// Bits that software that does not know them leaves 1: the default1 class (SDM 3D A.2).
    pub default: u32,
}

impl Allowed {
    /// No control can be set: the group does not exist on this CPU.
    pub const NONE: Allowed = Allowed {
        must: 0,
        may: 0,
        default: 0,
    };

    /// From the plain capability MSR and, where IA32_VMX_BASIC[55] says that it exists, the TRUE one. Bits 31:0 report the allowed
    /// 0-settings (a bit that is 1 there must be 1), bits 63:32 the allowed 1-settings (a bit that is 0 there must be 0).
    #[must_use]
    pub const fn from_msrs(plain: u64, exact: Option<u64>) -> Allowed {
        let in_force = match exact {
            Some(value) => value,
            None => plain,
        };
        Allowed {
            must: in_force as u32,
            may: (in_force >> 32) as u32,
            default: plain as u32,
        }
    }

    /// Bits of `setting` that are 0 and must be 1.
    #[must_use]
    pub const fn wrongly_clear(&self, setting: u32) -> u32 {
        self.must & !setting
    }

    /// Bits of `setting` that are 1 and must be 0.
    #[must_use]
    pub const fn wrongly_set(&self, setting: u32) -> u32 {
        setting & !self.may
    }

    /// The setting for software that wants `asked` and knows what the bits of `named` mean: algorithm 3 of SDM 3D A.2. A bit with a single
    /// allowed setting gets that; a known bit what is asked; an unknown one its default.
    #[must_use]
    pub const fn settle(&self, asked: u32, named: u32) -> u32 {
        let unknown = self.default & !named;
        self.must | (asked | unknown) & self.may
    }
}
