//! Dropping a guest's translations, with what the CPU has for it.

use super::instructions::{InveptKind, InvvpidKind, VmxOn, invept, invvpid};
use core::sync::atomic::{AtomicU8, Ordering};

/// What INVEPT and INVVPID can do on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// INVEPT for one nested table; else only for all.
    pub one_nested: bool,
    /// Guests have tags (VPIDs). If not, each entry and each exit drops everything of guests (SDM 3C 29.4.3.2).
    pub tags: bool,
    /// INVVPID for one tag; else only for all.
    pub one_tag: bool,
    /// INVVPID for one address of a tag.
    pub one_address: bool,
}

const ONE_NESTED: u8 = 1;
const TAGS: u8 = 2;
const ONE_TAG: u8 = 4;
const ONE_ADDRESS: u8 = 8;

static KINDS: AtomicU8 = AtomicU8::new(0);

/// Says what there is. Called before VMX is turned on.
pub fn configure(kinds: Kinds) {
    let bits = [
        (kinds.one_nested, ONE_NESTED),
        (kinds.tags, TAGS),
        (kinds.one_tag, ONE_TAG),
        (kinds.one_address, ONE_ADDRESS),
    ];
    let bits = bits
        .iter()
        .filter(|(has, _)| *has)
        .fold(0, |all, (_, bit)| all | bit);
    KINDS.store(bits, Ordering::Relaxed);
}

fn has(bit: u8) -> bool {
    KINDS.load(Ordering::Relaxed) & bit != 0
}

/// Drops what comes from the nested table that `pointer` names.
pub fn flush_nested(on: &VmxOn<'_>, pointer: u64) {
    if has(ONE_NESTED) {
        invept(on, InveptKind::SingleContext, pointer);
    } else {
        invept(on, InveptKind::AllContexts, 0);
    }
}

/// Drops what a guest has under `tag`.
pub fn flush_tag(on: &VmxOn<'_>, tag: u16) {
    if has(ONE_TAG) {
        invvpid(on, InvvpidKind::SingleContext, tag, 0);
    } else if has(TAGS) {
        invvpid(on, InvvpidKind::AllContexts, tag, 0);
    }
}

/// Drops what a guest has under `tag` for a linear address, or more. The address is a program's, so it is canonical.
pub fn flush_address(on: &VmxOn<'_>, tag: u16, address: u64) {
    if has(ONE_ADDRESS) {
        invvpid(on, InvvpidKind::IndividualAddress, tag, address);
    } else {
        flush_tag(on, tag);
    }
}
