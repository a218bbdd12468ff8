//! IA32_FEATURE_CONTROL: SDM 3C 24.7.

/// Written once after reset: until the next reset the register is read-only.
const LOCK: u64 = 1;
/// VMXON outside of SMX operation does not fault.
const VMX_OUTSIDE_SMX: u64 = 1 << 2;

/// What the firmware has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureControl {
    /// Locked, VMX on.
    LockedWithVmx,
    /// Locked, VMX off. The value, for the refusal.
    LockedWithoutVmx(u64),
    /// Not locked: VMXON faults until the register has the value that [`Self::to_write`] gives.
    Unlocked(u64),
}

impl FeatureControl {
    /// Decodes the register's value.
    #[must_use]
    pub const fn from_register(value: u64) -> FeatureControl {
        match (value & LOCK != 0, value & VMX_OUTSIDE_SMX != 0) {
            (true, true) => FeatureControl::LockedWithVmx,
            (true, false) => FeatureControl::LockedWithoutVmx(value),
            (false, _) => FeatureControl::Unlocked(value),
        }
    }

    /// What must be written before VMXON on this CPU: what the firmware chose, with VMX on and the lock set.
    #[must_use]
    pub const fn to_write(self) -> Option<u64> {
        match self {
            FeatureControl::Unlocked(value) => Some(value | VMX_OUTSIDE_SMX | LOCK),
            _ => None,
        }
    }

    /// VMX is on or can be turned on.
    #[must_use]
    pub const fn allows_vmx(self) -> bool {
        !matches!(self, FeatureControl::LockedWithoutVmx(_))
    }
}
