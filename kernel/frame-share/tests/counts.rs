//! The count by itself.

use frame_share::{Full, ShareCount};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[test]
fn the_last_owner_is_told_so_once() {
    let count = ShareCount::new();
    assert!(!count.is_shared());
    for _ in 0..3 {
        count.share().unwrap();
    }
    for _ in 0..3 {
        assert!(count.is_shared());
        assert!(!count.release());
    }
    assert!(!count.is_shared());
    assert!(count.release());
}

#[test]
fn a_frame_that_was_shared_is_as_new_after_its_last_owner() {
    let count = ShareCount::new();
    count.share().unwrap();
    assert!(!count.release());
    assert!(count.release());
    assert!(!count.reuse(), "the next owner is not told of former ones");
    assert!(!count.is_shared());
    assert!(count.release());
}

#[test]
fn the_last_owner_reuses_a_frame_once() {
    let count = ShareCount::new();
    assert!(!count.reuse(), "it never was shared");
    count.share().unwrap();
    assert!(!count.reuse(), "it is shared");
    assert!(!count.release());
    assert!(count.reuse());
    assert!(!count.reuse(), "it is counted already");
    count.share().unwrap();
    assert!(!count.release());
    assert!(count.reuse(), "it was shared again");
}

#[test]
fn a_full_count_refuses_and_stays() {
    let count = ShareCount::new();
    count.pretend(ShareCount::MOST - 1);
    assert_eq!(count.share(), Ok(()));
    assert_eq!(count.share(), Err(Full));
    assert_eq!(count.share(), Err(Full));
    assert!(count.is_shared());
    assert!(!count.release());
    assert_eq!(count.share(), Ok(()));
}

/// Many owners on many threads: each frame is freed by exactly one, after all others.
#[test]
fn one_of_many_owners_frees() {
    const OWNERS: usize = 8;
    const FRAMES: usize = 2000;
    let counts: Vec<ShareCount> = (0..FRAMES).map(|_| ShareCount::new()).collect();
    let released: Vec<AtomicUsize> = (0..FRAMES).map(|_| AtomicUsize::new(0)).collect();
    let freed = AtomicUsize::new(0);
    for count in &counts {
        for _ in 1..OWNERS {
            count.share().unwrap();
        }
    }
    thread::scope(|scope| {
        for owner in 0..OWNERS {
            let (counts, released, freed) = (&counts, &released, &freed);
            scope.spawn(move || {
                for step in 0..FRAMES {
                    let frame = (step * 7 + owner) % FRAMES;
                    // Now and then one more for a moment, as by a fork that fails.
                    if step % 3 == 0 {
                        counts[frame].share().unwrap();
                        assert!(!counts[frame].release(), "freed under an owner");
                    }
                    released[frame].fetch_add(1, Ordering::Relaxed);
                    if counts[frame].release() {
                        assert_eq!(released[frame].load(Ordering::Relaxed), OWNERS, "freed too early");
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(freed.into_inner(), FRAMES);
    assert!(counts.iter().all(|count| !count.is_shared()));
}
