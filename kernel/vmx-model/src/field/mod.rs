//! VMCS fields: encoding, name, width, kind, and the controls under which the CPU looks at them.

mod condition;
mod table;

pub use table::Field;

/// How many bits a field has (SDM 3C 25.11.2, bits 14:13 of the encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    Bits16,
    /// 64 bits, on every CPU.
    Bits64,
    /// 32 bits.
    Bits32,
    /// 64 bits on a CPU with 64-bit mode.
    Natural,
}

impl Width {
    /// The bits that a field of this width has.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Width::Bits16 => 0xffff,
            Width::Bits32 => 0xffff_ffff,
            Width::Bits64 | Width::Natural => u64::MAX,
        }
    }
}

/// What a field is for (SDM 3C 25.3; bits 11:10 of the encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// VM-execution, VM-exit and VM-entry controls.
    Control,
    /// Written by the CPU at an exit or a failed instruction.
    ExitInformation,
    /// Loaded at an entry, saved at an exit.
    GuestState,
    /// Loaded at an exit.
    HostState,
}

impl Field {
    /// Count of fields.
    pub const COUNT: usize = Field::ALL.len();

    /// What VMREAD and VMWRITE take.
    #[must_use]
    pub const fn encoding(self) -> u32 {
        self as u32
    }

    /// The field with this encoding, if it is one of [`Field::ALL`].
    #[must_use]
    pub fn from_encoding(encoding: u32) -> Option<Field> {
        let index = Field::ALL
            .binary_search_by_key(&encoding, |field| field.encoding())
            .ok()?;
        Field::ALL.get(index).copied()
    }

    /// The field with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Position in [`Field::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        Field::ALL.partition_point(|&field| field < self)
    }

    /// Its width.
    #[must_use]
    pub const fn width(self) -> Width {
        match self as u32 >> 13 & 3 {
            0 => Width::Bits16,
            1 => Width::Bits64,
            2 => Width::Bits32,
            _ => Width::Natural,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self as u32 >> 10 & 3 {
            0 => Kind::Control,
            1 => Kind::ExitInformation,
            2 => Kind::GuestState,
            _ => Kind::HostState,
        }
    }

    /// Whether VMWRITE is refused, except on CPUs where IA32_VMX_MISC[29] allows it (SDM 3D A.6).
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        matches!(self.kind(), Kind::ExitInformation)
    }
}

impl core::fmt::Display for Field {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}
