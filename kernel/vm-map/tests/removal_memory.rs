//! Removing entries needs next to no memory: it must work when a program has used up all of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use vm_map::{Map, Payload};

static NOW: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size() as isize, Ordering::SeqCst) + layout.size() as isize;
        PEAK.fetch_max(now, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As large as the kernel's.
#[derive(Clone)]
struct Region([u64; 8]);

impl Payload for Region {
    fn advance(&mut self, bytes: u64) {
        self.0[0] += bytes;
    }

    fn retreat(&mut self, bytes: u64) -> bool {
        let below = self.0[0].checked_sub(bytes);
        self.0[0] = below.unwrap_or(self.0[0]);
        below.is_some()
    }
}

const PAGE: u64 = 4096;
const ENTRIES: u64 = 65_000;

/// A map whose tree nodes are full: ascending insertion leaves six entries in a node and one above; five more fit.
fn dense() -> Map<Region> {
    let mut map = Map::new(0..1 << 47, ENTRIES as usize + 2);
    let first = (0..ENTRIES).filter(|number| number % 12 < 7);
    let rest = (0..ENTRIES).filter(|number| number % 12 >= 7);
    for number in first.chain(rest) {
        let start = number * PAGE;
        map.insert(start..start + PAGE, Region([number; 8]))
            .expect("room");
    }
    map
}

/// Bytes that `action` needs at some time beyond those in use before.
fn peak_of<R>(action: impl FnOnce() -> R) -> (R, isize) {
    let before = NOW.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    let result = action();
    (result, PEAK.load(Ordering::SeqCst) - before)
}

#[test]
fn removing_many_entries_takes_little_memory() {
    for (from, to) in [
        (0, ENTRIES),
        (1, ENTRIES),
        (0, ENTRIES - 1),
        (100, ENTRIES - 100),
        (0, 300),
        (0, 250),
    ] {
        let (mut map, held) = peak_of(dense);
        let (removed, peak) = peak_of(|| map.remove(from * PAGE..to * PAGE).expect("nothing is split"));
        let numbers: Vec<u64> = removed.iter().map(|entry| entry.payload.0[0]).collect();
        assert_eq!(numbers, (from..to).collect::<Vec<u64>>());
        assert_eq!(map.len() as u64, ENTRIES - (to - from));
        assert!(map.is_free(from * PAGE..to * PAGE));
        assert!(from == 0 || map.covers(0..from * PAGE));
        assert!(to == ENTRIES || map.covers(to * PAGE..ENTRIES * PAGE));
        assert!(peak < 64 << 10, "{from}..{to}: {peak} bytes more than {held}");
    }
}
