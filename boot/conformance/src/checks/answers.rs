//! The answers as such, and those about the firmware.

use limine::firmware_type::FirmwareType;
use limine::memory_map::EntryType;

use crate::check::{Outcome, Why, present};
use crate::requests::*;
use crate::require;

/// The base revision is the one asked for, and the tag says so.
pub fn base_revision() -> Outcome {
    require!(
        BASE_REVISION.is_supported(),
        "the third word of the tag is not zero"
    );
    require!(
        BASE_REVISION.loaded_revision() == Some(REVISION),
        "loaded with {:?}, not {REVISION}",
        BASE_REVISION.loaded_revision()
    );
    Ok(())
}

/// The loader has a name and a version.
pub fn bootloader_info() -> Outcome {
    let answer = present(LOADER.get_response(), "answer")?;
    require!(
        !answer.name().is_empty() && !answer.version().is_empty(),
        "empty name or version"
    );
    present(STACK_SIZE.get_response(), "answer to the stack size request")?;
    present(ENTRY_POINT.get_response(), "answer to the entry point request")?;
    Ok(())
}

/// What does not exist on this machine has no answer, nor has what is outside the markers.
pub fn unanswered() -> Outcome {
    require!(DEVICE_TREE.get_response().is_none(), "a device tree on a PC");
    require!(
        OUTSIDE.get_response().is_none(),
        "a request outside the markers was answered"
    );
    Ok(())
}

/// Every answer is in reclaimable memory, seen through the direct map.
pub fn in_reclaimable_memory() -> Outcome {
    fn place<T>(answer: Option<&T>, name: &str) -> Result<(), Why> {
        let Some(answer) = answer else { return Ok(()) };
        let address = (&raw const *answer) as u64;
        let physical = address.wrapping_sub(direct_map());
        let inside = all_in(physical, size_of::<T>() as u64, EntryType::BOOTLOADER_RECLAIMABLE);
        require!(
            inside && address.is_multiple_of(8),
            "the answer about {name} is at {address:#x}"
        );
        Ok(())
    }
    place(LOADER.get_response(), "the loader")?;
    place(COMMAND_LINE.get_response(), "the command line")?;
    place(FIRMWARE.get_response(), "the firmware")?;
    place(DIRECT_MAP.get_response(), "the direct map")?;
    place(FRAMEBUFFER.get_response(), "the framebuffer")?;
    place(PROCESSORS.get_response(), "processors")?;
    place(MEMORY_MAP.get_response(), "memory")?;
    place(memory_map().first().copied(), "the first region")?;
    place(memory_map().last().copied(), "the last region")?;
    place(FILE.get_response(), "the executable")?;
    place(MODULES.get_response(), "modules")?;
    place(RSDP.get_response(), "the RSDP")?;
    place(ADDRESS.get_response(), "the image")?;
    for cpu in PROCESSORS.get_response().map_or(&[][..], |answer| answer.cpus()) {
        place(Some(*cpu), "a processor")?;
    }
    Ok(())
}

/// Four levels, as asked.
pub fn paging_mode() -> Outcome {
    let answer = present(PAGING_MODE.get_response(), "answer")?;
    require!(
        answer.mode() == limine::paging::Mode::FOUR_LEVEL,
        "not four levels"
    );
    Ok(())
}

/// The date is a sensible one.
pub fn date() -> Outcome {
    let seconds = present(DATE.get_response(), "answer")?.timestamp().as_secs();
    const YEAR: u64 = 31_556_952;
    let year = 1970 + seconds / YEAR;
    require!((2020..2100).contains(&year), "the year {year}");
    Ok(())
}

/// The type of the firmware, and EFI's tables exactly if it is EFI.
pub fn firmware() -> Outcome {
    let kind = present(FIRMWARE.get_response(), "answer")?.firmware_type();
    let efi = kind == FirmwareType::UEFI_64 || kind == FirmwareType::UEFI_32;
    require!(efi || kind == FirmwareType::X86_BIOS, "neither BIOS nor EFI");
    for wanted in words("firmware") {
        require!(efi == (wanted == "uefi"), "the firmware is not {wanted}");
    }
    require!(EFI.get_response().is_some() == efi, "system table: {}", !efi);
    require!(
        EFI_MEMORY_MAP.get_response().is_some() == efi,
        "EFI memory map: {}",
        !efi
    );
    if let Some(answer) = EFI.get_response()
        && REVISION < 3
    {
        let physical = (answer.address() as u64).wrapping_sub(direct_map());
        require!(
            bytes(physical, 8)? == b"IBI SYST",
            "no system table at {physical:#x}"
        );
    }
    if let Some(answer) = EFI_MEMORY_MAP.get_response() {
        let physical = (answer.memmap() as u64).wrapping_sub(direct_map());
        let size = answer.memmap_size();
        require!(
            all_in(physical, size, EntryType::BOOTLOADER_RECLAIMABLE),
            "the EFI map at {physical:#x}"
        );
        require!(
            answer.desc_size() >= 40 && size.is_multiple_of(answer.desc_size()),
            "its size {size}"
        );
    }
    Ok(())
}

/// ACPI's root pointer.
pub fn rsdp() -> Outcome {
    let address = present(RSDP.get_response(), "answer")?.address() as u64;
    if REVISION >= 3 {
        require!(address < 1 << 52, "not a physical address: {address:#x}");
        return Ok(());
    }
    let pointer = bytes(address.wrapping_sub(direct_map()), 20)?;
    require!(
        pointer.starts_with(b"RSD PTR "),
        "no root pointer at {address:#x}"
    );
    let sum = pointer.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    require!(sum == 0, "its checksum is {sum}");
    Ok(())
}

/// SMBIOS, where there is one.
pub fn smbios() -> Outcome {
    let Some(answer) = SMBIOS.get_response() else {
        return Ok(());
    };
    require!(
        answer.entry_32().is_some() || answer.entry_64().is_some(),
        "an answer without an address"
    );
    if REVISION >= 3 {
        return Ok(());
    }
    for (entry, anchor) in [(answer.entry_32(), &b"_SM_"[..]), (answer.entry_64(), b"_SM3_")] {
        let Some(entry) = entry else { continue };
        let physical = (entry.get() as u64).wrapping_sub(direct_map());
        require!(
            bytes(physical, 8)?.starts_with(anchor),
            "no entry point at {physical:#x}"
        );
    }
    Ok(())
}

/// Bytes of physical memory below 4 GiB, through the direct map.
fn bytes(physical: u64, length: u64) -> Result<&'static [u8], Why> {
    require!(
        physical < (1 << 32) - length,
        "{physical:#x} is not in the direct map"
    );
    let address = direct_map() + physical;
    require!(
        crate::walk::walk(address).is_some(),
        "{physical:#x} is not mapped"
    );
    // SAFETY: mapped, as was just checked, and firmware's tables are not written by anyone.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) })
}
