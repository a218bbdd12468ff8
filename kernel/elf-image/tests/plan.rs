//! Plans from hand-made files: what is accepted, what is refused and why, and that nothing makes the parser give out a
//! plan that breaks its promises.

use elf_image::{Image, ImageError, Kind, MAX_SEGMENTS, PAGE_SIZE};
use proptest::prelude::*;
use std::ops::Range;

const BOUNDS: Range<u64> = 0x1_0000..0x7fff_ffff_f000;
const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

#[derive(Clone, Debug)]
struct Load {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

impl Load {
    fn new(flags: u32, offset: u64, address: u64, file_size: u64, memory_size: u64) -> Self {
        Load {
            kind: 1,
            flags,
            offset,
            address,
            file_size,
            memory_size,
            alignment: PAGE_SIZE,
        }
    }
}

fn file(elf_type: u16, entry: u64, loads: &[Load]) -> Vec<u8> {
    let mut bytes = vec![0; 0x4000];
    bytes[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(16, &elf_type.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &u16::try_from(loads.len()).unwrap().to_le_bytes());
    for (index, load) in loads.iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &load.kind.to_le_bytes());
        put(at + 4, &load.flags.to_le_bytes());
        put(at + 8, &load.offset.to_le_bytes());
        put(at + 16, &load.address.to_le_bytes());
        put(at + 24, &load.address.to_le_bytes());
        put(at + 32, &load.file_size.to_le_bytes());
        put(at + 40, &load.memory_size.to_le_bytes());
        put(at + 48, &load.alignment.to_le_bytes());
    }
    bytes
}

fn ordinary() -> Vec<Load> {
    vec![
        Load::new(READ, 0, 0x20_0000, 0x800, 0x800),
        Load::new(READ | EXECUTE, 0x1000, 0x20_1000, 0x1234, 0x1234),
        Load::new(READ | WRITE, 0x2234, 0x20_3234, 0x10, 0x5000),
    ]
}

fn refusal(elf_type: u16, entry: u64, loads: &[Load]) -> ImageError {
    Image::parse(&file(elf_type, entry, loads), 0, BOUNDS).unwrap_err()
}

#[test]
fn an_ordinary_program_is_planned() {
    let bytes = file(2, 0x20_1010, &ordinary());
    let image = Image::parse(&bytes, 0x1000_0000, BOUNDS).unwrap();
    assert_eq!((image.kind, image.bias, image.entry), (Kind::Fixed, 0, 0x20_1010));
    assert_eq!(image.headers_address, Some(0x20_0040));
    assert_eq!(image.header_count, 3);
    assert_eq!(image.span(), 0x20_0000..0x20_9000);
    let data = image.segments()[2];
    assert_eq!(data.pages(), 0x20_3000..0x20_9000);
    assert_eq!(data.file_addresses(), 0x20_3234..0x20_3244);
    assert_eq!(data.bytes(&bytes), &bytes[0x2234..0x2244]);
    assert!(data.protection.write && !data.protection.execute);
}

#[test]
fn a_position_independent_program_moves_by_the_bias() {
    let mut loads = ordinary();
    for load in &mut loads {
        load.address -= 0x20_0000;
    }
    let bytes = file(3, 0x1010, &loads);
    let image = Image::parse(&bytes, 0x5555_0000_0000, BOUNDS).unwrap();
    assert_eq!(
        (image.kind, image.entry),
        (Kind::PositionIndependent, 0x5555_0000_1010)
    );
    assert_eq!(image.headers_address, Some(0x5555_0000_0040));
    assert_eq!(image.segments()[1].address, 0x5555_0000_1000);
    assert_eq!(
        Image::parse(&bytes, 0x5555_0000_0800, BOUNDS),
        Err(ImageError::BadBias)
    );
    assert_eq!(Image::parse(&bytes, 0, BOUNDS), Err(ImageError::OutOfBounds));
    assert_eq!(Image::parse(&bytes, !0xfff, BOUNDS), Err(ImageError::BadEntry));
}

#[test]
fn a_coarse_alignment_binds_the_bias() {
    let mut loads = ordinary();
    loads[1].alignment = 0x20_0000;
    let bytes = file(3, 0x20_1010, &loads);
    assert_eq!(
        Image::parse(&bytes, 0x4000_0000, BOUNDS).unwrap().alignment,
        0x20_0000
    );
    assert_eq!(
        Image::parse(&bytes, 0x4000_1000, BOUNDS),
        Err(ImageError::BadBias)
    );
}

#[test]
fn headers_outside_every_segment_have_no_address() {
    let bytes = file(2, 0x20_1010, &ordinary()[1..]);
    assert_eq!(Image::parse(&bytes, 0, BOUNDS).unwrap().headers_address, None);
}

#[test]
fn segments_are_refused_for_what_is_wrong_with_them() {
    let with = |change: fn(&mut Vec<Load>)| {
        let mut loads = ordinary();
        change(&mut loads);
        refusal(2, 0x20_1010, &loads)
    };
    assert_eq!(
        with(|loads| loads[1].flags |= WRITE),
        ImageError::WritableAndExecutable
    );
    assert_eq!(with(|loads| loads[2].flags = WRITE), ImageError::WriteOnly);
    assert_eq!(with(|loads| loads[2].address = 0x20_2234), ImageError::Overlap);
    assert_eq!(with(|loads| loads.swap(0, 1)), ImageError::Overlap);
    assert_eq!(
        with(|loads| loads[2].memory_size = u64::MAX),
        ImageError::OutOfBounds
    );
    assert_eq!(
        with(|loads| loads[2].memory_size = 0x7fff_ffff_f000),
        ImageError::OutOfBounds
    );
    assert_eq!(with(|loads| loads[0].address = 0), ImageError::OutOfBounds);
    assert_eq!(
        with(|loads| loads[2].address = 0xffff_8000_0000_0234),
        ImageError::OutOfBounds
    );
    assert_eq!(with(|loads| loads[2].address += 8), ImageError::BadAlignment);
    assert_eq!(
        with(|loads| loads[1].alignment = 0x1001),
        ImageError::BadAlignment
    );
    assert_eq!(
        with(|loads| loads[2].alignment = 0x20_0000),
        ImageError::BadAlignment
    );
    assert_eq!(
        with(|loads| loads[2].file_size = 0x5001),
        ImageError::BadFileRange
    );
    assert_eq!(
        with(|loads| loads[1].file_size = 0x1_0000),
        ImageError::BadFileRange
    );
    assert_eq!(with(|loads| loads[1].offset = !0xfff), ImageError::BadFileRange);
    assert_eq!(with(|loads| loads[0].kind = 3), ImageError::NeedsInterpreter);
    assert_eq!(with(|loads| loads.truncate(1)), ImageError::BadEntry);
    assert_eq!(with(Vec::clear), ImageError::NoSegments);
}

#[test]
fn entry_must_be_executable() {
    assert_eq!(refusal(2, 0x20_0010, &ordinary()), ImageError::BadEntry);
    assert_eq!(refusal(2, 0, &ordinary()), ImageError::BadEntry);
    assert_eq!(refusal(2, 0x20_2234, &ordinary()), ImageError::BadEntry);
}

#[test]
fn files_of_other_kinds_are_refused() {
    let good = file(2, 0x20_1010, &ordinary());
    let with = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        Image::parse(&bytes, 0, BOUNDS).unwrap_err()
    };
    assert_eq!(with(0, b'M'), ImageError::NotElf);
    assert_eq!(with(4, 1), ImageError::WrongClass);
    assert_eq!(with(5, 2), ImageError::WrongClass);
    assert_eq!(with(16, 1), ImageError::WrongType);
    assert_eq!(with(18, 3), ImageError::WrongMachine);
    assert_eq!(with(54, 32), ImageError::BadHeaders);
    assert_eq!(with(39, 0xff), ImageError::BadHeaders);
    assert_eq!(Image::parse(&good[..63], 0, BOUNDS), Err(ImageError::NotElf));
    assert_eq!(Image::parse(&good[..100], 0, BOUNDS), Err(ImageError::BadHeaders));
    assert_eq!(Image::parse(b"#!/bin/sh\n", 0, BOUNDS), Err(ImageError::NotElf));
}

#[test]
fn there_is_a_limit_to_segments() {
    let loads = |count: u64| -> Vec<Load> {
        (0..count)
            .map(|index| Load::new(READ | EXECUTE, 0, 0x20_0000 + index * PAGE_SIZE, 16, 16))
            .collect()
    };
    let most = file(2, 0x20_0000, &loads(MAX_SEGMENTS as u64));
    assert_eq!(
        Image::parse(&most, 0, BOUNDS).unwrap().segments().len(),
        MAX_SEGMENTS
    );
    assert_eq!(
        refusal(2, 0x20_0000, &loads(MAX_SEGMENTS as u64 + 1)),
        ImageError::TooManySegments
    );
}

fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0_u64..64).prop_map(|page| page * PAGE_SIZE),
        (0x200_u64..0x220).prop_map(|page| page * PAGE_SIZE),
        0_u64..0x5000,
        Just(u64::MAX),
        Just(0x7fff_ffff_f000),
        any::<u64>(),
    ]
}

prop_compose! {
    fn any_load()(
        kind in prop_oneof![9 => Just(1_u32), 1 => 0_u32..8],
        flags in 0_u32..8,
        offset in interesting(),
        address in interesting(),
        file_size in interesting(),
        memory_size in interesting(),
        alignment in prop_oneof![Just(0_u64), Just(1), Just(16), Just(PAGE_SIZE), any::<u64>()],
    ) -> Load {
        Load { kind, flags, offset, address, file_size, memory_size, alignment }
    }
}

fn check(bytes: &[u8], bias: u64) {
    let Ok(image) = Image::parse(bytes, bias, BOUNDS) else {
        return;
    };
    assert!(!image.segments().is_empty());
    let mut end = BOUNDS.start;
    for segment in image.segments() {
        let pages = segment.pages();
        assert!(pages.start >= end && pages.end > pages.start && pages.end <= BOUNDS.end);
        end = pages.end;
        assert!(!(segment.protection.write && segment.protection.execute));
        assert!(segment.file_size <= segment.memory_size);
        assert_eq!(segment.bytes(bytes).len() as u64, segment.file_size);
        assert_eq!(segment.address % PAGE_SIZE, segment.file_offset % PAGE_SIZE);
    }
    assert!(
        image
            .segments()
            .iter()
            .any(|segment| segment.protection.execute && segment.contains(image.entry))
    );
}

proptest! {
    #[test]
    fn plans_keep_their_promises(
        loads in proptest::collection::vec(any_load(), 0..6),
        elf_type in 2_u16..4,
        entry in interesting(),
        bias in interesting(),
    ) {
        check(&file(elf_type, entry, &loads), bias);
    }

    #[test]
    fn damaged_files_give_sound_plans_or_none(
        changes in proptest::collection::vec((0_usize..240, any::<u8>()), 1..6),
        length in 0_usize..0x4000,
    ) {
        let mut bytes = file(3, 0x20_1010, &ordinary());
        for (offset, value) in changes {
            bytes[offset] = value;
        }
        check(&bytes, 0);
        bytes.truncate(length);
        check(&bytes, 0);
    }
}
