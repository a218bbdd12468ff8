//! VM-execution, VM-exit and VM-entry controls: their bits, which settings a CPU allows, and the choice for our guests.
//!
//! [`Controls::choose`] negotiates; [`guest`] says what guest threads need and why; [`Controls::uses`] says which fields of
//! the VMCS the chosen controls make the CPU look at.

mod allowed;
mod bits;
mod choose;
pub mod guest;

pub use allowed::Allowed;
pub use bits::{EntryControls, ExitControls, PinControls, PrimaryControls, SecondaryControls};
pub use choose::{Controls, Missing};

use crate::Field;
use core::fmt;

/// One of the five control fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Pin-based VM-execution controls.
    Pin,
    /// Primary processor-based VM-execution controls.
    Primary,
    /// Secondary processor-based VM-execution controls.
    Secondary,
    /// VM-exit controls.
    Exit,
    /// VM-entry controls.
    Entry,
}

impl Group {
    /// Every group.
    pub const ALL: [Group; 5] = [
        Group::Pin,
        Group::Primary,
        Group::Secondary,
        Group::Exit,
        Group::Entry,
    ];

    /// The field that holds the group.
    #[must_use]
    pub const fn field(self) -> Field {
        match self {
            Group::Pin => Field::PinControls,
            Group::Primary => Field::PrimaryControls,
            Group::Secondary => Field::SecondaryControls,
            Group::Exit => Field::ExitControls,
            Group::Entry => Field::EntryControls,
        }
    }

    /// A short name, for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Group::Pin => "pin-based",
            Group::Primary => "primary",
            Group::Secondary => "secondary",
            Group::Exit => "exit",
            Group::Entry => "entry",
        }
    }

    /// Bits that have a name here; the others are set to their defaults.
    #[must_use]
    pub const fn named(self) -> u32 {
        match self {
            Group::Pin => PinControls::NAMED,
            Group::Primary => PrimaryControls::NAMED,
            Group::Secondary => SecondaryControls::NAMED,
            Group::Exit => ExitControls::NAMED,
            Group::Entry => EntryControls::NAMED,
        }
    }

    /// The manual's name of a bit.
    #[must_use]
    pub const fn bit_name(self, bit: u32) -> Option<&'static str> {
        match self {
            Group::Pin => PinControls::bit_name(bit),
            Group::Primary => PrimaryControls::bit_name(bit),
            Group::Secondary => SecondaryControls::bit_name(bit),
            Group::Exit => ExitControls::bit_name(bit),
            Group::Entry => EntryControls::bit_name(bit),
        }
    }

    /// The names of `bits` for a message: `HLT exiting, bit 26`.
    #[must_use]
    pub const fn names(self, bits: u32) -> Names {
        Names { group: self, bits }
    }
}

/// Bits of a group, written as their names.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    group: Group,
    bits: u32,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for bit in (0..32).filter(|bit| self.bits >> bit & 1 != 0) {
            match self.group.bit_name(bit) {
                Some(name) => write!(f, "{separator}{name}")?,
                None => write!(f, "{separator}bit {bit}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// A setting, or a set of bits, of each group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlSet {
    /// Pin-based VM-execution controls.
    pub pin: PinControls,
    /// Primary processor-based VM-execution controls.
    pub primary: PrimaryControls,
    /// Secondary processor-based VM-execution controls.
    pub secondary: SecondaryControls,
    /// VM-exit controls.
    pub exit: ExitControls,
    /// VM-entry controls.
    pub entry: EntryControls,
}

impl ControlSet {
    /// No bit of any group.
    pub const EMPTY: ControlSet = ControlSet {
        pin: PinControls::empty(),
        primary: PrimaryControls::empty(),
        secondary: SecondaryControls::empty(),
        exit: ExitControls::empty(),
        entry: EntryControls::empty(),
    };

    /// The bits of one group.
    #[must_use]
    pub const fn bits(&self, group: Group) -> u32 {
        match group {
            Group::Pin => self.pin.bits(),
            Group::Primary => self.primary.bits(),
            Group::Secondary => self.secondary.bits(),
            Group::Exit => self.exit.bits(),
            Group::Entry => self.entry.bits(),
        }
    }

    /// A set with the bits that `of` gives for each group.
    #[must_use]
    pub fn from_groups(mut of: impl FnMut(Group) -> u32) -> ControlSet {
        ControlSet {
            pin: PinControls::from_bits_retain(of(Group::Pin)),
            primary: PrimaryControls::from_bits_retain(of(Group::Primary)),
            secondary: SecondaryControls::from_bits_retain(of(Group::Secondary)),
            exit: ExitControls::from_bits_retain(of(Group::Exit)),
            entry: EntryControls::from_bits_retain(of(Group::Entry)),
        }
    }
}
