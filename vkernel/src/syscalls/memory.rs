//! Memory: `mmap mprotect madvise`.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    MADV_DONTNEED, MADV_FREE, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_SHARED,
    MAP_SHARED_VALIDATE, MAP_TYPE, PROT_ALL,
};
use crate::memory::MemoryObject;
use crate::memory::area::{Protection, Source};
use crate::memory::space::Placement;
use crate::process::Task;
use crate::vfs::inode::Device;
use crate::vfs::open_file::Kind;
use alloc::sync::Arc;
use dragonet_abi::layout::PAGE_SIZE;

impl Task {
    pub(super) fn sys_mmap(
        &mut self,
        address: u64,
        length: u64,
        protection: u64,
        flags: u64,
        number: i32,
        offset: u64,
    ) -> Result<u64, Errno> {
        if !offset.is_multiple_of(PAGE_SIZE) || length == 0 {
            return Err(Errno::EINVAL);
        }
        let protection = parse_protection(protection)?;
        let shared = match flags & MAP_TYPE {
            MAP_SHARED | MAP_SHARED_VALIDATE => true,
            MAP_PRIVATE => false,
            _ => return Err(Errno::EINVAL),
        };
        let placement = if flags & MAP_FIXED_NOREPLACE != 0 {
            Placement::Exclusive(address)
        } else if flags & MAP_FIXED != 0 {
            Placement::Replace(address)
        } else {
            Placement::Hint(address)
        };
        let (source, shared) = if flags & MAP_ANONYMOUS != 0 {
            let source = if shared {
                let object = Arc::new(MemoryObject::new(kernel().memory(), 0));
                object.resize(length).map_err(|_| Errno::ENOMEM)?;
                Source::Object {
                    object,
                    offset: 0,
                    limit: u64::MAX,
                }
            } else {
                Source::Anonymous
            };
            (source, shared)
        } else {
            self.file_source(number, offset, length, protection, shared)?
        };
        self.space.map(placement, length, protection, shared, source)
    }

    fn file_source(
        &self,
        number: i32,
        offset: u64,
        length: u64,
        protection: Protection,
        shared: bool,
    ) -> Result<(Source, bool), Errno> {
        let file = self.files.get(number)?;
        offset
            .checked_add(length)
            .filter(|&end| end <= i64::MAX as u64)
            .ok_or(Errno::EOVERFLOW)?;
        match &file.kind {
            _ if !file.is_readable() => Err(Errno::EACCES),
            Kind::File(_, object) => {
                if shared && protection.contains(Protection::WRITE) && !file.is_writable() {
                    return Err(Errno::EACCES);
                }
                if shared && file.is_writable() {
                    object.expose_to_writers();
                }
                // A shared mapping of a file that is not open for writing can be a private one: it shows the same
                // pages, and if mprotect makes it writable, the file is safe.
                let source = Source::Object {
                    object: object.clone(),
                    offset,
                    limit: u64::MAX,
                };
                Ok((source, shared && file.is_writable()))
            }
            Kind::Device(_, Device::Zero) if !shared => Ok((Source::Anonymous, false)),
            _ => Err(Errno::ENODEV),
        }
    }

    pub(super) fn sys_mprotect(&mut self, address: u64, length: u64, protection: u64) -> Result<u64, Errno> {
        self.space
            .protect(address, length, parse_protection(protection)?)
            .map(|()| 0)
    }

    pub(super) fn sys_madvise(&mut self, address: u64, length: u64, advice: u64) -> Result<u64, Errno> {
        match advice {
            MADV_DONTNEED | MADV_FREE => self.space.discard(address, length).map(|()| 0),
            // The rest are hints about speed, and about core dumps and merging that there are none of.
            0..=3 | 9..=25 => {
                if !address.is_multiple_of(PAGE_SIZE) {
                    return Err(Errno::EINVAL);
                }
                if length == 0 || self.space.covers(address, length) {
                    Ok(0)
                } else {
                    Err(Errno::ENOMEM)
                }
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

fn parse_protection(bits: u64) -> Result<Protection, Errno> {
    if bits & !PROT_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Protection::from_bits_truncate(bits as u8))
}
