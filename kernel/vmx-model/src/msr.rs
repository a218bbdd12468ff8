//! The model-specific registers that describe VMX, as something that can be recorded.

macro_rules! registers {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// A register that describes VMX (SDM 3D appendix A; 4, table 2-2). The number is its address.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Msr {
            $(#[doc = $name] $variant = $number,)*
        }

        impl Msr {
            /// Every register, in order of addresses.
            pub const ALL: &'static [Msr] = &[$(Msr::$variant),*];

            /// The manual's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Msr::$variant => $name,)*
                }
            }
        }
    };
}

registers! {
    FeatureControl = 0x3a, "IA32_FEATURE_CONTROL";
    Basic = 0x480, "IA32_VMX_BASIC";
    PinControls = 0x481, "IA32_VMX_PINBASED_CTLS";
    PrimaryControls = 0x482, "IA32_VMX_PROCBASED_CTLS";
    ExitControls = 0x483, "IA32_VMX_EXIT_CTLS";
    EntryControls = 0x484, "IA32_VMX_ENTRY_CTLS";
    Misc = 0x485, "IA32_VMX_MISC";
    Cr0Fixed0 = 0x486, "IA32_VMX_CR0_FIXED0";
    Cr0Fixed1 = 0x487, "IA32_VMX_CR0_FIXED1";
    Cr4Fixed0 = 0x488, "IA32_VMX_CR4_FIXED0";
    Cr4Fixed1 = 0x489, "IA32_VMX_CR4_FIXED1";
    SecondaryControls = 0x48b, "IA32_VMX_PROCBASED_CTLS2";
    EptVpid = 0x48c, "IA32_VMX_EPT_VPID_CAP";
    TruePinControls = 0x48d, "IA32_VMX_TRUE_PINBASED_CTLS";
    TruePrimaryControls = 0x48e, "IA32_VMX_TRUE_PROCBASED_CTLS";
    TrueExitControls = 0x48f, "IA32_VMX_TRUE_EXIT_CTLS";
    TrueEntryControls = 0x490, "IA32_VMX_TRUE_ENTRY_CTLS";
    VmFunctions = 0x491, "IA32_VMX_VMFUNC";
}

impl Msr {
    /// What RDMSR takes.
    #[must_use]
    pub const fn address(self) -> u32 {
        self as u32
    }

    /// Position in [`Msr::ALL`].
    #[must_use]
    pub(crate) fn index(self) -> usize {
        Msr::ALL.partition_point(|&msr| msr < self)
    }
}

/// Where the registers' values come from: RDMSR on this CPU, or a record.
pub trait Msrs {
    /// The value of a register. Asked only for registers that exist: RDMSR of another faults.
    fn read(&self, msr: Msr) -> u64;
}

impl<F: Fn(Msr) -> u64> Msrs for F {
    fn read(&self, msr: Msr) -> u64 {
        self(msr)
    }
}
