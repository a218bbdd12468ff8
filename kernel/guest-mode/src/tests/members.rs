//! Who may become a member.

use crate::{GuestProcess, Lock, MAX_MEMBERS, Members, Role};
use dragonet_abi::Errno;
use invalidation::Space;
use page_table::FlushSet;
use proptest::prelude::*;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A lock that counts how often everything was invalidated.
#[derive(Default)]
struct Counting {
    members: Mutex<Members>,
    invalidated: Arc<AtomicU64>,
}

struct Held<'lock>(MutexGuard<'lock, Members>, &'lock AtomicU64);

impl Deref for Held<'_> {
    type Target = Members;
    fn deref(&self) -> &Members {
        &self.0
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Members {
        &mut self.0
    }
}

impl Lock for Counting {
    type Word = AtomicU64;
    type Held<'lock> = Held<'lock>;

    fn lock(&self) -> Held<'_> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        Held(members, &self.invalidated)
    }

    fn invalidate(held: &Held<'_>, _linear: &Space<AtomicU64>, set: &FlushSet) {
        assert!(set.pages().is_none(), "not everything");
        held.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A page table that changed while nobody was in the guest was invalidated by nobody.
#[test]
fn whoever_joins_finds_nothing_of_what_was_before() {
    let lock = Counting::default();
    let invalidated = Arc::clone(&lock.invalidated);
    let count = || invalidated.load(std::sync::atomic::Ordering::Relaxed);
    let process = Arc::new(GuestProcess::new(lock, 1));
    assert!(process.join(Role::Slave).is_err());
    assert_eq!(count(), 0);
    let master = process
        .join(Role::Master)
        .unwrap_or_else(|errno| panic!("{errno:?}"));
    assert_eq!(count(), 1);
    drop(master);
    assert!(process.join(Role::Master).is_ok());
    assert_eq!(count(), 2);
}

#[test]
fn a_slave_needs_a_member_and_a_master_needs_none() {
    let mut members = Members::new();
    assert_eq!(members.join(Role::Slave), Err(Errno::ENOENT));
    assert_eq!(members.join(Role::Master), Ok(0));
    assert_eq!(members.join(Role::Master), Err(Errno::EBUSY));
    assert_eq!(members.join(Role::Slave), Ok(1));
    // The master goes first: those who are left keep the guest.
    members.leave(0);
    assert_eq!(members.join(Role::Master), Err(Errno::EBUSY));
    assert_eq!(members.join(Role::Slave), Ok(0));
    members.leave(1);
    members.leave(0);
    assert_eq!(members.join(Role::Slave), Err(Errno::ENOENT));
    assert_eq!(members.join(Role::Master), Ok(0));
}

#[test]
fn there_are_as_many_places_as_the_interface_says() {
    let mut members = Members::new();
    assert_eq!(members.join(Role::Master), Ok(0));
    for number in 1..MAX_MEMBERS as u32 {
        assert_eq!(members.join(Role::Slave), Ok(number));
    }
    assert_eq!(members.join(Role::Slave), Err(Errno::EAGAIN));
    assert_eq!(members.join(Role::Master), Err(Errno::EBUSY));
    members.leave(17);
    assert_eq!(members.join(Role::Slave), Ok(17));
}

proptest! {
    /// Against a list of the numbers that are taken.
    #[test]
    fn numbers_are_the_lowest_that_are_free(steps in prop::collection::vec((0..3u8, 0..64usize), 0..300)) {
        let mut members = Members::new();
        let mut taken = std::collections::BTreeSet::new();
        for (what, which) in steps {
            if what == 0 {
                if let Some(&number) = taken.iter().nth(which) {
                    members.leave(number);
                    taken.remove(&number);
                }
            } else {
                let role = if what == 1 && which % 8 == 0 { Role::Master } else { Role::Slave };
                let free = (0..64).find(|number| !taken.contains(number));
                let expected = match (role, taken.is_empty(), free) {
                    (Role::Master, false, _) => Err(Errno::EBUSY),
                    (Role::Slave, true, _) => Err(Errno::ENOENT),
                    (_, _, None) => Err(Errno::EAGAIN),
                    (_, _, Some(number)) => Ok(number),
                };
                prop_assert_eq!(members.join(role), expected);
                taken.extend(expected.ok());
            }
            prop_assert_eq!(members.is_empty(), taken.is_empty());
        }
    }
}
