//! Address spaces without programs: faults, copies, fork and the rest, seen through the vkernel's own copies and the table.

use super::area::{Protection, Source};
use super::copy::WordKey;
use super::fault::{Access, Fault, Resolution};
use super::frames::tests::memory;
use super::space::Placement;
use super::{AddressSpace, MemoryObject, PhysicalMemory};
use crate::linux::Errno;
use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::{PAGE_SIZE, USER_END};

const RW: Protection = Protection::READ.union(Protection::WRITE);
const BASE: u64 = 0x40_0000;

fn space(memory: &'static PhysicalMemory) -> AddressSpace {
    AddressSpace::new(memory).unwrap()
}

fn anonymous(space: &AddressSpace, pages: u64) -> u64 {
    space
        .map(
            Placement::Replace(BASE),
            pages * PAGE_SIZE,
            RW,
            false,
            Source::Anonymous,
        )
        .unwrap()
}

fn object_source(object: &Arc<MemoryObject>, offset: u64, limit: u64) -> Source {
    Source::Object {
        object: object.clone(),
        offset,
        limit,
    }
}

#[test]
fn pages_come_when_touched_and_go_when_unmapped() {
    let memory = memory(64);
    let space = space(memory);
    let free = memory.statistics().1;
    anonymous(&space, 10);
    assert_eq!(memory.statistics().1, free);
    space.write_bytes(BASE + PAGE_SIZE - 2, b"abcd").unwrap();
    let mut back = [0; 4];
    space.read_bytes(BASE + PAGE_SIZE - 2, &mut back).unwrap();
    assert_eq!(&back, b"abcd");
    space.unmap(BASE, PAGE_SIZE).unwrap();
    assert_eq!(
        space.read_bytes(BASE + PAGE_SIZE - 2, &mut back),
        Err(Errno::EFAULT)
    );
    assert_eq!(space.read_some(BASE + PAGE_SIZE, &mut back), Ok(4));
    assert_eq!(&back, b"cd\0\0");
    drop(space);
    assert_eq!(memory.statistics().1, 64);
}

#[test]
fn wrong_addresses_are_faults() {
    let space = space(memory(64));
    anonymous(&space, 2);
    let mut byte = [0];
    for address in [0, BASE - 1, BASE + 2 * PAGE_SIZE, USER_END, 1 << 47, u64::MAX] {
        assert_eq!(
            space.read_bytes(address, &mut byte),
            Err(Errno::EFAULT),
            "{address:#x}"
        );
        assert_eq!(space.fault(address, Access::Read), Err(Fault::NotMapped));
    }
    assert_eq!(space.write_some(BASE + 2 * PAGE_SIZE - 3, b"12345"), Ok(3));
    assert_eq!(
        space.read_bytes(BASE + 2 * PAGE_SIZE - 3, &mut [0; 5]),
        Err(Errno::EFAULT)
    );
    assert_eq!(space.read_string(BASE, 8, Errno::E2BIG), Ok(vec![]));
    space.write_bytes(BASE, &[b'x'; 300]).unwrap();
    assert_eq!(space.read_string(BASE, 300, Errno::E2BIG), Err(Errno::E2BIG));
    assert_eq!(space.read_string(BASE, 301, Errno::E2BIG).unwrap().len(), 300);
}

#[test]
fn protection_is_kept_and_contents_survive_it() {
    let space = space(memory(64));
    anonymous(&space, 1);
    space.write_bytes(BASE, b"kept").unwrap();
    space.protect(BASE, PAGE_SIZE, Protection::empty()).unwrap();
    assert_eq!(space.fault(BASE, Access::Read), Err(Fault::Forbidden));
    space.protect(BASE, PAGE_SIZE, Protection::READ).unwrap();
    assert_eq!(space.write_bytes(BASE, b"lost"), Err(Errno::EFAULT));
    assert_eq!(space.fault(BASE, Access::Execute), Err(Fault::Forbidden));
    let mut back = [0; 4];
    space.read_bytes(BASE, &mut back).unwrap();
    assert_eq!(&back, b"kept");
    space.protect(BASE, PAGE_SIZE, RW).unwrap();
    assert_eq!(space.fault(BASE, Access::Write), Ok(Resolution::Changed));
    assert_eq!(space.fault(BASE, Access::Write), Ok(Resolution::Already));
}

#[test]
fn a_fork_sees_what_was_there_and_neither_sees_the_other() {
    let memory = memory(128);
    let parent = space(memory);
    anonymous(&parent, 8);
    for page in 0..8 {
        parent
            .write_bytes(BASE + page * PAGE_SIZE, &[page as u8; 16])
            .unwrap();
    }
    let child = parent.fork().unwrap();
    parent.write_bytes(BASE, b"parent").unwrap();
    child.write_bytes(BASE + PAGE_SIZE, b"child").unwrap();
    let grandchild = child.fork().unwrap();
    child.write_bytes(BASE, b"changed").unwrap();
    let first = |space: &AddressSpace, page: u64| {
        let mut back = [0; 5];
        space.read_bytes(BASE + page * PAGE_SIZE, &mut back).unwrap();
        back
    };
    assert_eq!((&first(&parent, 0), first(&parent, 1)), (b"paren", [1; 5]));
    assert_eq!((&first(&child, 0), &first(&child, 1)), (b"chang", b"child"));
    assert_eq!(
        (first(&grandchild, 0), &first(&grandchild, 1)),
        ([0; 5], b"child")
    );
    assert_eq!(first(&grandchild, 7), [7; 5]);
    drop(parent);
    drop(grandchild);
    assert_eq!(first(&child, 7), [7; 5]);
    drop(child);
    assert_eq!(memory.statistics().1, 128);
}

#[test]
fn shared_mappings_are_shared_and_private_ones_are_not() {
    static IMAGE: [u8; 6000] = [b'f'; 6000];
    let memory = memory(128);
    let object = Arc::new(MemoryObject::from_image(memory, &IMAGE));
    let one = space(memory);
    let map = |space: &AddressSpace, at: u64, shared: bool| {
        let source = object_source(&object, 0, u64::MAX);
        space
            .map(Placement::Replace(at), 6000, RW, shared, source)
            .unwrap()
    };
    let (shared, private) = (BASE, BASE + 0x10_000);
    map(&one, shared, true);
    map(&one, private, false);
    let two = one.fork().unwrap();
    one.write_bytes(shared, b"S").unwrap();
    one.write_bytes(private, b"P").unwrap();
    let byte = |space: &AddressSpace, address: u64| {
        let mut back = [0];
        space.read_bytes(address, &mut back).unwrap();
        back[0]
    };
    assert_eq!((byte(&two, shared), byte(&two, private)), (b'S', b'S'));
    assert_eq!(byte(&one, private), b'P');
    assert_eq!(byte(&one, shared + 6001), 0, "behind the end, in the last page");
    let key = |space: &AddressSpace, address| space.with_word(address, Access::Read, |_, key| key).unwrap();
    assert_eq!(key(&one, shared + 8), key(&two, shared + 8));
    assert_eq!(
        key(&one, shared + 8),
        WordKey::Shared {
            object: object.id(),
            offset: 8
        }
    );
    assert_ne!(key(&one, private), key(&two, private));
    drop((one, two, object));
    assert_eq!(memory.statistics().1, 128);
}

#[test]
fn a_segment_ends_in_zeroes_and_a_mapping_with_the_file() {
    static IMAGE: [u8; 6000] = [b'f'; 6000];
    let memory = memory(64);
    let object = Arc::new(MemoryObject::from_image(memory, &IMAGE));
    let space = space(memory);
    let source = object_source(&object, 0, 100);
    space
        .map(Placement::Exclusive(BASE), 0x4000, RW, false, source)
        .unwrap();
    let mut back = [1; 102];
    space.read_bytes(BASE, &mut back).unwrap();
    assert_eq!((back[99], back[100], back[101]), (b'f', 0, 0));
    assert_eq!(
        space.fault(BASE + 2 * PAGE_SIZE, Access::Read),
        Err(Fault::BehindEnd)
    );
    object.read(98, &mut back[..4]);
    assert_eq!(&back[..4], b"ffff");
}

#[test]
fn discarded_pages_are_new() {
    let space = space(memory(64));
    anonymous(&space, 2);
    space.write_bytes(BASE, b"old").unwrap();
    space.discard(BASE, PAGE_SIZE).unwrap();
    let mut back = [1; 3];
    space.read_bytes(BASE, &mut back).unwrap();
    assert_eq!(back, [0; 3]);
    assert_eq!(space.discard(BASE, 4 * PAGE_SIZE), Err(Errno::ENOMEM));
    assert_eq!(space.discard(BASE + 1, PAGE_SIZE), Err(Errno::EINVAL));
}

#[test]
fn the_heap_grows_and_shrinks() {
    let space = space(memory(64));
    space.set_heap_start(BASE + 100);
    assert_eq!(space.set_break(0), BASE + 100);
    assert_eq!(
        space.set_break(BASE + 3 * PAGE_SIZE + 5),
        BASE + 3 * PAGE_SIZE + 5
    );
    space.write_bytes(BASE + 4 * PAGE_SIZE - 1, b"x").unwrap();
    assert_eq!(space.set_break(u64::MAX), BASE + 3 * PAGE_SIZE + 5);
    assert_eq!(space.set_break(BASE + PAGE_SIZE), BASE + PAGE_SIZE);
    assert_eq!(
        space.write_bytes(BASE + 4 * PAGE_SIZE - 1, b"x"),
        Err(Errno::EFAULT)
    );
    space
        .map(
            Placement::Exclusive(BASE + 0x10_000),
            PAGE_SIZE,
            RW,
            false,
            Source::Anonymous,
        )
        .unwrap();
    assert_eq!(
        space.set_break(BASE + 0x20_000),
        BASE + PAGE_SIZE,
        "something is in the way"
    );
}

#[test]
fn placements_are_honoured_or_refused() {
    let space = space(memory(64));
    let map = |placement, length| space.map(placement, length, RW, false, Source::Anonymous);
    let first = map(Placement::Hint(0), 1).unwrap();
    let second = map(Placement::Hint(first), 1).unwrap();
    assert_ne!(first, second);
    assert_eq!(map(Placement::Exclusive(first), 1), Err(Errno::EEXIST));
    assert_eq!(map(Placement::Replace(first), 1), Ok(first));
    assert_eq!(map(Placement::Hint(BASE + 5), 1), Ok(BASE));
    assert_eq!(map(Placement::Hint(0), 0), Err(Errno::EINVAL));
    assert_eq!(map(Placement::Hint(0), u64::MAX), Err(Errno::ENOMEM));
    assert_eq!(map(Placement::Replace(BASE + 1), 1), Err(Errno::EINVAL));
    for address in [0, USER_END, !4095] {
        assert_eq!(
            map(Placement::Replace(address), PAGE_SIZE),
            Err(Errno::ENOMEM),
            "{address:#x}"
        );
    }
}

#[test]
fn running_out_of_frames_is_an_error_and_gives_everything_back() {
    let memory = memory(20);
    let space = space(memory);
    anonymous(&space, 100);
    let reached = (0..100)
        .take_while(|page| space.fault(BASE + page * PAGE_SIZE, Access::Write).is_ok())
        .count();
    assert!((10..20).contains(&reached), "{reached}");
    assert_eq!(
        space.fault(BASE + 99 * PAGE_SIZE, Access::Write),
        Err(Fault::OutOfMemory)
    );
    assert_eq!(space.fork().err(), Some(Errno::ENOMEM));
    space.unmap(BASE, 100 * PAGE_SIZE).unwrap();
    assert!(memory.statistics().1 >= reached as u32);
    drop(space);
    assert_eq!(memory.statistics().1, 20);
}

/// Random operations on a parent and a fork of it, against two plain arrays.
#[test]
fn random_operations_agree_with_plain_arrays() {
    const PAGES: u64 = 12;
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = move |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    let memory = memory(512);
    for _ in 0..30 {
        let parent = space(memory);
        anonymous(&parent, PAGES);
        let mut spaces = vec![(parent, vec![0_u8; (PAGES * PAGE_SIZE) as usize])];
        for _ in 0..300 {
            let which = random(spaces.len() as u64) as usize;
            let start = random(PAGES * PAGE_SIZE - 1);
            let length = 1 + random((PAGES * PAGE_SIZE - start).min(9000));
            let range = start as usize..(start + length) as usize;
            let (space, model) = &mut spaces[which];
            match random(10) {
                0..=3 => {
                    let bytes = vec![random(256) as u8; length as usize];
                    space.write_bytes(BASE + start, &bytes).unwrap();
                    model[range].copy_from_slice(&bytes);
                }
                4..=7 => {
                    let mut bytes = vec![0; length as usize];
                    space.read_bytes(BASE + start, &mut bytes).unwrap();
                    assert!(bytes == model[range]);
                }
                8 => {
                    let page = start / PAGE_SIZE;
                    space.discard(BASE + page * PAGE_SIZE, PAGE_SIZE).unwrap();
                    model[(page * PAGE_SIZE) as usize..((page + 1) * PAGE_SIZE) as usize].fill(0);
                }
                _ if spaces.len() < 4 => {
                    let forked = (spaces[which].0.fork().unwrap(), spaces[which].1.clone());
                    spaces.push(forked);
                }
                _ => drop(spaces.swap_remove(which)),
            }
        }
    }
    assert_eq!(memory.statistics().1, 512);
}

#[test]
fn words_are_found_where_programs_see_them() {
    let space = space(memory(64));
    anonymous(&space, 1);
    space.write(BASE + 40, &7_u32).unwrap();
    let found = space.with_word(BASE + 40, Access::Write, |word, _| word.swap(9, Ordering::SeqCst));
    assert_eq!(found, Ok(7));
    assert_eq!(space.read::<u32>(BASE + 40), Ok(9));
    assert_eq!(
        space.with_word(BASE + 41, Access::Read, |_, _| ()),
        Err(Errno::EINVAL)
    );
    assert_eq!(space.with_word(0, Access::Read, |_, _| ()), Err(Errno::EFAULT));
}
