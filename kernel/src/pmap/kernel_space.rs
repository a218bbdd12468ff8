//! The kernel's own mappings: the direct map, the kernel image with each section's own rights, kernel stacks, devices.
//!
//! Everything is global, nothing is writable and executable. All root entries of the kernel's half are filled at boot and
//! never change, so every pmap has them by copying; mappings are added below them and never taken away, so none ever has
//! to be invalidated.

use super::tables::{DIRECT_MAP, DetachedTables, FreshTables};
use crate::arch::boot::{BootInfo, MemoryKind};
use crate::arch::{cpu, paging};
use crate::mm::FrameChain;
use crate::mm::frame::{self, Need};
use crate::sync::{Rank, SpinLock};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use page_table::{Attributes, CacheMode, Entered, NoMemory, Protection, Tables, X86_64, span};
use x86_64::{PhysAddr, VirtAddr};

/// Area of kernel stacks and of heap blocks in scattered frames: root slot 510, first half.
const STACKS: Range<u64> = 0xffff_ff00_0000_0000..0xffff_ff40_0000_0000;
/// Area of device registers: root slot 510, second half.
const DEVICES: Range<u64> = 0xffff_ff40_0000_0000..0xffff_ff80_0000_0000;
/// The part of memory with the firmware's tables.
const FIRMWARE_AREA: Range<u64> = 0..0x10_0000;
/// Device mappings that are remembered, to be found again.
const REMEMBERED: usize = 32;

static ROOT: AtomicU64 = AtomicU64::new(0);

/// One device mapping.
#[derive(Clone, Copy)]
struct DeviceMapping {
    physical: u64,
    length: u64,
    virtual_start: u64,
    cache: CacheMode,
}

struct Area {
    next_stack: u64,
    next_device: u64,
    mappings: arrayvec::ArrayVec<DeviceMapping, REMEMBERED>,
}

static AREA: SpinLock<Area> = SpinLock::new(
    Rank::KernelMap,
    Area {
        next_stack: STACKS.start,
        next_device: DEVICES.start,
        mappings: arrayvec::ArrayVec::new_const(),
    },
);

/// Root of the kernel's table, for CPUs that run no program.
pub fn kernel_root() -> PhysAddr {
    PhysAddr::new(ROOT.load(Ordering::Relaxed))
}

/// Builds the kernel's table and loads it on this CPU.
///
/// # Panics
/// If memory does not suffice, or the boot protocol put the direct map over one of the kernel's areas.
pub fn init_kernel(boot: &BootInfo) {
    let mut root = frame::allocate_for(Need::Kernel).expect("memory for the kernel's page table");
    root.zero();
    ROOT.store(root.into_address().as_u64(), Ordering::Relaxed);
    map_direct(boot);
    map_image(boot);
    let mut source = FreshTables::new(Need::Kernel);
    for area in [STACKS.start, DEVICES.start] {
        let built = tables().build(area, 3, false, &mut source);
        assert!(built.is_ok(), "too little memory for the kernel's page table");
    }
    // SAFETY: the table maps the running code, the stack (in the direct map), and all data, as they are mapped now.
    unsafe { paging::load_root(kernel_root(), 0, false) };
    paging::flush_all_with_global();
}

/// Maps the memory of the map at the boot protocol's offset; what holds the kernel's code and constants read-only.
fn map_direct(boot: &BootInfo) {
    let offset = boot.hhdm_offset;
    let sections = &boot.sections;
    let fixed = image_physical(boot, sections.text.start).as_u64()
        ..image_physical(boot, sections.rodata.end).as_u64();
    let memory = boot.memory_map.iter().filter(|region| is_memory(region.kind));
    let ranges =
        memory.map(|region| region.base.as_u64()..region.base.as_u64().saturating_add(region.length));
    for range in ranges.chain([FIRMWARE_AREA]) {
        let range = range.start & !0xfff..range.end.next_multiple_of(frame::SIZE);
        assert!(
            offset
                .checked_add(range.end)
                .is_some_and(|end| end <= STACKS.start),
            "the direct map of {:#x}..{:#x} reaches the kernel's own areas",
            range.start,
            range.end
        );
        let writable = Protection::READ | Protection::WRITE;
        for (part, protection) in [
            (range.start..range.end.min(fixed.start), writable),
            (
                range.start.max(fixed.start)..range.end.min(fixed.end),
                Protection::READ,
            ),
            (range.start.max(fixed.end)..range.end, writable),
        ] {
            if part.start < part.end {
                map_at_boot(offset + part.start, &part, protection);
            }
        }
    }
}

/// True for what is ordinary memory with contents that the kernel may look at.
fn is_memory(kind: MemoryKind) -> bool {
    matches!(
        kind,
        MemoryKind::Usable
            | MemoryKind::BootloaderReclaimable
            | MemoryKind::KernelAndModules
            | MemoryKind::AcpiReclaimable
            | MemoryKind::AcpiNvs
    )
}

/// Maps the kernel image, each section with its own rights.
fn map_image(boot: &BootInfo) {
    let sections = &boot.sections;
    for (section, protection) in [
        (&sections.text, Protection::READ | Protection::EXECUTE),
        (&sections.rodata, Protection::READ),
        (&sections.data, Protection::READ | Protection::WRITE),
    ] {
        let start = section.start.align_down(frame::SIZE);
        let end = section.end.align_up(frame::SIZE);
        let physical = image_physical(boot, start).as_u64();
        map_at_boot(start.as_u64(), &(physical..physical + (end - start)), protection);
    }
}

/// Physical address of an address in the kernel image.
fn image_physical(boot: &BootInfo, address: VirtAddr) -> PhysAddr {
    boot.kernel_physical + (address - boot.kernel_virtual)
}

fn map_at_boot(virtual_start: u64, range: &Range<u64>, protection: Protection) {
    let mapped = map_linear(virtual_start, range, protection, CacheMode::WriteBack);
    assert!(mapped.is_ok(), "too little memory for the kernel's page table");
}

fn tables() -> Tables<'static, super::tables::DirectMap> {
    Tables::new(&X86_64, kernel_root().as_u64(), &DIRECT_MAP)
}

fn attributes(protection: Protection, cache: CacheMode) -> Attributes {
    Attributes {
        protection,
        user: false,
        global: true,
        cache,
        software: 0,
    }
}

/// Maps physical memory with the largest pages that fit. The caller is alone with this part of the table.
fn map_linear(
    mut virtual_start: u64,
    range: &Range<u64>,
    protection: Protection,
    cache: CacheMode,
) -> Result<(), NoMemory> {
    let largest = if cpu::features().huge_pages { 3 } else { 2 };
    let mut source = FreshTables::new(Need::Kernel);
    let mut physical = range.start;
    while physical < range.end {
        let fits = |level: &u8| {
            let bytes = span(*level);
            physical.is_multiple_of(bytes)
                && virtual_start.is_multiple_of(bytes)
                && range.end - physical >= bytes
        };
        let level = (1..=largest).rev().find(fits).unwrap_or(1);
        let entry =
            X86_64.leaf(level, physical, attributes(protection, cache)) | X86_64.accessed | X86_64.dirty;
        match tables().enter(virtual_start, level, entry, &mut source)? {
            Entered::New | Entered::Same | Entered::Widened => {}
            Entered::Broken(owed) => {
                // Two regions of a memory map that share a page: the first one's rights go. At boot, with the table not in use.
                DetachedTables::from(owed.discharge(|_| ())).release(&X86_64);
                continue;
            }
        }
        virtual_start += span(level);
        physical += span(level);
    }
    Ok(())
}

/// Maps frames for good, in ascending order, and returns the start: `guard` bytes above the start of a piece of the stack area that is
/// aligned to its size rounded up to a power of two. Below the frames nothing is mapped in the piece.
///
/// # Errors
/// ENOMEM; the frames still belong to the caller.
pub(crate) fn map_frames(frames: &mut FrameChain, guard: u64) -> Result<VirtAddr, Errno> {
    let bytes = guard + frames.len() as u64 * frame::SIZE;
    let mut area = AREA.lock();
    let start = area.next_stack.next_multiple_of(bytes.next_power_of_two());
    let end = start
        .checked_add(bytes)
        .filter(|&end| end <= STACKS.end)
        .ok_or(Errno::ENOMEM)?;
    // All tables first: after this nothing can fail, so no frame is ever left behind in half a mapping.
    let mut source = FreshTables::new(Need::Kernel);
    for table in (start / span(2)..end.div_ceil(span(2))).map(|number| number * span(2)) {
        tables()
            .build(table, 1, false, &mut source)
            .map_err(|NoMemory| Errno::ENOMEM)?;
    }
    area.next_stack = end;
    let writable = attributes(Protection::READ | Protection::WRITE, CacheMode::WriteBack);
    let mut address = start + guard;
    while let Some(frame) = frames.pop() {
        let entry = X86_64.leaf(1, frame.as_u64(), writable) | X86_64.accessed | X86_64.dirty;
        let entered = tables().enter(address, 1, entry, &mut source);
        assert!(
            matches!(entered, Ok(Entered::New)),
            "an address of the stack area is given out once"
        );
        address += frame::SIZE;
    }
    Ok(VirtAddr::new(start + guard))
}

/// True for addresses that [`map_frames`] gives out.
pub(crate) fn is_in_stack_area(address: VirtAddr) -> bool {
    STACKS.contains(&address.as_u64())
}

/// Maps device registers, uncached. The same range asked for again gives the same address.
///
/// # Errors
/// EINVAL if the range is empty or not physical; ENOMEM.
pub fn map_device(physical: PhysAddr, length: u64) -> Result<VirtAddr, Errno> {
    map_device_as(physical, length, CacheMode::Uncached)
}

/// Maps physical memory outside of the direct map with a cache mode of choice: a frame buffer, firmware tables.
///
/// # Errors
/// EINVAL if the range is empty or not physical; ENOMEM.
pub fn map_device_as(physical: PhysAddr, length: u64, cache: CacheMode) -> Result<VirtAddr, Errno> {
    let offset = physical.as_u64() % frame::SIZE;
    let start = physical.as_u64() - offset;
    let end = physical
        .as_u64()
        .checked_add(length)
        .filter(|&end| length > 0 && end <= X86_64.address + frame::SIZE);
    let end = end.ok_or(Errno::EINVAL)?.next_multiple_of(frame::SIZE);
    let mut area = AREA.lock();
    let known = area.mappings.iter().find(|mapping| {
        mapping.cache == cache && mapping.physical <= start && end <= mapping.physical + mapping.length
    });
    if let Some(mapping) = known {
        return Ok(VirtAddr::new(
            mapping.virtual_start + (start - mapping.physical) + offset,
        ));
    }
    // The same position within a large page, so that large pages fit.
    let mut virtual_start = area.next_device;
    if end - start >= span(2) {
        virtual_start = virtual_start.next_multiple_of(span(2)) + start % span(2);
    }
    let virtual_end = virtual_start
        .checked_add(end - start)
        .filter(|&end| end <= DEVICES.end)
        .ok_or(Errno::ENOMEM)?;
    area.next_device = virtual_end;
    map_linear(
        virtual_start,
        &(start..end),
        Protection::READ | Protection::WRITE,
        cache,
    )
    .map_err(|NoMemory| Errno::ENOMEM)?;
    // With the memory full the mapping is only not found again.
    let _ = area.mappings.try_push(DeviceMapping {
        physical: start,
        length: end - start,
        virtual_start,
        cache,
    });
    Ok(VirtAddr::new(virtual_start + offset))
}
