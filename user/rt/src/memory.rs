//! Mapped memory with an owner.
//!
//! A [`Mapping`] is unmapped when it is dropped. What is shared with others is read and written by atomics or copied, never
//! borrowed as a slice.

use crate::syscall;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use dragonet_abi::layout::{PAGE_SIZE, STACK_GUARD};
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::{Errno, Handle};

/// Memory that the kernel placed for us, whole pages, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    address: u64,
    length: u64,
}

impl Mapping {
    /// New zeroed private memory. `length` in bytes is rounded up to pages.
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL` for length 0.
    pub fn anonymous(length: u64) -> Result<Self, Errno> {
        Self::map(
            length,
            Protection::READ | Protection::WRITE,
            MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            Handle::NONE,
            0,
        )
    }

    /// A stack of at least `size` bytes with a guard below it. Its upper part can be used at once, the rest when it is touched; bytes
    /// of it must not be borrowed as a slice.
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL` for size 0.
    pub fn stack(size: u64) -> Result<Self, Errno> {
        Self::map(
            size.checked_add(STACK_GUARD).ok_or(Errno::EINVAL)?,
            Protection::READ | Protection::WRITE,
            MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::STACK,
            Handle::NONE,
            0,
        )
    }

    /// Part of a memory object, shared with everyone else who maps it.
    ///
    /// # Errors
    /// `EBADF`, `EACCES`, `ERANGE`, `EINVAL`, `ENOMEM`.
    pub fn of_object(
        object: Handle,
        offset: u64,
        length: u64,
        protection: Protection,
    ) -> Result<Self, Errno> {
        Self::map(length, protection, MapFlags::SHARED, object, offset)
    }

    /// A memory object seen through a page table that is stored in it; nothing is visible before [`Mapping::set_map`].
    ///
    /// # Errors
    /// As for [`Mapping::of_object`].
    pub fn of_page_table(object: Handle, length: u64) -> Result<Self, Errno> {
        let protection = Protection::READ | Protection::WRITE;
        Self::map(
            length,
            protection,
            MapFlags::SHARED | MapFlags::VPAGETABLE,
            object,
            0,
        )
    }

    fn map(
        length: u64,
        protection: Protection,
        flags: MapFlags,
        object: Handle,
        offset: u64,
    ) -> Result<Self, Errno> {
        let length = length.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        let request = MapRequest {
            address: 0,
            length,
            protection: protection.bits(),
            flags: flags.bits(),
            object,
            reserved: 0,
            offset,
        };
        // SAFETY: without FIXED the kernel chooses addresses where nothing is mapped.
        let address = unsafe { syscall::mmap(&request)? };
        Ok(Mapping { address, length })
    }

    /// Address of the first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Bytes, a multiple of the page size.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Changes the protection of part of the mapping.
    ///
    /// # Errors
    /// `ERANGE` beyond the mapping, and those of `mprotect`.
    ///
    /// # Safety
    /// 1. Slices borrowed from the mapping still allow what they promise.
    pub unsafe fn protect(&self, offset: u64, length: u64, protection: Protection) -> Result<(), Errno> {
        self.check(offset, length)?;
        // SAFETY: the range is ours, and the caller answers for slices.
        unsafe { syscall::mprotect(self.address + offset, length, protection) }
    }

    /// The whole mapping as bytes.
    ///
    /// # Safety
    /// 1. The mapping is readable, and nobody changes the memory while the slice lives.
    #[must_use]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the range is mapped for as long as `self` lives; the rest is the caller's promise.
        unsafe {
            slice::from_raw_parts(
                ptr::with_exposed_provenance(self.address as usize),
                self.length as usize,
            )
        }
    }

    /// The whole mapping as bytes to change.
    ///
    /// # Safety
    /// 1. The mapping is readable and writable, and nobody else uses the memory while the slice lives.
    #[must_use]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        let start = ptr::with_exposed_provenance_mut(self.address as usize);
        // SAFETY: the range is mapped for as long as `self` lives; the rest is the caller's promise.
        unsafe { slice::from_raw_parts_mut(start, self.length as usize) }
    }

    /// Copies bytes out of memory that others may be changing. An access that the mapping does not allow ends the program.
    ///
    /// # Errors
    /// `ERANGE` beyond the mapping.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        for (cell, byte) in self.cells(offset, buffer.len() as u64)?.iter().zip(buffer) {
            *byte = cell.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies bytes into memory that others may be using. An access that the mapping does not allow ends the program.
    ///
    /// # Errors
    /// `ERANGE` beyond the mapping.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        for (cell, byte) in self.cells(offset, bytes.len() as u64)?.iter().zip(bytes) {
            cell.store(*byte, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One aligned 64-bit word of the memory. Using it where the mapping does not allow it ends the program.
    ///
    /// # Errors
    /// `ERANGE` beyond the mapping, `EINVAL` if `offset` is not a multiple of 8.
    pub fn word(&self, offset: u64) -> Result<&AtomicU64, Errno> {
        self.check(offset, 8)?;
        if !offset.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let pointer = ptr::with_exposed_provenance_mut((self.address + offset) as usize);
        // SAFETY: the word is inside the mapping, aligned, and only ever accessed atomically through `&self`; slices are
        // handed out under the promise that nobody else uses the memory.
        Ok(unsafe { AtomicU64::from_ptr(pointer) })
    }

    /// Sets the root of the page table of a mapping made by [`Mapping::of_page_table`].
    ///
    /// # Errors
    /// `EINVAL` for other mappings and for roots outside the object.
    pub fn set_map(&self, root: Vpte) -> Result<(), Errno> {
        // SAFETY: such mappings are only read and written through atomics, so any contents will do.
        unsafe { syscall::mcontrol(self.address, self.length, Advice::SetMap, root) }
    }

    /// Makes changes of the stored page table visible in part of a mapping made by [`Mapping::of_page_table`].
    ///
    /// # Errors
    /// `ERANGE` beyond the mapping, `EINVAL` for other mappings.
    pub fn invalidate(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.check(offset, length)?;
        // SAFETY: such mappings are only read and written through atomics, so any contents will do.
        unsafe { syscall::madvise(self.address + offset, length, Advice::Invalidate) }
    }

    pub(crate) fn check(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let end = offset.checked_add(length).ok_or(Errno::ERANGE)?;
        if end <= self.length {
            Ok(())
        } else {
            Err(Errno::ERANGE)
        }
    }

    fn cells(&self, offset: u64, length: u64) -> Result<&[AtomicU8], Errno> {
        self.check(offset, length)?;
        let start = ptr::with_exposed_provenance((self.address + offset) as usize);
        // SAFETY: the range is inside the mapping, which lives as long as `self`; atomics allow changes by others.
        Ok(unsafe { slice::from_raw_parts(start, length as usize) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and everything borrowed from it has ended.
        let _ = unsafe { syscall::munmap(self.address, self.length) };
    }
}
