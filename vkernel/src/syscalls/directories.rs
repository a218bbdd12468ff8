//! Paths: `stat access readlink getdents64 getcwd chdir mkdir unlink chmod`.

use crate::linux::Errno;
use crate::linux::flags::{AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, S_IFDIR};
use crate::process::Task;
use crate::vfs::inode::{Content, Inode};
use crate::vfs::open_file::{Kind, node_status};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// `access` asks for the right to execute.
const X_OK: u32 = 1;
/// Bytes of `struct linux_dirent64` before the name.
const ENTRY_HEAD: usize = 19;

impl Task {
    fn node_at(&self, directory: i32, path: &[u8], follow: bool) -> Result<Arc<Inode>, Errno> {
        self.start_of(directory, path)?
            .walk(path, follow)?
            .node
            .ok_or(Errno::ENOENT)
    }

    pub(super) fn sys_stat(
        &mut self,
        directory: i32,
        path: u64,
        address: u64,
        flags: u32,
    ) -> Result<u64, Errno> {
        let path = self.read_path(path)?;
        let status = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            if directory == crate::linux::flags::AT_FDCWD {
                node_status(self.file_context().directory().node())
            } else {
                self.files.get(directory)?.status()
            }
        } else {
            let node = self.node_at(directory, &path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
            node_status(&node)
        };
        self.space.write(address, &status).map(|()| 0)
    }

    /// Every user is root: everything that exists may be read and written, and executed if anybody may.
    pub(super) fn sys_access(
        &mut self,
        directory: i32,
        path: u64,
        mode: u32,
        flags: u32,
    ) -> Result<u64, Errno> {
        if mode & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        let path = self.read_path(path)?;
        let node = self.node_at(directory, &path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
        if mode & X_OK != 0 && node.mode() & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        Ok(0)
    }

    pub(super) fn sys_readlink(
        &mut self,
        directory: i32,
        path: u64,
        address: u64,
        size: u64,
    ) -> Result<u64, Errno> {
        if size == 0 || size > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let path = self.read_path(path)?;
        let target = if path == b"/proc/self/exe" {
            self.process.executable()
        } else {
            match &self.node_at(directory, &path, false)?.content {
                Content::Link(target) => target.clone(),
                _ => return Err(Errno::EINVAL),
            }
        };
        let length = target.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        self.space.write_bytes(address, &target[..length])?;
        Ok(length as u64)
    }

    pub(super) fn sys_getdents(&mut self, number: i32, address: u64, size: u64) -> Result<u64, Errno> {
        let file = self.files.get(number)?;
        let Kind::Directory(place) = &file.kind else {
            return Err(Errno::ENOTDIR);
        };
        let node = place.node();
        let mut entries = vec![(b".".to_vec(), node.clone()), (b"..".to_vec(), node.clone())];
        entries.extend(node.entries()?);

        let mut position = file.position().lock();
        let first = usize::try_from(*position)
            .unwrap_or(usize::MAX)
            .min(entries.len());
        let limit = usize::try_from(size).unwrap_or(usize::MAX).min(1 << 20);
        let mut records = Vec::new();
        let mut next = first;
        for (name, node) in &entries[first..] {
            let length = (ENTRY_HEAD + name.len() + 1).next_multiple_of(8);
            if records.len() + length > limit {
                break;
            }
            next += 1;
            let end = records.len() + length;
            records.extend_from_slice(&node.number.to_le_bytes());
            records.extend_from_slice(&(next as u64).to_le_bytes());
            records.extend_from_slice(&(length as u16).to_le_bytes());
            records.push((node.mode() >> 12) as u8);
            records.extend_from_slice(name);
            records.resize(end, 0);
        }
        if records.is_empty() && first < entries.len() {
            return Err(Errno::EINVAL);
        }
        self.space.write_bytes(address, &records)?;
        *position = next as u64;
        Ok(records.len() as u64)
    }

    pub(super) fn sys_getcwd(&mut self, address: u64, size: u64) -> Result<u64, Errno> {
        let mut path = self.file_context().directory().path();
        path.push(0);
        if path.len() as u64 > size {
            return Err(Errno::ERANGE);
        }
        self.space.write_bytes(address, &path)?;
        Ok(path.len() as u64)
    }

    pub(super) fn sys_chdir(&mut self, path: u64) -> Result<u64, Errno> {
        let path = self.read_path(path)?;
        let context = self.file_context();
        let place = context.directory().walk(&path, true)?.location()?;
        if !place.node().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        context.set_directory(place);
        Ok(0)
    }

    pub(super) fn sys_fchdir(&mut self, number: i32) -> Result<u64, Errno> {
        match &self.files.get(number)?.kind {
            Kind::Directory(place) | Kind::Path(place) if place.node().is_directory() => {
                self.file_context().set_directory(place.clone());
                Ok(0)
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn sys_mkdir(&mut self, directory: i32, path: u64, mode: u32) -> Result<u64, Errno> {
        let path = self.read_path(path)?;
        let found = self.start_of(directory, &path)?.walk(&path, false)?;
        if found.node.is_some() {
            return Err(Errno::EEXIST);
        }
        let node = Inode::directory(mode & 0o7777 & !self.file_context().mask())?;
        found.parent.node().link(&found.name, node).map(|()| 0)
    }

    pub(super) fn sys_unlink(&mut self, directory: i32, path: u64, flags: u32) -> Result<u64, Errno> {
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::EINVAL);
        }
        let path = self.read_path(path)?;
        let found = self.start_of(directory, &path)?.walk(&path, false)?;
        let Some(node) = &found.node else {
            return Err(Errno::ENOENT);
        };
        if found.name.is_empty() {
            let is_directory = node.mode() & S_IFDIR != 0;
            return Err(if is_directory { Errno::EBUSY } else { Errno::EISDIR });
        }
        found
            .parent
            .node()
            .unlink(&found.name, flags & AT_REMOVEDIR != 0)
            .map(|()| 0)
    }

    pub(super) fn sys_chmod(&mut self, directory: i32, path: u64, mode: u32) -> Result<u64, Errno> {
        let path = self.read_path(path)?;
        self.node_at(directory, &path, true)?.set_permissions(mode);
        Ok(0)
    }
}
