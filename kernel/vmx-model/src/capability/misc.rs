//! IA32_VMX_MISC: SDM 3D A.6.

/// The value of IA32_VMX_MISC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misc(pub u64);

impl Misc {
    /// The VMX-preemption timer counts down by one whenever this bit of the TSC changes.
    #[must_use]
    pub const fn preemption_timer_shift(self) -> u8 {
        self.0 as u8 & 0x1f
    }

    /// Whether an activity state (SDM 3C 25.4.2: 0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI) is supported.
    #[must_use]
    pub const fn supports_activity(self, state: u64) -> bool {
        match state {
            0 => true,
            1..=3 => self.0 >> (5 + state) & 1 != 0,
            _ => false,
        }
    }

    /// CR3-target values.
    #[must_use]
    pub const fn cr3_targets(self) -> u16 {
        (self.0 >> 16) as u16 & 0x1ff
    }

    /// Entries that an MSR list should have at most.
    #[must_use]
    pub const fn msr_list_limit(self) -> u32 {
        512 * ((self.0 >> 25) as u32 & 7) + 512
    }

    /// VMWRITE takes every field, those for exit information too.
    #[must_use]
    pub const fn writes_any_field(self) -> bool {
        self.0 & 1 << 29 != 0
    }

    /// Software interrupts and exceptions can be injected with an instruction length of 0.
    #[must_use]
    pub const fn injects_length_zero(self) -> bool {
        self.0 & 1 << 30 != 0
    }
}
