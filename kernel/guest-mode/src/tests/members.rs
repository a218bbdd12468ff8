//! Who may become a member.

use crate::{MAX_MEMBERS, Members, Role};
use dragonet_abi::Errno;
use proptest::prelude::*;

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
