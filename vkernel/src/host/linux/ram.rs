//! RAM is a memory file, so that traced processes can map single pages of it.

use crate::host::Mode;
use crate::linux::Errno;
use crate::memory::ram::Ram;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use dragonet_abi::layout::PAGE_SIZE;
use std::sync::OnceLock;

static FILE: OnceLock<RamFile> = OnceLock::new();

/// The file and where the vkernel sees it.
pub(super) struct RamFile {
    /// Descriptor; traced processes inherit it.
    pub descriptor: i32,
    base: usize,
    frames: u64,
}

impl RamFile {
    /// The file.
    ///
    /// # Panics
    /// Before [`map_ram`].
    pub fn get() -> &'static RamFile {
        FILE.get().expect("RAM is mapped before it is used")
    }

    /// Count of frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Word `index` of a frame.
    pub fn word(&self, frame: u64, index: usize) -> &AtomicU64 {
        assert!(frame < self.frames && index < 512);
        let address = self.base + (frame * PAGE_SIZE) as usize + 8 * index;
        // SAFETY: inside the mapping, which is never undone, aligned, and only accessed atomically here.
        unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(address)) }
    }
}

/// Makes the file and maps it. Called once. There is one mode.
pub fn map_ram(size: u64, _mode: Mode) -> Result<Ram, Errno> {
    // SAFETY: plain system calls; the mapping is new and never undone.
    let (descriptor, base) = unsafe {
        let descriptor = libc::memfd_create(c"ram".as_ptr(), 0);
        if descriptor < 0 || libc::ftruncate(descriptor, size as i64) != 0 {
            return Err(Errno::ENOMEM);
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let base = libc::mmap(
            core::ptr::null_mut(),
            size as usize,
            protection,
            libc::MAP_SHARED,
            descriptor,
            0,
        );
        (descriptor, base)
    };
    if base == libc::MAP_FAILED {
        return Err(Errno::ENOMEM);
    }
    let frames = size / PAGE_SIZE;
    let file = RamFile {
        descriptor,
        base: base.expose_provenance(),
        frames,
    };
    assert!(FILE.set(file).is_ok(), "RAM is mapped once");
    let pointer = NonNull::new(base.cast()).ok_or(Errno::ENOMEM)?;
    // SAFETY: page-aligned, of that size, never undone; references into it are made by nobody.
    Ok(unsafe { Ram::new(pointer, frames as u32, 0) })
}

/// The host gives memory when it is touched.
pub fn back_ram(_offset: u64, _length: u64) -> Result<(), Errno> {
    Ok(())
}
