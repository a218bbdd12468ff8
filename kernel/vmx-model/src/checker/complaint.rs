//! What the checker finds.

use crate::Field;
use arrayvec::ArrayVec;
use core::fmt;

/// How an entry fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// VMfail with error 7: VM entry with invalid control fields.
    ControlFields,
    /// VMfail with error 8: VM entry with invalid host-state fields.
    HostState,
    /// Exit 33: VM-entry failure due to invalid guest state.
    GuestState,
}

/// A field that breaks a rule. Displayed as a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The field to blame.
    pub field: Field,
    /// Its value.
    pub value: u64,
    /// The section of SDM volume 3C that states the rule.
    pub section: &'static str,
    /// What is wrong.
    pub text: &'static str,
}

impl Complaint {
    /// How an entry fails that breaks this rule and none that is checked earlier. (The CPU may check controls and host state in any order.)
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self.section.get(..5) {
            Some("27.3.") => Failure::GuestState,
            Some("27.2.") if !self.section.starts_with("27.2.1") => Failure::HostState,
            _ => Failure::ControlFields,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = {:#x}: {} (SDM 3C {})",
            self.field, self.value, self.text, self.section
        )
    }
}

/// Complaints kept; a VMCS that breaks more rules has been mistaken for one.
const KEPT: usize = 32;

/// What the checker found, in the order of the CPU's checks.
#[derive(Clone, Debug, Default)]
pub struct Complaints {
    list: ArrayVec<Complaint, KEPT>,
    dropped: usize,
}

impl Complaints {
    pub(super) fn new() -> Complaints {
        Complaints::default()
    }

    pub(super) fn push(&mut self, complaint: Complaint) {
        if self.list.try_push(complaint).is_err() {
            self.dropped += 1;
        }
    }

    /// The complaints, at most 32.
    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.list.iter()
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a field is blamed.
    #[must_use]
    pub fn blame(&self, field: Field) -> bool {
        self.list.iter().any(|complaint| complaint.field == field)
    }

    /// How the entry fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.list.iter().map(Complaint::failure).min()
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in &self.list {
            writeln!(f, "{complaint}")?;
        }
        match self.dropped {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}
