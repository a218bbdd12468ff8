//! The memory map and the address space.

use limine::memory_map::{Entry, EntryType};

use crate::check::{Outcome, present};
use crate::requests::*;
use crate::require;
use crate::walk::{self, walk};

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const FOUR_GIB: u64 = 1 << 32;

fn whole_pages(entry: &Entry) -> bool {
    entry.entry_type == EntryType::USABLE || entry.entry_type == EntryType::BOOTLOADER_RECLAIMABLE
}

/// Sorted; what can be used consists of whole pages and overlaps nothing.
pub fn map() -> Outcome {
    let entries = memory_map();
    require!(!entries.is_empty(), "no entries");
    for (index, entry) in entries.iter().enumerate() {
        let end = entry.base.checked_add(entry.length);
        require!(
            entry.length > 0 && end.is_some(),
            "entry {index}: {:#x}+{:#x}",
            entry.base,
            entry.length
        );
        if whole_pages(entry) {
            require!(
                (entry.base | entry.length) % PAGE == 0,
                "entry {index} at {:#x}",
                entry.base
            );
        }
        let first_page = entry.entry_type == EntryType::USABLE && entry.base < PAGE;
        require!(REVISION >= 3 || !first_page, "page 0 is usable");
    }
    for pair in entries.windows(2) {
        require!(
            pair[0].base <= pair[1].base,
            "{:#x} is before {:#x}",
            pair[0].base,
            pair[1].base
        );
    }
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| whole_pages(entry)) {
        for (_, other) in entries.iter().enumerate().filter(|(other, _)| *other != index) {
            let apart = other.base + other.length <= entry.base || entry.base + entry.length <= other.base;
            require!(apart, "{:#x} and {:#x} overlap", entry.base, other.base);
        }
    }
    Ok(())
}

/// Usable memory can be written, keeps what is written, and is not the same memory twice.
pub fn usable() -> Outcome {
    let pages = || {
        let usable = memory_map()
            .iter()
            .filter(|entry| entry.entry_type == EntryType::USABLE);
        usable.flat_map(|entry| [entry.base, entry.base + entry.length - PAGE])
    };
    let total: u64 = memory_map()
        .iter()
        .filter(|entry| entry.entry_type == EntryType::USABLE)
        .map(|entry| entry.length)
        .sum();
    require!(total >= 1 << 20, "only {total} bytes are usable");
    for page in pages() {
        require!(walk(direct_map() + page).is_some(), "{page:#x} is not mapped");
        // SAFETY: usable memory is free for use, and mapped.
        unsafe { ((direct_map() + page) as *mut u64).write_volatile(!page) };
    }
    for page in pages() {
        // SAFETY: as above.
        let found = unsafe { ((direct_map() + page) as *const u64).read_volatile() };
        require!(found == !page, "{page:#x} holds {found:#x}");
    }
    Ok(())
}

/// Whether the direct map must cover an entry, and everything else it may cover, by base revision.
fn promised(entry: &Entry) -> bool {
    let kind = entry.entry_type;
    match REVISION {
        0 => true,
        1 | 2 => kind != EntryType::RESERVED && kind != EntryType::BAD_MEMORY,
        _ => {
            kind == EntryType::USABLE
                || kind == EntryType::BOOTLOADER_RECLAIMABLE
                || kind == EntryType::EXECUTABLE_AND_MODULES
                || kind == EntryType::FRAMEBUFFER
        }
    }
}

/// One page of the direct map leads to its own physical address and may be read, written and executed.
fn check_page(physical: u64) -> Outcome {
    let mapping = walk(direct_map() + physical);
    let right = mapping.is_some_and(|mapping| {
        mapping.physical == physical && mapping.writable && !mapping.no_execute && !mapping.user
    });
    require!(right, "{physical:#x}: {mapping:x?}");
    Ok(())
}

/// Everything promised is in the direct map, write-back unless it is a framebuffer.
pub fn direct_map_covers() -> Outcome {
    if REVISION < 3 {
        for physical in (0..FOUR_GIB).step_by(LARGE_PAGE as usize) {
            check_page(physical)?;
            check_page(physical + LARGE_PAGE - PAGE)?;
        }
    }
    for entry in memory_map().iter().filter(|entry| promised(entry)) {
        let (start, end) = (entry.base & !(PAGE - 1), entry.base + entry.length);
        let step = if entry.length > 256 << 20 {
            LARGE_PAGE
        } else {
            PAGE
        };
        for physical in (start..end)
            .step_by(step as usize)
            .chain([(end - 1) & !(PAGE - 1)])
        {
            check_page(physical)?;
            let attribute = walk(direct_map() + physical).map(|mapping| mapping.attribute);
            let wanted = if entry.entry_type == EntryType::FRAMEBUFFER {
                5
            } else {
                0
            };
            require!(
                attribute == Some(wanted),
                "{physical:#x} has attribute {attribute:?}"
            );
        }
    }
    Ok(())
}

/// The lower half is empty, except under revision 0, where it is the direct map again.
pub fn identity_map() -> Outcome {
    if REVISION == 0 {
        require!(walk(0).is_none(), "page 0 is mapped");
        for physical in (PAGE..FOUR_GIB).step_by(LARGE_PAGE as usize) {
            let found = walk(physical).map(|mapping| mapping.physical);
            require!(found == Some(physical), "{physical:#x} leads to {found:x?}");
        }
        return Ok(());
    }
    for index in 0..256 {
        let entry = walk::entry(walk::root(), index);
        require!(entry == 0, "entry {index} of the top level is {entry:#x}");
    }
    Ok(())
}

/// Page tables are in reclaimable memory.
pub fn page_tables() -> Outcome {
    let mut stray = None;
    walk::tables(&mut |table| {
        if !all_in(table, PAGE, EntryType::BOOTLOADER_RECLAIMABLE) {
            stray = Some(table);
        }
        stray.is_none()
    });
    require!(stray.is_none(), "a table at {:#x} is not", stray.unwrap_or(0));
    Ok(())
}

/// The framebuffer is where it is said to be, write-combining, and keeps pixels.
pub fn framebuffer() -> Outcome {
    for wanted in words("framebuffer") {
        let found = FRAMEBUFFER.get_response().is_some();
        require!(found == (wanted == "yes"), "there is one: {found}");
    }
    let Some(answer) = FRAMEBUFFER.get_response() else {
        return Ok(());
    };
    let screen = present(answer.framebuffers().next(), "framebuffer in the answer")?;
    let size = screen.pitch() * screen.height();
    let address = screen.addr() as u64;
    let physical = address.wrapping_sub(direct_map());
    require!(
        size > 0 && screen.pitch() >= screen.width() * u64::from(screen.bpp() / 8),
        "bad geometry"
    );
    require!(
        all_in(physical, size, EntryType::FRAMEBUFFER),
        "{physical:#x} is not in the memory map"
    );
    for page in (address & !(PAGE - 1)..address + size).step_by(PAGE as usize) {
        let mapping = walk(page);
        let right = mapping.is_some_and(|mapping| mapping.attribute == 5 && mapping.writable);
        require!(right, "{page:#x}: {mapping:x?}");
    }
    for offset in [0, (size / 2) & !3, size - 4] {
        let place = (address + offset) as *mut u32;
        // SAFETY: inside the framebuffer, which is mapped, as was just checked.
        let found = unsafe {
            place.write_volatile(0x00ab_cdef);
            place.read_volatile()
        };
        require!(
            found & 0xff_ffff == 0xab_cdef,
            "the pixel at {offset:#x} is {found:#x}"
        );
    }
    Ok(())
}
