//! Open file descriptions: what descriptors name, with a position and status flags.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDWR, O_SETTABLE, O_WRONLY};
use crate::linux::flags::{S_IFCHR, S_IFDIR, S_IFIFO};
use crate::linux::structures::{Stat, TimeSpec};
use crate::memory::MemoryObject;
use crate::sync::Lock;
use crate::vfs::inode::{Content, Device, Inode};
use crate::vfs::path::Location;
use crate::vfs::pipe::Pipe;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Open file descriptions of all processes at most.
const MAX_OPEN: usize = 1 << 14;

/// Open file descriptions.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// What is open.
pub enum Kind {
    /// A file with bytes.
    File(Arc<Inode>, Arc<MemoryObject>),
    /// A directory.
    Directory(Location),
    /// A device.
    Device(Arc<Inode>, Device),
    /// The reading end of a pipe.
    PipeReader(Arc<Pipe>),
    /// The writing end of a pipe.
    PipeWriter(Arc<Pipe>),
    /// A place in the tree and nothing else (`O_PATH`).
    Path(Location),
}

/// An open file description.
pub struct OpenFile {
    /// What is open.
    pub kind: Kind,
    flags: AtomicU32,
    position: Lock<u64>,
}

/// What became of an attempt to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes.
    Done(usize),
    /// It would have to wait.
    Wait,
}

impl OpenFile {
    /// Opens `kind` with status flags (`O_*`).
    ///
    /// # Errors
    /// `ENFILE` at the limit of open files.
    pub fn new(kind: Kind, flags: u32) -> Result<Arc<Self>, Errno> {
        // Made first, so that an end of a pipe is closed in any case.
        let file = Arc::new(OpenFile {
            kind,
            flags: AtomicU32::new(flags),
            position: Lock::new(0),
        });
        if LIVE.fetch_add(1, Ordering::Relaxed) >= MAX_OPEN {
            Err(Errno::ENFILE)
        } else {
            Ok(file)
        }
    }

    /// Status flags, access mode included.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Changes the flags that may change.
    pub fn set_flags(&self, flags: u32) {
        let keep = self.flags() & !O_SETTABLE;
        self.flags.store(keep | flags & O_SETTABLE, Ordering::Relaxed);
    }

    /// True if calls on it do not wait.
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & O_NONBLOCK != 0
    }

    /// True if it may be read.
    pub fn is_readable(&self) -> bool {
        self.flags() & O_ACCMODE != O_WRONLY && !matches!(self.kind, Kind::Path(_))
    }

    /// True if it may be written.
    pub fn is_writable(&self) -> bool {
        matches!(self.flags() & O_ACCMODE, O_WRONLY | O_RDWR) && !matches!(self.kind, Kind::Path(_))
    }

    /// The position, for `lseek` and `getdents64`, which change it.
    pub fn position(&self) -> &Lock<u64> {
        &self.position
    }

    /// Reads at the position, or at `offset` and leaves the position alone.
    ///
    /// # Errors
    /// `EBADF` if not open for reading; `EISDIR`; `ESPIPE` for an offset where there are none.
    pub fn read(&self, buffer: &mut [u8], offset: Option<u64>) -> Result<Progress, Errno> {
        if !self.is_readable() {
            return Err(Errno::EBADF);
        }
        let waits = |done: Option<usize>| done.map_or(Progress::Wait, Progress::Done);
        match &self.kind {
            Kind::File(_, object) => match offset {
                Some(offset) => Ok(Progress::Done(object.read(offset, buffer))),
                None => {
                    let mut position = self.position.lock();
                    let done = object.read(*position, buffer);
                    *position += done as u64;
                    Ok(Progress::Done(done))
                }
            },
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::Device(_, Device::Console) => Ok(waits(kernel().console().read(buffer))),
            Kind::Device(_, Device::Null) => Ok(Progress::Done(0)),
            Kind::Device(_, Device::Zero) => {
                buffer.fill(0);
                Ok(Progress::Done(buffer.len()))
            }
            Kind::Device(_, Device::Random) => {
                kernel().random().lock().fill(buffer);
                Ok(Progress::Done(buffer.len()))
            }
            Kind::PipeReader(_) if offset.is_some() => Err(Errno::ESPIPE),
            Kind::PipeReader(pipe) => Ok(waits(pipe.read(buffer))),
            Kind::PipeWriter(_) | Kind::Path(_) => Err(Errno::EBADF),
        }
    }

    /// Writes at the position (at the end with `O_APPEND`), or at `offset` and leaves the position alone.
    ///
    /// # Errors
    /// `EBADF` if not open for writing; `EPIPE`; `ENOSPC`, `EFBIG`; `ESPIPE` for an offset where there are none.
    pub fn write(&self, bytes: &[u8], offset: Option<u64>) -> Result<Progress, Errno> {
        if !self.is_writable() {
            return Err(Errno::EBADF);
        }
        match &self.kind {
            Kind::File(_, object) => match offset {
                Some(offset) => object.write(offset, bytes).map(Progress::Done),
                None => {
                    let mut position = self.position.lock();
                    let done = if self.flags() & O_APPEND != 0 {
                        let (done, end) = object.append(bytes)?;
                        *position = end;
                        done
                    } else {
                        let done = object.write(*position, bytes)?;
                        *position += done as u64;
                        done
                    };
                    Ok(Progress::Done(done))
                }
            },
            Kind::Device(_, Device::Console) => {
                kernel().console().write(bytes);
                Ok(Progress::Done(bytes.len()))
            }
            Kind::Device(_, Device::Null | Device::Zero | Device::Random) => Ok(Progress::Done(bytes.len())),
            Kind::PipeWriter(_) if offset.is_some() => Err(Errno::ESPIPE),
            Kind::PipeWriter(pipe) => Ok(pipe.write(bytes)?.map_or(Progress::Wait, Progress::Done)),
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::PipeReader(_) | Kind::Path(_) => Err(Errno::EBADF),
        }
    }

    /// What stat(2) says.
    pub fn status(&self) -> Stat {
        match &self.kind {
            Kind::File(node, _) | Kind::Device(node, _) => node_status(node),
            Kind::Directory(place) | Kind::Path(place) => node_status(place.node()),
            Kind::PipeReader(_) | Kind::PipeWriter(_) => Stat {
                mode: S_IFIFO | 0o600,
                links: 1,
                block_size: 4096,
                ..Stat::default()
            },
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
        match &self.kind {
            Kind::PipeReader(pipe) => pipe.close(true),
            Kind::PipeWriter(pipe) => pipe.close(false),
            _ => {}
        }
    }
}

/// What stat(2) says about a node. Times are those of the start.
pub fn node_status(node: &Inode) -> Stat {
    let mode = node.mode();
    let kind = mode & !0o7777;
    let time = TimeSpec::from_nanoseconds(kernel().start_time());
    let special_device = match &node.content {
        Content::Device(device) if kind == S_IFCHR => device.number(),
        _ => 0,
    };
    let size = node.size();
    Stat {
        device: 1,
        inode: node.number,
        links: if kind == S_IFDIR { 2 } else { 1 },
        mode,
        special_device,
        size: size as i64,
        block_size: 4096,
        blocks: size.div_ceil(512) as i64,
        access: time,
        modification: time,
        change: time,
        ..Stat::default()
    }
}
