//! The interlock against the whole history.

use crate::Interlock;
use proptest::prelude::*;

proptest! {
    #[test]
    fn never_admits_what_was_invalidated(
        before in prop::collection::vec((0..64u64, 1..8u64), 0..40),
        after in prop::collection::vec((0..64u64, 1..8u64), 0..40),
        address in 0..72u64,
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
        let hit = after.iter().any(|(start, length)| (*start..start + length).contains(&address));
        let admitted = interlock.admits(stamp, address);
        if hit {
            prop_assert!(!admitted);
        } else if after.len() <= Interlock::REMEMBERED {
            prop_assert!(admitted, "an invalidation elsewhere must not matter");
        }
        prop_assert!(interlock.admits(interlock.stamp(), address));
    }
}
