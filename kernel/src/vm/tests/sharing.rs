//! Anonymous memory, shared objects, keys of words.

use super::*;
use dragonet_abi::Errno;
use dragonet_abi::vmspace::{EntryFlags, EntryInfo, EntryKind};

const BASE: u64 = 0x1000_0000;

pub fn lazy() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let before = crate::mm::frame::statistics().1;
        let object = MemoryObject::anonymous(1 << 43).map_err(|_| "no object")?;
        map(&space, &of_object(1 << 40, 1 << 31, &object, MapFlags::SHARED))?;
        demand!(
            before - crate::mm::frame::statistics().1 < 8,
            "a mapping of 8 TiB takes memory"
        );
        for page in [0, 1, 511, 512, 1 << 18, (1 << 31) - 1] {
            demand!(
                read(&space, (1 << 40) + page * PAGE) == Some(0),
                "untouched memory is not zero"
            );
        }
        demand!(object.resident_pages() == 6, "the count of pages is wrong");
        demand!(
            space.statistics().resident_pages == 6,
            "the count of mapped pages is wrong"
        );
        demand!(
            write(&space, (1 << 40) + 4092, 1 << 40 | 5),
            "a write across pages failed"
        );
        demand!(
            read(&space, (1 << 40) + 4092) == Some(1 << 40 | 5),
            "a value across pages is lost"
        );
        demand!(
            read(&space, (1 << 40) + 4096) == Some(1 << 8),
            "the second half is elsewhere"
        );
        Ok(())
    })
}

pub fn objects() -> Result<(), &'static str> {
    accounted(|| {
        let (one, other) = (space()?, space()?);
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&one, &of_object(BASE, 8, &object, MapFlags::SHARED))?;
        let upper = MapArguments {
            offset: 4 * PAGE,
            protection: READ,
            ..of_object(2 * BASE, 4, &object, MapFlags::SHARED)
        };
        map(&other, &upper)?;
        demand!(write(&one, BASE + 5 * PAGE, 77), "a write failed");
        demand!(
            read(&other, 2 * BASE + PAGE) == Some(77),
            "a shared page is not shared"
        );
        demand!(
            !write(&other, 2 * BASE + PAGE, 78),
            "a write through a read-only mapping"
        );
        // The object outlives every name but the last mapping.
        drop(object);
        drop(one);
        demand!(
            read(&other, 2 * BASE + PAGE) == Some(77),
            "a mapped object went away"
        );
        Ok(())
    })
}

/// What `for_each_entry` shows: order, ranges, rights, kinds, objects, offsets, pages.
pub fn inspection() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        let upper = MapArguments {
            offset: 4 * PAGE,
            maximum: READ_WRITE,
            ..of_object(BASE, 4, &object, MapFlags::SHARED)
        };
        map(&space, &upper)?;
        map(&space, &of_object(2 * BASE, 8, &object, MapFlags::PRIVATE))?;
        let table = of_object(3 * BASE, 1, &object, MapFlags::SHARED | MapFlags::VPAGETABLE);
        map(&space, &table)?;
        map(&space, &anonymous(4 * BASE, 2))?;
        demand!(
            write(&space, BASE, 1) && write(&space, 2 * BASE, 1),
            "a write failed"
        );
        let mut seen = alloc::vec::Vec::new();
        space.for_each_entry(0, usize::MAX, |entry| seen.push(entry));
        let ranges = [(BASE, 4), (2 * BASE, 8), (3 * BASE, 1), (4 * BASE, 2)];
        demand!(
            seen.len() == 4 && seen.is_sorted_by_key(|entry| entry.start),
            "entries are missing"
        );
        for (entry, (start, pages)) in seen.iter().zip(ranges) {
            demand!(
                entry.start == start && entry.end == start + pages * PAGE,
                "a wrong range"
            );
        }
        let kinds = [
            EntryKind::Shared,
            EntryKind::Private,
            EntryKind::Vpagetable,
            EntryKind::Private,
        ];
        demand!(
            seen.iter()
                .zip(kinds)
                .all(|(entry, kind)| entry.kind == kind as u32),
            "a wrong kind"
        );
        demand!(
            seen[0].protection == READ_WRITE.bits()
                && seen[0].maximum == READ_WRITE.bits()
                && seen[0].offset == 4 * PAGE,
            "wrong rights or offset"
        );
        demand!(
            seen[..3].iter().all(|entry| entry.object == object.id()) && seen[3].object != object.id(),
            "a wrong object"
        );
        let flags = [
            EntryFlags::empty(),
            EntryFlags::COPY_ON_WRITE,
            EntryFlags::empty(),
            EntryFlags::ANONYMOUS,
        ];
        demand!(
            seen.iter()
                .zip(flags)
                .all(|(entry, flags)| entry.flags == flags.bits()),
            "wrong flags"
        );
        // One page of the object through the first; the same and a copy of another through the second.
        demand!(
            seen[0].object_pages == 1 && seen[1].object_pages == 1 && seen[3].object_pages == 0,
            "wrong pages"
        );
        demand!(
            seen[0].copied_pages == 0 && seen[1].copied_pages == 1,
            "wrong copies"
        );
        let mapped = |entry: &EntryInfo| space.mapped_pages(&(entry.start..entry.end), || true);
        demand!(
            seen.iter().map(mapped).eq([Some(1), Some(1), Some(0), Some(0)]),
            "wrong mapped pages"
        );
        Ok(())
    })
}

pub fn word_keys() -> Result<(), &'static str> {
    accounted(|| {
        let (one, other) = (space()?, space()?);
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&one, &of_object(BASE, 8, &object, MapFlags::SHARED))?;
        let upper = MapArguments {
            offset: 4 * PAGE,
            ..of_object(2 * BASE, 4, &object, MapFlags::SHARED)
        };
        map(&other, &upper)?;
        let key = one.word_key(BASE + 5 * PAGE + 4);
        demand!(
            key.is_ok() && key == other.word_key(2 * BASE + PAGE + 4),
            "one word, two keys"
        );
        demand!(key != one.word_key(BASE + 5 * PAGE), "two words, one key");
        map(&one, &of_object(3 * BASE, 8, &object, MapFlags::PRIVATE))?;
        map(&other, &of_object(3 * BASE, 8, &object, MapFlags::PRIVATE))?;
        let private = one.word_key(3 * BASE + 5 * PAGE + 4);
        demand!(
            private.is_ok() && private != key,
            "a private word has the object's key"
        );
        demand!(
            private != other.word_key(3 * BASE + 5 * PAGE + 4),
            "two private words, one key"
        );
        demand!(write(&one, 3 * BASE + 5 * PAGE + 4, 1), "a write failed");
        demand!(
            private == one.word_key(3 * BASE + 5 * PAGE + 4),
            "the copy changed the key"
        );
        let table = of_object(4 * BASE, 1, &object, MapFlags::SHARED | MapFlags::VPAGETABLE);
        map(&one, &table)?;
        demand!(
            one.word_key(4 * BASE) == Err(Errno::EINVAL),
            "a key through a virtual page table"
        );
        demand!(
            one.word_key(BASE + 2) == Err(Errno::EINVAL),
            "a key of a misaligned word"
        );
        demand!(one.word_key(5 * BASE) == Err(Errno::EFAULT), "a key of nothing");
        Ok(())
    })
}
