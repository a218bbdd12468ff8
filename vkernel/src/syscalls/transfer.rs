//! Reading and writing: `read write pread64 pwrite64 readv writev`.

use crate::linux::Errno;
use crate::linux::signal::{SI_USER, SIGPIPE};
use crate::linux::structures::Vector;
use crate::memory::fault::Access;
use crate::process::Task;
use crate::signal::{Detail, Notice};
use crate::vfs::OpenFile;
use crate::vfs::open_file::{Kind, Progress};
use alloc::vec;
use alloc::vec::Vec;
use dragonet_abi::time::FOREVER;

/// Bytes moved at once between a file and a program.
const CHUNK: usize = 64 * 1024;
/// Bytes of one call at most, as on Linux.
const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Vectors of one call at most.
const MAX_VECTORS: u64 = 1024;

/// What one call moves between a file and a program's memory, and how far it is.
struct Transfer {
    address: u64,
    length: u64,
    /// Where in the file; none for the file's own position.
    offset: Option<u64>,
    done: u64,
}

/// What is moved next.
struct Piece {
    address: u64,
    length: usize,
    position: Option<u64>,
}

impl Transfer {
    fn new(address: u64, length: u64, offset: Option<u64>) -> Self {
        let length = length.min(MAX_TRANSFER);
        Transfer {
            address,
            length,
            offset,
            done: 0,
        }
    }

    fn of(vector: &Vector) -> Self {
        Self::new(vector.base, vector.length, None)
    }

    fn next(&self) -> Piece {
        Piece {
            address: self.address.wrapping_add(self.done),
            length: (self.length - self.done).min(CHUNK as u64) as usize,
            position: self.offset.map(|offset| offset.saturating_add(self.done)),
        }
    }

    fn is_complete(&self) -> bool {
        self.done == self.length
    }

    /// What the call returns if it cannot go on: an error only if nothing was moved.
    fn stopped(&self, error: Errno) -> Result<u64, Errno> {
        if self.done > 0 { Ok(self.done) } else { Err(error) }
    }
}

impl Task {
    pub(super) async fn sys_read(
        &mut self,
        number: i32,
        address: u64,
        length: u64,
        offset: Option<u64>,
    ) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        check_offset(offset)?;
        self.read_file(&file, Transfer::new(address, length, offset))
            .await
    }

    pub(super) async fn sys_write(
        &mut self,
        number: i32,
        address: u64,
        length: u64,
        offset: Option<u64>,
    ) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        check_offset(offset)?;
        self.write_file(&file, Transfer::new(address, length, offset))
            .await
    }

    pub(super) async fn sys_readv(&mut self, number: i32, table: u64, count: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        let mut total = 0;
        for vector in self.read_vectors(table, count)? {
            match self.read_file(&file, Transfer::of(&vector)).await {
                Ok(done) => total += done,
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
            if !matches!(file.kind, Kind::File(..)) && total > 0 {
                break;
            }
        }
        Ok(total)
    }

    pub(super) async fn sys_writev(&mut self, number: i32, table: u64, count: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        let vectors = self.read_vectors(table, count)?;
        let length: u64 = vectors.iter().map(|vector| vector.length).sum();
        // Small ones are gathered, so that a line that comes in pieces is written as one.
        if length <= CHUNK as u64 {
            let mut bytes = vec![0; length as usize];
            let mut done = 0;
            for vector in &vectors {
                let part = &mut bytes[done..done + vector.length as usize];
                self.space.read_bytes(vector.base, part)?;
                done += part.len();
            }
            return self.write_all(&file, &bytes, None).await.map(|done| done as u64);
        }
        let mut total = 0;
        for vector in vectors {
            match self.write_file(&file, Transfer::of(&vector)).await {
                Ok(done) => {
                    total += done;
                    if done < vector.length {
                        break;
                    }
                }
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn read_vectors(&self, table: u64, count: u64) -> Result<Vec<Vector>, Errno> {
        if count > MAX_VECTORS {
            return Err(Errno::EINVAL);
        }
        let mut vectors = Vec::with_capacity(count as usize);
        let mut total = 0_u64;
        for index in 0..count {
            let address = table
                .checked_add(index * size_of::<Vector>() as u64)
                .ok_or(Errno::EFAULT)?;
            let mut vector: Vector = self.space.read(address)?;
            if vector.length > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            vector.length = vector.length.min(MAX_TRANSFER - total);
            total += vector.length;
            vectors.push(vector);
        }
        Ok(vectors)
    }

    async fn read_file(&self, file: &OpenFile, mut transfer: Transfer) -> Result<u64, Errno> {
        if !file.is_readable() {
            return Err(Errno::EBADF);
        }
        let mut buffer = Vec::new();
        loop {
            let piece = transfer.next();
            // What is taken out of a pipe must have somewhere to go, so the memory is looked at first.
            let room = match self.space.accessible(piece.address, piece.length, Access::Write) {
                Ok(room) => room,
                Err(error) => return transfer.stopped(error),
            };
            buffer.resize(room, 0);
            let done = match file.read(&mut buffer, piece.position)? {
                Progress::Done(done) => done,
                Progress::Wait if transfer.done > 0 || file.is_nonblocking() => {
                    return transfer.stopped(Errno::EAGAIN);
                }
                Progress::Wait => self.wait_to(file, || file.read(&mut buffer, None)).await?,
            };
            self.space.write_bytes(piece.address, &buffer[..done])?;
            transfer.done += done as u64;
            let more = matches!(file.kind, Kind::File(..)) && done == piece.length && done > 0;
            if !more || transfer.is_complete() || self.must_end() {
                return Ok(transfer.done);
            }
        }
    }

    async fn write_file(&self, file: &OpenFile, mut transfer: Transfer) -> Result<u64, Errno> {
        if !file.is_writable() {
            return Err(Errno::EBADF);
        }
        let mut buffer = Vec::new();
        loop {
            let piece = transfer.next();
            buffer.resize(piece.length, 0);
            let written = match self.space.read_some(piece.address, &mut buffer) {
                Ok(readable) => self.write_all(file, &buffer[..readable], piece.position).await,
                Err(error) => Err(error),
            };
            let done = match written {
                Ok(done) => done,
                Err(error) => return transfer.stopped(error),
            };
            transfer.done += done as u64;
            if done < piece.length || transfer.is_complete() || self.must_end() {
                return Ok(transfer.done);
            }
        }
    }

    /// Writes until everything is written, something goes wrong, or a signal comes.
    async fn write_all(&self, file: &OpenFile, bytes: &[u8], offset: Option<u64>) -> Result<usize, Errno> {
        let mut total = 0;
        loop {
            let rest = &bytes[total..];
            let position = offset.map(|offset| offset.saturating_add(total as u64));
            let result = match file.write(rest, position) {
                Ok(Progress::Wait) if file.is_nonblocking() => Err(Errno::EAGAIN),
                Ok(Progress::Wait) => self.wait_to(file, || file.write(rest, None)).await,
                Ok(Progress::Done(done)) => Ok(done),
                Err(error) => Err(error),
            };
            match result {
                Ok(done) => total += done,
                Err(Errno::EPIPE) => {
                    let notice = Notice {
                        signal: SIGPIPE,
                        code: SI_USER,
                        detail: Detail::Sender(self.process.id),
                    };
                    self.process.send_to_thread(&self.thread, notice);
                    return if total > 0 { Ok(total) } else { Err(Errno::EPIPE) };
                }
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
            let waits = matches!(file.kind, Kind::PipeWriter(_));
            if total == bytes.len() || !waits {
                return Ok(total);
            }
        }
    }

    /// Waits until `attempt` at the file need not wait.
    async fn wait_to(
        &self,
        file: &OpenFile,
        mut attempt: impl FnMut() -> Result<Progress, Errno>,
    ) -> Result<usize, Errno> {
        let changed = file.readiness_changed().ok_or(Errno::EAGAIN)?;
        self.wait_until(changed, FOREVER, || match attempt() {
            Ok(Progress::Done(done)) => Some(Ok(done)),
            Ok(Progress::Wait) => None,
            Err(error) => Some(Err(error)),
        })
        .await?
    }
}

fn check_offset(offset: Option<u64>) -> Result<(), Errno> {
    if offset.is_some_and(|offset| offset > i64::MAX as u64) {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}
