//! The interlock against the whole history.

use crate::Interlock;
use proptest::prelude::*;

proptest! {
    #[test]
    fn never_admits_what_was_invalidated(
        before in prop::collection::vec((0..64u64, 1..8u64), 0..40),
        after in prop::collection::vec((0..64u64, 1..8u64), 0..40),
        address in 0..72u64,
        length in 1..8u64,
    ) {
        let mut interlock = Interlock::new();
        for (start, length) in &before {
            interlock.invalidate(&(*start..start + length));
        }
        let stamp = interlock.stamp();
        prop_assert!(interlock.admits(stamp, address));
        for (start, length) in &after {
            interlock.invalidate(&(*start..start + length));
        }
        let hits = |address: u64| after.iter().any(|(start, length)| (*start..start + length).contains(&address));
        let hit = hits(address);
        let admitted = interlock.admits(stamp, address);
        if hit {
            prop_assert!(!admitted);
        } else if after.len() <= Interlock::REMEMBERED {
            prop_assert!(admitted, "an invalidation elsewhere must not matter");
        }
        prop_assert!(interlock.admits(interlock.stamp(), address));
        // A range is admitted if each address in it is.
        let range = address..address + length;
        let each = range.clone().all(|address| interlock.admits(stamp, address));
        prop_assert_eq!(interlock.admits_range(stamp, &range), each);
    }
}
