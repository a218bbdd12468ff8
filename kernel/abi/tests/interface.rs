//! What every reader of the interface relies on.

use dragonet_abi::channel::{MessageInfo, WORDS};
use dragonet_abi::counters::{COUNTERS, Counter, Group, LONGEST_NAME};
use dragonet_abi::vmspace::{RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle, SyscallNumber, layout};
use std::collections::HashSet;

#[test]
fn numbers_are_unique_and_decode_to_themselves() {
    let mut seen = HashSet::new();
    for &call in SyscallNumber::ALL {
        assert!(seen.insert(call as u64), "{call:?} shares its number");
        assert_eq!(SyscallNumber::from_number(call as u64), Some(call));
    }
    assert_eq!(SyscallNumber::from_number(u64::MAX), None);
}

#[test]
fn every_call_describes_its_arguments_and_result() {
    for &call in SyscallNumber::ALL {
        let text = call.description().trim();
        assert!(text.starts_with("`("), "{call:?}: {text}");
        assert!(
            text.contains("->")
                || text.contains("does not return")
                || text.contains(':')
                || text.contains(", returns"),
            "{call:?}: {text}"
        );
    }
}

#[test]
fn errors_survive_the_register() {
    for &errno in Errno::ALL {
        assert_eq!(Errno::decode(errno.to_result()), Err(errno));
        assert!(!errno.text().is_empty());
    }
    assert_eq!(Errno::decode(0), Ok(0));
    assert_eq!(Errno::decode(-1), Err(Errno::EPERM));
    assert_eq!(
        Errno::decode(-4095),
        Err(Errno::EIO),
        "a number that no error has"
    );
    assert_eq!(
        Errno::decode(-4096),
        Ok((-4096i64) as u64),
        "below the errors a value is a value"
    );
    assert_eq!(Errno::decode(i64::MAX), Ok(i64::MAX as u64));
}

#[test]
fn counters_are_their_own_index() {
    for (index, &counter) in Counter::ALL.iter().enumerate() {
        assert_eq!(counter as usize, index);
    }
    assert_eq!(COUNTERS, Counter::ALL.len());
}

#[test]
fn counters_fit_a_table_with_groups() {
    let mut names = HashSet::new();
    for counter in Counter::ALL {
        assert!(names.insert(counter.name()), "{} twice", counter.name());
        assert!(counter.name().len() <= LONGEST_NAME, "{}", counter.name());
    }
    let mut groups: Vec<Group> = Counter::ALL.iter().map(|counter| counter.group()).collect();
    groups.dedup();
    assert_eq!(groups, Group::ALL, "counters of a group lie side by side");
}

#[test]
fn message_info_refuses_what_a_message_cannot_hold() {
    assert!(MessageInfo::new(7, WORDS).is_valid());
    assert!(!MessageInfo::new(7, WORDS + 1).is_valid());
    assert!(!MessageInfo(1 << 36).is_valid());
    let info = MessageInfo::new(u32::MAX, 3);
    assert_eq!((info.label(), info.handles()), (u32::MAX, 3));
}

#[test]
fn structures_have_the_size_that_both_sides_assume() {
    assert_eq!(size_of::<RegisterFrame>(), 20 * 8);
    assert_eq!(size_of::<RunState>(), 20 * 8 + 4 * 8);
}

#[test]
fn the_layout_is_ordered() {
    let order = [
        layout::USER_START,
        layout::PROGRAM_START,
        layout::PLACEMENT_START,
        layout::STACK_TOP,
        layout::PLACEMENT_END,
        layout::USER_END,
    ];
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(order.iter().all(|address| address % layout::PAGE_SIZE == 0));
}

#[test]
fn no_handle_of_a_table_can_be_mistaken_for_a_special_one() {
    let highest_index = (1u32 << Handle::INDEX_BITS) - 1;
    let last_used_generation = (1u32 << (32 - Handle::INDEX_BITS)) - 2;
    let highest = last_used_generation << Handle::INDEX_BITS | highest_index;
    for special in [Handle::SELF_THREAD, Handle::SELF_PROCESS] {
        assert!(highest < special.0);
    }
    assert!(!Handle::NONE.is_some());
}
