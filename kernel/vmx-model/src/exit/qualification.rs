//! Exit qualifications: SDM 3C 28.2.1, tables 28-1 to 28-7.

/// An EPT violation (table 28-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation(pub u64);

impl EptViolation {
    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// The access was a load. Where EPT's accessed and dirty flags are on, the CPU's walk of the guest's tables ([`Self::is_walk`])
    /// counts as a load and a store (SDM 3C 29.3.3.2; Bochs 2.7 says store only).
    #[must_use]
    pub const fn is_read(self) -> bool {
        self.bit(0)
    }

    /// The access was a store.
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.bit(1)
    }

    /// The access was an instruction fetch.
    #[must_use]
    pub const fn is_fetch(self) -> bool {
        self.bit(2)
    }

    /// The EPT entries allowed loads.
    #[must_use]
    pub const fn was_readable(self) -> bool {
        self.bit(3)
    }

    /// The EPT entries allowed stores.
    #[must_use]
    pub const fn was_writable(self) -> bool {
        self.bit(4)
    }

    /// The EPT entries allowed fetches.
    #[must_use]
    pub const fn was_executable(self) -> bool {
        self.bit(5)
    }

    /// Nothing was allowed: the translation was not present.
    #[must_use]
    pub const fn was_not_present(self) -> bool {
        self.0 & 7 << 3 == 0
    }

    /// [`crate::Field::GuestLinearAddress`] holds the linear address.
    #[must_use]
    pub const fn has_linear_address(self) -> bool {
        self.bit(7)
    }

    /// The guest-physical address was that of an entry of the guest's own tables, met while translating the linear address, not
    /// what the linear address translates to.
    #[must_use]
    pub const fn is_walk(self) -> bool {
        self.has_linear_address() && !self.bit(8)
    }

    /// An IRET had just unblocked NMIs.
    #[must_use]
    pub const fn nmi_unblocking(self) -> bool {
        self.bit(12)
    }
}

/// What an exit for a debug exception adds to DR6 (table 28-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugException(pub u64);

impl DebugException {
    /// Breakpoints 0 to 3 that matched, whether enabled or not.
    #[must_use]
    pub const fn breakpoints(self) -> u8 {
        self.0 as u8 & 0xf
    }

    /// The next instruction would have accessed a debug register, and DR7.GD is on.
    #[must_use]
    pub const fn is_register_access(self) -> bool {
        self.0 & 1 << 13 != 0
    }

    /// A single step, or a taken branch where IA32_DEBUGCTL.BTF is on.
    #[must_use]
    pub const fn is_single_step(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    /// DR6 as the guest's handler would find it, given what it was (SDM 3B 18.2.3): an exit leaves DR6 alone. The breakpoint bits are
    /// replaced, BD and BS added; BLD and RTM, which are 0 when they tell something, cleared.
    #[must_use]
    pub const fn merged_into(self, dr6: u64) -> u64 {
        const IDLE: u64 = 0xffff_0ff0;
        const INVERTED: u64 = 1 << 11 | 1 << 16;
        let kept = dr6 & !0xf | IDLE;
        let added = self.0 & (0xf | 1 << 13 | 1 << 14);
        (kept | added) & !(self.0 & INVERTED)
    }
}

/// How a control register was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccess {
    /// MOV to the register.
    To,
    /// MOV from the register.
    From,
    /// CLTS.
    Clts,
    /// LMSW.
    Lmsw,
}

/// A control-register access (table 28-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRegisterAccess(pub u64);

impl ControlRegisterAccess {
    /// The control register's number; 0 for CLTS and LMSW.
    #[must_use]
    pub const fn register(self) -> u8 {
        self.0 as u8 & 0xf
    }

    /// How.
    #[must_use]
    pub const fn access(self) -> CrAccess {
        match self.0 >> 4 & 3 {
            0 => CrAccess::To,
            1 => CrAccess::From,
            2 => CrAccess::Clts,
            _ => CrAccess::Lmsw,
        }
    }

    /// The general-purpose register of a MOV, as instructions number them: RAX 0, RCX 1, RDX 2, RBX 3, RSP 4 and so on.
    #[must_use]
    pub const fn operand(self) -> u8 {
        (self.0 >> 8) as u8 & 0xf
    }

    /// The operand of an LMSW.
    #[must_use]
    pub const fn lmsw_source(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// An I/O instruction (table 28-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess(pub u64);

impl IoAccess {
    /// Bytes: 1, 2 or 4.
    #[must_use]
    pub const fn size(self) -> u8 {
        (self.0 as u8 & 7) + 1
    }

    /// IN or INS.
    #[must_use]
    pub const fn is_input(self) -> bool {
        self.0 & 1 << 3 != 0
    }

    /// INS or OUTS.
    #[must_use]
    pub const fn is_string(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// The port.
    #[must_use]
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }
}
