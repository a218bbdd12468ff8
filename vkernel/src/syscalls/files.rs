//! Descriptors: `open close lseek fstat ioctl fcntl dup pipe ftruncate`.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    AT_FDCWD, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL, FD_CLOEXEC, FIOCLEX, FIONBIO,
    FIONCLEX, FIONREAD, O_CLOEXEC, O_NONBLOCK, O_WRONLY, TCGETS, TIOCGWINSZ,
};
use crate::process::Task;
use crate::vfs::fd::MAX_FILES;
use crate::vfs::inode::Device;
use crate::vfs::open_file::{Kind, OpenFile};
use crate::vfs::path::{Location, MAX_PATH};
use crate::vfs::pipe::Pipe;
use crate::vfs::{FileContext, open};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `struct termios` of a terminal in its usual mode: flags of four kinds, then line discipline and control characters.
const TERMIOS_FLAGS: [u32; 4] = [0x500, 0x5, 0xbf, 0x8a3b];
/// Bytes of `struct termios` behind the flags.
const TERMIOS_REST: usize = 20;
/// Rows, columns, and no pixels.
const WINDOW_SIZE: [u16; 4] = [24, 80, 0, 0];

impl Task {
    pub(super) fn file_context(&self) -> Arc<FileContext> {
        self.process.file_context.lock().clone()
    }

    /// A path argument.
    pub(super) fn read_path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.space.read_string(address, MAX_PATH, Errno::ENAMETOOLONG)
    }

    /// Where a path that is relative to `directory` begins.
    pub(super) fn start_of(&self, directory: i32, path: &[u8]) -> Result<Location, Errno> {
        if directory == AT_FDCWD || path.first() == Some(&b'/') {
            return Ok(self.file_context().directory());
        }
        match &self.files.get(directory)?.kind {
            Kind::Directory(place) | Kind::Path(place) => Ok(place.clone()),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn sys_open(
        &mut self,
        directory: i32,
        path: u64,
        flags: u32,
        mode: u32,
    ) -> Result<u64, Errno> {
        let path = self.read_path(path)?;
        let start = self.start_of(directory, &path)?;
        let permissions = mode & 0o7777 & !self.file_context().mask();
        let file = open::open(self, &start, &path, flags, permissions)?;
        self.files
            .add(file, 0, flags & O_CLOEXEC != 0)
            .map(|number| number as u64)
    }

    pub(super) fn sys_close(&mut self, number: i32) -> Result<u64, Errno> {
        self.files.remove(number).map(drop)?;
        Ok(0)
    }

    pub(super) fn sys_close_range(&mut self, first: u64, last: u64, flags: u64) -> Result<u64, Errno> {
        let (first, last) = (u64::from(first as u32), u64::from(last as u32));
        if flags != 0 || first > last {
            return Err(Errno::EINVAL);
        }
        drop(self.files.remove_range(first as usize, last as usize));
        Ok(0)
    }

    pub(super) fn sys_lseek(&mut self, number: i32, offset: i64, whence: u32) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        let size = match &file.kind {
            Kind::File(_, object) => object.size(),
            Kind::Directory(_) => 0,
            Kind::Device(_, Device::Console) | Kind::PipeReader(_) | Kind::PipeWriter(_) => {
                return Err(Errno::ESPIPE);
            }
            Kind::Device(..) => return Ok(0),
            Kind::Path(_) => return Err(Errno::EBADF),
        };
        let mut position = file.position().lock();
        let base = match whence {
            0 => 0,
            1 => *position,
            2 => size,
            _ => return Err(Errno::EINVAL),
        };
        let target = base
            .checked_add_signed(offset)
            .filter(|&target| target <= i64::MAX as u64);
        *position = target.ok_or(Errno::EINVAL)?;
        Ok(*position)
    }

    pub(super) fn sys_fstat(&mut self, number: i32, address: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        self.space.write(address, &file.status()).map(|()| 0)
    }

    pub(super) fn sys_ioctl(&mut self, number: i32, request: u64, address: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        match (&file.kind, request) {
            (Kind::Path(_), _) => Err(Errno::EBADF),
            (_, FIOCLEX | FIONCLEX) => self
                .files
                .set_close_on_exec(number, request == FIOCLEX)
                .map(|()| 0),
            (_, FIONBIO) => {
                let set: u32 = self.space.read(address)?;
                let others = file.flags() & !O_NONBLOCK;
                file.set_flags(if set == 0 { others } else { others | O_NONBLOCK });
                Ok(0)
            }
            (Kind::Device(_, Device::Console), TCGETS) => {
                self.space.write(address, &TERMIOS_FLAGS)?;
                let rest = address.wrapping_add(size_of_val(&TERMIOS_FLAGS) as u64);
                self.space.write(rest, &[0_u8; TERMIOS_REST]).map(|()| 0)
            }
            (Kind::Device(_, Device::Console), TIOCGWINSZ) => {
                self.space.write(address, &WINDOW_SIZE).map(|()| 0)
            }
            (Kind::PipeReader(pipe) | Kind::PipeWriter(pipe), FIONREAD) => {
                let (length, ..) = pipe.status();
                self.space.write(address, &(length as u32)).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    pub(super) fn sys_fcntl(&mut self, number: i32, command: u32, argument: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        match command {
            F_DUPFD | F_DUPFD_CLOEXEC => {
                if argument >= MAX_FILES as u64 {
                    return Err(Errno::EINVAL);
                }
                let new = self
                    .files
                    .add(file, argument as usize, command == F_DUPFD_CLOEXEC)?;
                Ok(new as u64)
            }
            F_GETFD => Ok(if self.files.closes_on_exec(number)? {
                FD_CLOEXEC
            } else {
                0
            }),
            F_SETFD => self
                .files
                .set_close_on_exec(number, argument & FD_CLOEXEC != 0)
                .map(|()| 0),
            F_GETFL => Ok(u64::from(file.flags())),
            F_SETFL => {
                file.set_flags(argument as u32);
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn sys_dup(&mut self, number: i32) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        self.files.add(file, 0, false).map(|number| number as u64)
    }

    /// `dup2` (where the same number twice is no change) and `dup3` (where it is an error).
    pub(super) fn sys_dup_to(&mut self, old: i32, new: i32, flags: u32, same: bool) -> Result<u64, Errno> {
        if flags & !O_CLOEXEC != 0 {
            return Err(Errno::EINVAL);
        }
        let file = self.files.get(old)?;
        if old == new {
            return if same { Ok(new as u64) } else { Err(Errno::EINVAL) };
        }
        drop(self.files.replace(new, file, flags & O_CLOEXEC != 0)?);
        Ok(new as u64)
    }

    pub(super) fn sys_pipe(&mut self, address: u64, flags: u32) -> Result<u64, Errno> {
        if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
            return Err(Errno::EINVAL);
        }
        let pipe = Arc::new(Pipe::new(kernel().memory()));
        let status = flags & O_NONBLOCK;
        let close_on_exec = flags & O_CLOEXEC != 0;
        let reader = OpenFile::new(Kind::PipeReader(pipe.clone()), status)?;
        let writer = OpenFile::new(Kind::PipeWriter(pipe), status | O_WRONLY)?;
        let first = self.files.add(reader, 0, close_on_exec)?;
        let numbers = self
            .files
            .add(writer, 0, close_on_exec)
            .map(|second| [first, second]);
        let written = numbers.and_then(|numbers| self.space.write(address, &numbers));
        if let Err(error) = written {
            let _ = self.files.remove(first);
            if let Ok([_, second]) = numbers {
                let _ = self.files.remove(second);
            }
            return Err(error);
        }
        Ok(0)
    }

    pub(super) fn sys_ftruncate(&mut self, number: i32, size: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        match &file.kind {
            _ if size > i64::MAX as u64 => Err(Errno::EINVAL),
            Kind::File(_, object) if file.is_writable() => object.resize(size).map(|()| 0),
            Kind::Path(_) => Err(Errno::EBADF),
            _ => Err(Errno::EINVAL),
        }
    }
}
