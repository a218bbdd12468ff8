//! Building the address space of a new process: the program's segments and the first stack.

use crate::memory::Mapping;
use crate::syscall;
use alloc::vec::Vec;
use dragonet_abi::layout::{STACK_TOP, USER_START};
use dragonet_abi::memory::{MapFlags, MapRequest, Protection};
use dragonet_abi::{Errno, Handle};
use elf_image::{Image, ImageError, Segment};

/// Bytes that are reserved for the first thread's stack, its guard included.
pub const STACK_SIZE: u64 = 1 << 20;

const STACK_FLAGS: MapFlags = MapFlags::STACK
    .union(MapFlags::PRIVATE)
    .union(MapFlags::ANONYMOUS)
    .union(MapFlags::FIXED)
    .union(MapFlags::EXCLUSIVE);

/// Where the first thread begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// First instruction.
    pub entry: u64,
    /// Stack pointer, 16-byte aligned.
    pub stack_pointer: u64,
    /// Address of the startup block.
    pub block: u64,
}

/// Checks a program.
pub fn check(program: &[u8]) -> Result<Image, ImageError> {
    Image::parse(program, 0, USER_START..STACK_TOP - STACK_SIZE)
}

/// Fills an empty vmspace.
///
/// `image` was made from `program`. What the program can write to is private memory, so that a copy of the vmspace has a copy
/// of it; the rest comes from one new memory object, which belongs to the new process alone once it is mapped there.
pub fn build(vmspace: Handle, program: &[u8], image: &Image, block: &[u8]) -> Result<Start, Errno> {
    let pages = |segment: &Segment| {
        let pages = segment.pages();
        pages.end - pages.start
    };
    let (private, shared): (Vec<&Segment>, Vec<&Segment>) = image
        .segments()
        .iter()
        .partition(|segment| segment.protection.write);
    let object = syscall::object_create(shared.iter().map(|segment| pages(segment)).sum())?;
    let mut offset = 0;
    for segment in shared {
        fill(object.get(), offset, segment, program)?;
        map(vmspace, segment, MapFlags::SHARED, object.get(), offset)?;
        offset += pages(segment);
    }
    for segment in private {
        map(
            vmspace,
            segment,
            MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            Handle::NONE,
            0,
        )?;
        write(vmspace, segment.bytes(program), segment.address)?;
    }

    syscall::vmspace_mmap(
        vmspace,
        &MapRequest {
            address: STACK_TOP - STACK_SIZE,
            length: STACK_SIZE,
            protection: (Protection::READ | Protection::WRITE).bits(),
            flags: STACK_FLAGS.bits(),
            object: Handle::NONE,
            reserved: 0,
            offset: 0,
        },
    )?;
    let block_address = (STACK_TOP - block.len() as u64) & !15;
    write(vmspace, block, block_address)?;
    Ok(Start {
        entry: image.entry,
        stack_pointer: block_address,
        block: block_address,
    })
}

/// Maps a segment's pages where they belong.
fn map(
    vmspace: Handle,
    segment: &Segment,
    flags: MapFlags,
    object: Handle,
    offset: u64,
) -> Result<(), Errno> {
    let pages = segment.pages();
    let mut protection = Protection::empty();
    protection.set(Protection::READ, segment.protection.read);
    protection.set(Protection::WRITE, segment.protection.write);
    protection.set(Protection::EXECUTE, segment.protection.execute);
    let request = MapRequest {
        address: pages.start,
        length: pages.end - pages.start,
        protection: protection.bits(),
        flags: (flags | MapFlags::FIXED | MapFlags::EXCLUSIVE).bits(),
        object,
        reserved: 0,
        offset,
    };
    syscall::vmspace_mmap(vmspace, &request).map(drop)
}

/// Writes bytes to the new memory.
fn write(vmspace: Handle, bytes: &[u8], address: u64) -> Result<(), Errno> {
    if bytes.is_empty() || syscall::vmspace_pwrite(vmspace, bytes, address)? == bytes.len() {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Copies a segment's bytes to where its pages lie in the object.
fn fill(object: Handle, offset: u64, segment: &Segment, program: &[u8]) -> Result<(), Errno> {
    let bytes = segment.bytes(program);
    if bytes.is_empty() {
        return Ok(());
    }
    let lead = (segment.address - segment.pages().start) as usize;
    let protection = Protection::READ | Protection::WRITE;
    let mut mapping = Mapping::of_object(object, offset, lead as u64 + segment.file_size, protection)?;
    // SAFETY: the object is new, these pages of it are mapped nowhere else yet, and nobody else has a handle.
    let memory = unsafe { mapping.as_mut_slice() };
    memory[lead..lead + bytes.len()].copy_from_slice(bytes);
    Ok(())
}
