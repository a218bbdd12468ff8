//! A range of addresses whose mappings change while other threads use them.
//!
//! A [`Mapping`](crate::memory::Mapping) is one mapping from beginning to end. Pages of a [`Window`] are mapped, protected, advised and unmapped by
//! any thread at any time. Nothing is ever borrowed from it: every access is one atomic load or store, or a copy by the kernel,
//! which fails where an access would fault. Windows lie above everything that the kernel places by itself, so that nothing
//! else of the program ever appears in a hole.

use crate::syscall;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::{PAGE_SIZE, PLACEMENT_END, PLACEMENT_START};
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// Where the next window begins that guests can reach: below all that the kernel places, and above the program.
static NEXT_FOR_GUESTS: AtomicU64 = AtomicU64::new(1 << 30);
/// Where the next one begins that they need not reach.
static NEXT: AtomicU64 = AtomicU64::new(PLACEMENT_END);
/// First address that no window has.
const END: u64 = 1 << 46;
/// Windows begin at multiples of this, with at least as much between two of them.
const SPACING: u64 = 2 << 20;

/// Addresses of this program's own, all of it unmapped at first and on drop.
#[derive(Debug)]
pub struct Window {
    address: u64,
    length: u64,
}

impl Window {
    /// Addresses for `length` bytes, rounded up to pages. They are never used again after the window's end.
    ///
    /// # Errors
    /// `EINVAL` for 0, `ENOMEM` when there are no addresses left.
    pub fn new(length: u64) -> Result<Self, Errno> {
        Self::within(&NEXT, END, length)
    }

    /// As [`Window::new`], at guest-physical addresses that every CPU with guest mode has.
    ///
    /// # Errors
    /// As for [`Window::new`].
    pub fn for_guest_mode(length: u64) -> Result<Self, Errno> {
        Self::within(&NEXT_FOR_GUESTS, PLACEMENT_START, length)
    }

    fn within(next: &AtomicU64, end: u64, length: u64) -> Result<Self, Errno> {
        if length == 0 || length > end {
            return Err(Errno::EINVAL);
        }
        let taken = length.next_multiple_of(SPACING) + SPACING;
        let address = next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(taken).filter(|taken| *taken <= end)
            })
            .map_err(|_| Errno::ENOMEM)?;
        Ok(Window {
            address,
            length: length.next_multiple_of(PAGE_SIZE),
        })
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

    /// Maps as `request` says, at exactly its address, which counts from the beginning of the window; what is there is replaced.
    ///
    /// # Errors
    /// `ERANGE` beyond the window, and those of `mmap`.
    pub fn map(&self, request: &MapRequest) -> Result<(), Errno> {
        let address = self.check(request.address, request.length)?;
        let request = MapRequest {
            address,
            flags: request.flags | MapFlags::FIXED.bits(),
            ..*request
        };
        // SAFETY: the range is in the window, into which nothing borrows.
        unsafe { syscall::mmap(&request) }.map(drop)
    }

    /// Unmaps part of the window.
    ///
    /// # Errors
    /// `ERANGE` beyond the window, and those of `munmap`.
    pub fn unmap(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let address = self.check(offset, length)?;
        // SAFETY: the range is in the window, into which nothing borrows.
        unsafe { syscall::munmap(address, length) }
    }

    /// Changes the protection of part of the window.
    ///
    /// # Errors
    /// `ERANGE` beyond the window, and those of `mprotect`.
    pub fn protect(&self, offset: u64, length: u64, protection: Protection) -> Result<(), Errno> {
        let address = self.check(offset, length)?;
        // SAFETY: the range is in the window, into which nothing borrows.
        unsafe { syscall::mprotect(address, length, protection) }
    }

    /// Gives advice about part of the window; `value` is the root entry for [`Advice::SetMap`] and nothing otherwise.
    ///
    /// # Errors
    /// `ERANGE` beyond the window, and those of `mcontrol`.
    pub fn advise(&self, offset: u64, length: u64, advice: Advice, value: Vpte) -> Result<(), Errno> {
        let address = self.check(offset, length)?;
        // SAFETY: the range is in the window, into which nothing borrows, and which may have any contents.
        unsafe { syscall::mcontrol(address, length, advice, value) }
    }

    /// Loads a word. Where the mapping does not allow that, the program ends.
    ///
    /// # Errors
    /// `ERANGE` beyond the window, `EINVAL` if `offset` is not a multiple of 8.
    pub fn load(&self, offset: u64) -> Result<u64, Errno> {
        let word = self.word(offset)?;
        // SAFETY: the address is aligned and the window's own; the access is atomic, and if nothing is mapped there the kernel ends
        // the program before anything can come of it.
        Ok(unsafe { AtomicU64::from_ptr(word) }.load(Ordering::SeqCst))
    }

    /// Stores a word. Where the mapping does not allow that, the program ends.
    ///
    /// # Errors
    /// `ERANGE` beyond the window, `EINVAL` if `offset` is not a multiple of 8.
    pub fn store(&self, offset: u64, value: u64) -> Result<(), Errno> {
        let word = self.word(offset)?;
        // SAFETY: as in `load`.
        unsafe { AtomicU64::from_ptr(word) }.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Has the kernel copy `length` bytes from the window to `address` of a vmspace. The kernel reads the window through the
    /// translations of the CPU, as a load would.
    ///
    /// # Errors
    /// `ERANGE` beyond the window; `EFAULT` where a load would fault; those of `vmspace_pwrite`.
    pub fn send(&self, offset: u64, length: u64, vmspace: Handle, address: u64) -> Result<u64, Errno> {
        let here = self.check(offset, length)?;
        let arguments = [u64::from(vmspace.0), here, length, address];
        // SAFETY: the kernel only reads the window.
        unsafe { syscall::call(SyscallNumber::VmspacePwrite, arguments) }
    }

    /// Has the kernel copy `length` bytes from `address` of a vmspace to the window. The kernel writes the window through the
    /// translations of the CPU, as a store would.
    ///
    /// # Errors
    /// `ERANGE` beyond the window; `EFAULT` where a store would fault; those of `vmspace_pread`.
    pub fn receive(&self, offset: u64, length: u64, vmspace: Handle, address: u64) -> Result<u64, Errno> {
        let here = self.check(offset, length)?;
        let arguments = [u64::from(vmspace.0), here, length, address];
        // SAFETY: the kernel writes only the window, into which nothing borrows.
        unsafe { syscall::call(SyscallNumber::VmspacePread, arguments) }
    }

    fn word(&self, offset: u64) -> Result<*mut u64, Errno> {
        let address = self.check(offset, 8)?;
        if offset.is_multiple_of(8) {
            Ok(ptr::with_exposed_provenance_mut(address as usize))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The address of a range.
    fn check(&self, offset: u64, length: u64) -> Result<u64, Errno> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(self.address + offset),
            _ => Err(Errno::ERANGE),
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.unmap(0, self.length);
    }
}
