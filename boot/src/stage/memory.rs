//! What is where in memory: what the loader has filled, the modules, and the address space for the kernel.

use arrayvec::ArrayVec;
use dragonet_boot::direct_map::{identity_ranges, ranges};
use dragonet_boot::elf_plan::LoadPlan;
use dragonet_boot::memory_map::{Kind, MapError, MemoryMap, Region};
use dragonet_boot::multiboot::{BootInformation, MOST_MODULES};
use dragonet_boot::page_table::{Access, PageTables};
use dragonet_boot::responses::File;
use dragonet_boot::{DIRECT_MAP_BASE, PAGE_SIZE, PhysicalMemory, REACHABLE_END, efi};

use super::error::StageError;
use crate::machine::memory::{IdentityMapped, TableFrames, owned};
use crate::machine::{cpu, stage_range};

/// The memory map with everything claimed that is in use already.
pub fn claimed_map(information: &BootInformation<'_>) -> Result<MemoryMap, StageError> {
    let efi = information.efi_memory_map.as_ref().and_then(efi::regions);
    let mut firmware = efi.unwrap_or_else(|| information.memory.clone());
    if let Some(framebuffer) = &information.framebuffer {
        let (start, end) = (
            framebuffer.address,
            framebuffer.address.saturating_add(framebuffer.size()),
        );
        let region = Region {
            start,
            end,
            kind: Kind::Framebuffer,
        };
        firmware.try_push(region).map_err(|_| MapError::TooManyRegions)?;
    }
    let mut map = MemoryMap::from_firmware(&firmware)?;
    let (start, end) = stage_range();
    map.claim(start, end, Kind::BootloaderReclaimable)?;
    for &(start, end) in &information.ranges {
        map.claim(start, end, Kind::BootloaderReclaimable)?;
    }
    for module in &information.modules {
        map.claim(module.start, module.end, Kind::BootloaderReclaimable)?;
    }
    Ok(map)
}

/// The modules in memory of their own. One that is not on page boundaries, or shares a page with something else, is
/// copied.
pub fn settle_modules<'text>(
    information: &BootInformation<'text>,
    map: &mut MemoryMap,
) -> Result<ArrayVec<File<'text>, MOST_MODULES>, StageError> {
    let mut files = ArrayVec::new();
    for (index, module) in information.modules.iter().enumerate() {
        let size = module.end.saturating_sub(module.start);
        let start = if size == 0 || information.has_own_pages(index, stage_range()) {
            map.claim(module.start, module.end, Kind::ExecutableAndModules)?;
            module.start
        } else {
            let copy = map.allocate(size, PAGE_SIZE, REACHABLE_END, Kind::ExecutableAndModules)?;
            let original = IdentityMapped
                .bytes(module.start, size)
                .ok_or(StageError::Unreadable)?;
            // SAFETY: just allocated, used through this reference only.
            unsafe { owned(copy, size) }.copy_from_slice(original);
            copy
        };
        let path = if module.path() == module.string {
            module.name()
        } else {
            module.path()
        };
        files.push(File {
            start,
            size,
            path,
            string: module.name(),
        });
    }
    Ok(files)
}

/// Builds the address space in which the kernel is entered; returns its top-level table.
pub fn build_address_space(
    map: &mut MemoryMap,
    plan: &LoadPlan,
    image_start: u64,
    revision: u64,
) -> Result<u64, StageError> {
    let regions = map.clone();
    let mut frames = TableFrames::new(map);
    let mut tables = PageTables::new(&mut frames, cpu::has_no_execute())?;
    let mut mapped = plan.base;
    for segment in &plan.segments {
        // Neighbours with the same permissions may share a page.
        let (start, end) = (segment.pages().0.max(mapped), segment.pages().1);
        let access = Access {
            writable: segment.writable,
            executable: segment.executable,
            write_combining: false,
        };
        tables.map(
            start,
            image_start + (start - plan.base),
            end.saturating_sub(start),
            access,
        )?;
        mapped = mapped.max(end);
    }
    let everything = |write_combining| Access {
        writable: true,
        executable: true,
        write_combining,
    };
    for range in ranges(regions.regions(), revision) {
        let (address, size) = (DIRECT_MAP_BASE + range.start, range.end - range.start);
        tables.map(address, range.start, size, everything(range.write_combining))?;
    }
    for range in identity_ranges(regions.regions(), revision) {
        tables.map(
            range.start,
            range.start,
            range.end - range.start,
            everything(range.write_combining),
        )?;
    }
    Ok(tables.root())
}
