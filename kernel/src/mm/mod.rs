//! Physical memory: the direct map, free frames, the kernel heap, kernel stacks, sparse arrays of pages and who pays for them.
//!
//! [`init`] runs once, first of all, on the boot CPU. After it every layer may allocate from the heap (`alloc`) and take
//! frames. Frames come from per-CPU caches, those from a common reserve, that from the buddy allocator. Callers that
//! allocate on behalf of a program get errors when memory runs low, while the kernel itself still has some left:
//! [`check_headroom`] says when to refuse work that would make the kernel's own structures grow.
//!
//! This is a low layer: `unsafe` is allowed here and hidden behind types that own what they name.

mod account;
mod buddy;
mod cpu_cache;
pub mod frame;
mod frame_table;
mod heap;
mod page_tree;
pub mod physical;
pub mod pressure_tests;
mod scattered;
pub mod sharing_tests;
pub mod stack;
pub mod tests;

pub use account::{Account, Charge};
pub use frame_table::FrameChain;
pub use page_tree::{Discard, PageTree, Shared, TakenPages, is_shared, note_reuse};

use crate::arch::boot::{BootInfo, MemoryKind};
use core::ops::Range;
use dragonet_abi::Errno;
use x86_64::PhysAddr;

/// Usable memory below this is not enough to start a program.
const MINIMUM_BYTES: u64 = 12 << 20;
/// Firmware scribbles below this address.
const LOWEST_FRAME: u32 = 16;
/// Frames that the bootstrap gives to the reserve, so that the buddy allocator's sets find heap memory.
const PRIMED: u32 = 64;

/// Takes over the usable memory of the boot protocol's map and starts the heap.
///
/// # Panics
/// If there is too little memory.
pub fn init(boot: &'static BootInfo) {
    physical::init(boot);
    let usable = || {
        boot.memory_map
            .iter()
            .filter(|region| region.kind == MemoryKind::Usable)
            .map(frames_of)
    };
    let total: u64 = usable().map(|frames| u64::from(frames.end - frames.start)).sum();
    assert!(
        total * frame::SIZE >= MINIMUM_BYTES,
        "too little memory: {} KiB usable, {} KiB needed",
        total * frame::SIZE / 1024,
        MINIMUM_BYTES / 1024
    );
    let end = usable().map(|frames| frames.end).max().unwrap_or(0);
    let table_frames = frame_table::frames_needed(end);
    // The largest region gives the frame table and the first frames of the reserve; it keeps the rest.
    let largest = usable()
        .max_by_key(|frames| frames.end - frames.start)
        .unwrap_or(0..0);
    assert!(
        largest.end - largest.start >= table_frames + PRIMED,
        "too little memory: no region of {} KiB in one piece for the frame table",
        u64::from(table_frames + PRIMED) * frame::SIZE / 1024
    );
    let table = largest.end - table_frames;
    // SAFETY: usable memory of the map that nobody else has, and it is taken out of the rest below.
    unsafe { frame_table::init(address_of(table), end) };
    frame::set_total(total - u64::from(table_frames));
    let primed = largest.start..largest.start + PRIMED;
    // SAFETY: as above.
    unsafe { buddy::prime(primed.clone()) };
    for region in usable() {
        let rest = if region == largest {
            primed.end..table
        } else {
            region
        };
        // SAFETY: as above; regions of the map do not overlap.
        unsafe { buddy::add(rest) };
    }
}

/// Refuses when memory is so low that what is left must be kept for the kernel itself. To be called before work that makes
/// kernel structures grow at a program's request: map entries, handles, threads, objects.
///
/// # Errors
/// ENOMEM.
pub fn check_headroom() -> Result<(), Errno> {
    if buddy::is_low() {
        Err(Errno::ENOMEM)
    } else {
        Ok(())
    }
}

fn frames_of(region: &crate::arch::boot::MemoryRegion) -> Range<u32> {
    let limit = u64::from(u32::MAX);
    let start = region
        .base
        .as_u64()
        .div_ceil(frame::SIZE)
        .clamp(u64::from(LOWEST_FRAME), limit);
    let end = (region.base.as_u64().saturating_add(region.length) / frame::SIZE).clamp(start, limit);
    start as u32..end as u32
}

/// Physical address of a frame number.
fn address_of(frame: u32) -> PhysAddr {
    PhysAddr::new(u64::from(frame) << 12)
}

/// Frame number of a physical address.
fn number_of(address: PhysAddr) -> u32 {
    (address.as_u64() >> 12) as u32
}
