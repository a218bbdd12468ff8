//! The rule against a naive list of what is held, and against what it is for: a cycle of waiting CPUs.

use super::*;
use proptest::prelude::*;

#[test]
fn a_lock_below_or_beside_one_that_is_held_is_refused() {
    let held = Held::NONE.wait_for(3).unwrap().wait_for(7).unwrap();
    for wanted in 0..=7 {
        assert_eq!(held.wait_for(wanted), Err(Violation { held, wanted }));
    }
    assert!(held.wait_for(8).is_ok());
    assert!(held.wait_for(RANKS - 1).is_ok());
}

#[test]
fn a_copy_under_a_lock_is_seen() {
    assert!(Held::NONE.is_none());
    for rank in 0..RANKS {
        let held = Held::NONE.wait_for(rank).unwrap();
        assert!(!held.is_none(), "rank {rank} is not seen");
        assert!(held.release(rank).is_none());
        assert!(!Held::NONE.without_waiting(rank).is_none());
    }
}

#[test]
fn a_lock_that_happened_to_be_free_counts_for_those_that_follow() {
    let held = Held::NONE.wait_for(9).unwrap().without_waiting(4);
    assert!(held.wait_for(5).is_err());
    assert!(held.release(9).wait_for(5).is_ok());
    assert!(held.release(9).wait_for(4).is_err());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u32),
    Try(u32),
    Release(u32),
}

fn step() -> impl Strategy<Value = Step> {
    (0..RANKS, 0..3u8).prop_map(|(rank, kind)| match kind {
        0 => Step::Wait(rank),
        1 => Step::Try(rank),
        _ => Step::Release(rank),
    })
}

proptest! {
    #[test]
    fn behaves_like_a_list_of_what_is_held(steps in prop::collection::vec(step(), 1..60)) {
        let mut held = Held::NONE;
        let mut list: Vec<u32> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(rank) => {
                    let allowed = list.iter().all(|&other| other < rank);
                    let outcome = held.wait_for(rank);
                    prop_assert_eq!(outcome.is_ok(), allowed);
                    if let Ok(more) = outcome {
                        held = more;
                        list.push(rank);
                    }
                }
                Step::Try(rank) => {
                    held = held.without_waiting(rank);
                    list.retain(|&other| other != rank);
                    list.push(rank);
                }
                Step::Release(rank) => {
                    held = held.release(rank);
                    list.retain(|&other| other != rank);
                }
            }
            list.sort_unstable();
            prop_assert_eq!(held.ranks().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(held.is_none(), list.is_empty());
            prop_assert_eq!(Held::from_bits(held.bits()), held);
        }
    }

    /// CPUs that each hold what they were allowed to take and wait for one more: following "waits for a lock that is held by" from
    /// any of them never comes back to where it began.
    #[test]
    fn no_circle_of_waiting_cpus_is_possible(
        wishes in prop::collection::vec((prop::collection::vec(0..RANKS, 0..4), 0..RANKS), 2..8),
    ) {
        let mut taken = [None; RANKS as usize];
        let mut waits = Vec::new();
        for (cpu, (wanted, last)) in wishes.iter().enumerate() {
            let mut held = Held::NONE;
            for &rank in wanted {
                if let Ok(more) = held.wait_for(rank) && taken[rank as usize].is_none() {
                    held = more;
                    taken[rank as usize] = Some(cpu);
                }
            }
            waits.push(held.wait_for(*last).ok().map(|_| *last));
        }
        for start in 0..waits.len() {
            let mut cpu = start;
            for _ in 0..waits.len() {
                match waits[cpu].and_then(|rank| taken[rank as usize]) {
                    Some(owner) => cpu = owner,
                    None => break,
                }
                prop_assert_ne!(cpu, start);
            }
        }
    }
}
