//! The negotiation: what is wanted against what the CPU allows.

use super::{ControlSet, Group, guest};
use crate::{Capabilities, Field};
use core::fmt;

/// Settings that the CPU allows and that satisfy what was required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    setting: ControlSet,
}

/// What the CPU does not allow. Displayed as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Required, and cannot be 1.
    pub cannot_be_set: ControlSet,
    /// Neither wanted nor harmless, and cannot be 0.
    pub cannot_be_clear: ControlSet,
}

impl Controls {
    /// Chooses settings: every control of `required`, those of `wanted` that the CPU has, no other that this crate knows, and defaults
    /// for what it does not know (SDM 3D A.2).
    ///
    /// # Errors
    /// Controls that are required and cannot be set, or that are not asked for, cannot be cleared and are not harmless
    /// ([`guest::HARMLESS`]).
    pub fn choose(
        capabilities: &Capabilities,
        wanted: &ControlSet,
        required: &ControlSet,
    ) -> Result<Controls, Missing> {
        let setting = ControlSet::from_groups(|group| {
            let asked = wanted.bits(group) | required.bits(group);
            capabilities.allowed(group).settle(asked, group.named())
        });
        let missing = Missing {
            cannot_be_set: ControlSet::from_groups(|group| required.bits(group) & !setting.bits(group)),
            cannot_be_clear: ControlSet::from_groups(|group| {
                let asked = wanted.bits(group) | required.bits(group);
                let surplus = setting.bits(group) & group.named() & !asked;
                surplus & !guest::HARMLESS.bits(group)
            }),
        };
        match missing.is_empty() {
            true => Ok(Controls { setting }),
            false => Err(missing),
        }
    }

    /// The settings, group by group.
    #[must_use]
    pub const fn setting(&self) -> &ControlSet {
        &self.setting
    }

    /// The value for a control field.
    #[must_use]
    pub const fn bits(&self, group: Group) -> u32 {
        self.setting.bits(group)
    }

    /// Whether the CPU looks at `field`, or writes it, under these settings. Other fields need not be written, and some
    /// of them do not exist on every CPU.
    #[must_use]
    pub fn uses(&self, field: Field) -> bool {
        let conditions = field.conditions();
        conditions.is_empty()
            || conditions
                .iter()
                .any(|&(group, bit)| self.setting.bits(group) & bit != 0)
    }
}

impl Missing {
    /// Nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cannot_be_set == ControlSet::EMPTY && self.cannot_be_clear == ControlSet::EMPTY
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (set, state) in [
            (&self.cannot_be_set, "cannot be 1"),
            (&self.cannot_be_clear, "cannot be 0"),
        ] {
            for group in Group::ALL {
                let bits = set.bits(group);
                if bits != 0 {
                    let names = group.names(bits);
                    write!(f, "{separator}{} controls that {state}: {names}", group.name())?;
                    separator = "; ";
                }
            }
        }
        Ok(())
    }
}
