//! IA32_VMX_EPT_VPID_CAP: SDM 3D A.10, and the types of INVEPT and INVVPID (SDM 3C 29.4.3.1, 31.3).

use bitflags::bitflags;

bitflags! {
    /// The bits of IA32_VMX_EPT_VPID_CAP.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EptVpid: u64 {
        /// EPT entries may allow fetches and nothing else.
        const EXECUTE_ONLY = 1 << 0;
        /// Walks of four levels.
        const FOUR_LEVELS = 1 << 6;
        /// Walks of five levels.
        const FIVE_LEVELS = 1 << 7;
        /// EPT tables may be uncacheable.
        const UNCACHEABLE = 1 << 8;
        /// EPT tables may be write-back.
        const WRITE_BACK = 1 << 14;
        /// Pages of 2 MiB.
        const PAGES_2M = 1 << 16;
        /// Pages of 1 GiB.
        const PAGES_1G = 1 << 17;
        /// INVEPT exists.
        const INVEPT = 1 << 20;
        /// Accessed and dirty flags.
        const ACCESSED_DIRTY = 1 << 21;
        /// EPT violations tell more about the access.
        const ADVANCED_INFORMATION = 1 << 22;
        /// Supervisor shadow-stack control.
        const SUPERVISOR_SHADOW_STACK = 1 << 23;
        /// INVEPT of one table.
        const INVEPT_SINGLE = 1 << 25;
        /// INVEPT of all tables.
        const INVEPT_ALL = 1 << 26;
        /// INVVPID exists.
        const INVVPID = 1 << 32;
        /// INVVPID of one address.
        const INVVPID_ADDRESS = 1 << 40;
        /// INVVPID of one tag.
        const INVVPID_SINGLE = 1 << 41;
        /// INVVPID of all tags.
        const INVVPID_ALL = 1 << 42;
        /// INVVPID of one tag, global translations kept.
        const INVVPID_RETAINING_GLOBALS = 1 << 43;
    }
}

/// The types of INVEPT; the number is the instruction's register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Invept {
    /// What was derived from one EPT pointer.
    SingleContext = 1,
    /// What was derived from any.
    AllContexts = 2,
}

/// The types of INVVPID; the number is the instruction's register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Invvpid {
    /// One linear address under one tag.
    Address = 0,
    /// Everything under one tag.
    SingleContext = 1,
    /// Everything under all tags but 0.
    AllContexts = 2,
    /// Everything under one tag but global translations.
    RetainingGlobals = 3,
}

/// The INVEPT that a CPU has. Using another type fails with error 28.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InveptTypes(EptVpid);

/// The INVVPID that a CPU has. Using another type fails with error 28.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvvpidTypes(EptVpid);

impl EptVpid {
    /// The types of INVEPT, if there is one that drops a table.
    #[must_use]
    pub fn invept(self) -> Option<InveptTypes> {
        let types = InveptTypes(self);
        (self.contains(Self::INVEPT) && (types.has(Invept::SingleContext) || types.has(Invept::AllContexts)))
            .then_some(types)
    }

    /// The types of INVVPID, if there is one that drops a tag.
    #[must_use]
    pub fn invvpid(self) -> Option<InvvpidTypes> {
        let types = InvvpidTypes(self);
        (self.contains(Self::INVVPID)
            && (types.has(Invvpid::SingleContext) || types.has(Invvpid::AllContexts)))
        .then_some(types)
    }
}

impl InveptTypes {
    /// Whether the CPU has a type.
    #[must_use]
    pub const fn has(self, invept: Invept) -> bool {
        self.0.contains(match invept {
            Invept::SingleContext => EptVpid::INVEPT_SINGLE,
            Invept::AllContexts => EptVpid::INVEPT_ALL,
        })
    }

    /// The narrowest type that drops one table.
    #[must_use]
    pub const fn for_table(self) -> Invept {
        match self.has(Invept::SingleContext) {
            true => Invept::SingleContext,
            false => Invept::AllContexts,
        }
    }
}

impl InvvpidTypes {
    /// Whether the CPU has a type.
    #[must_use]
    pub const fn has(self, invvpid: Invvpid) -> bool {
        self.0.contains(match invvpid {
            Invvpid::Address => EptVpid::INVVPID_ADDRESS,
            Invvpid::SingleContext => EptVpid::INVVPID_SINGLE,
            Invvpid::AllContexts => EptVpid::INVVPID_ALL,
            Invvpid::RetainingGlobals => EptVpid::INVVPID_RETAINING_GLOBALS,
        })
    }

    /// The narrowest type that drops one address, global or not.
    #[must_use]
    pub const fn for_address(self) -> Invvpid {
        match self.has(Invvpid::Address) {
            true => Invvpid::Address,
            false => self.for_tag(),
        }
    }

    /// The narrowest type that drops everything under a tag.
    #[must_use]
    pub const fn for_tag(self) -> Invvpid {
        match self.has(Invvpid::SingleContext) {
            true => Invvpid::SingleContext,
            false => Invvpid::AllContexts,
        }
    }
}
