//! The contents of a VMCS as something that can be read, and a copy of them in memory.

use crate::Field;

/// Where the values of fields come from: VMREAD, or a copy.
pub trait Vmcs {
    /// The value of a field. One that does not exist on the CPU reads as 0.
    fn read(&self, field: Field) -> u64;
}

impl<F: Fn(Field) -> u64> Vmcs for F {
    fn read(&self, field: Field) -> u64 {
        self(field)
    }
}

/// A value for every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmcsImage {
    values: [u64; Field::COUNT],
}

impl VmcsImage {
    /// Zeros.
    #[must_use]
    pub const fn new() -> VmcsImage {
        VmcsImage {
            values: [0; Field::COUNT],
        }
    }

    /// A copy of `vmcs`.
    #[must_use]
    pub fn of(vmcs: &(impl Vmcs + ?Sized)) -> VmcsImage {
        VmcsImage {
            values: core::array::from_fn(|index| Field::ALL.get(index).map_or(0, |&field| vmcs.read(field))),
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> u64 {
        self.values.get(field.index()).copied().unwrap_or(0)
    }

    /// Sets a field as VMWRITE does: bits beyond its width are dropped.
    pub fn set(&mut self, field: Field, value: u64) {
        if let Some(slot) = self.values.get_mut(field.index()) {
            *slot = value & field.width().mask();
        }
    }
}

impl Default for VmcsImage {
    fn default() -> Self {
        Self::new()
    }
}

impl Vmcs for VmcsImage {
    fn read(&self, field: Field) -> u64 {
        self.get(field)
    }
}
