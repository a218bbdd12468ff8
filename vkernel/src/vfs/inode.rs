//! Nodes of the file tree.

use crate::linux::Errno;
use crate::linux::flags::{S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG};
use crate::memory::MemoryObject;
use crate::sync::Lock;
use crate::vfs::generated::Report;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Nodes at most: they live in the vkernel's heap, which is the host's memory.
const MAX_INODES: usize = 1 << 17;
/// Bytes of one name at most.
pub const MAX_NAME: usize = 255;

/// Nodes alive.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// A device file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The host's console.
    Console,
    /// Reads nothing, forgets what is written.
    Null,
    /// Reads zeroes, forgets what is written.
    Zero,
    /// Reads random bytes, forgets what is written.
    Random,
}

impl Device {
    /// Major and minor number as on Linux, as stat(2) packs them.
    pub const fn number(self) -> u64 {
        match self {
            Device::Console => 5 << 8 | 1,
            Device::Null => 1 << 8 | 3,
            Device::Zero => 1 << 8 | 5,
            Device::Random => 1 << 8 | 9,
        }
    }
}

/// What a node holds.
pub enum Content {
    /// Names and nodes.
    Directory(Lock<BTreeMap<Vec<u8>, Arc<Inode>>>),
    /// Bytes.
    File(Arc<MemoryObject>),
    /// A path.
    Link(Vec<u8>),
    /// A device.
    Device(Device),
    /// A file whose bytes are made when it is opened.
    Generated(Report),
}

/// A name and its node.
pub type Entry = (Vec<u8>, Arc<Inode>);

/// A node of the tree. It may have several names.
pub struct Inode {
    /// Unique for the life of the vkernel.
    pub number: u64,
    /// What it holds.
    pub content: Content,
    permissions: AtomicU32,
}

impl Inode {
    /// A node that has no name yet. `permissions` are the low 12 bits of a mode.
    ///
    /// # Errors
    /// `ENOSPC` at the limit of nodes.
    pub fn new(content: Content, permissions: u32) -> Result<Arc<Self>, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if LIVE.fetch_add(1, Ordering::Relaxed) >= MAX_INODES {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Inode {
            number,
            content,
            permissions: AtomicU32::new(permissions & 0o7777),
        }))
    }

    /// An empty directory.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn directory(permissions: u32) -> Result<Arc<Self>, Errno> {
        Self::new(Content::Directory(Lock::new(BTreeMap::new())), permissions)
    }

    /// Type and permissions as stat(2) has them.
    pub fn mode(&self) -> u32 {
        let kind = match self.content {
            Content::Directory(_) => S_IFDIR,
            Content::File(_) | Content::Generated(_) => S_IFREG,
            Content::Link(_) => S_IFLNK,
            Content::Device(_) => S_IFCHR,
        };
        kind | self.permissions.load(Ordering::Relaxed)
    }

    /// Changes the permissions. Nothing is checked against them but the right to execute.
    pub fn set_permissions(&self, permissions: u32) {
        self.permissions.store(permissions & 0o7777, Ordering::Relaxed);
    }

    /// Bytes, as stat(2) has them.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::File(object) => object.size(),
            Content::Link(target) => target.len() as u64,
            Content::Directory(_) | Content::Device(_) | Content::Generated(_) => 0,
        }
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory(_))
    }

    /// The node with this name.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENAMETOOLONG`, `ENOENT`.
    pub fn look_up(&self, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let Content::Directory(entries) = &self.content else {
            return Err(Errno::ENOTDIR);
        };
        if name.len() > MAX_NAME {
            return Err(Errno::ENAMETOOLONG);
        }
        entries.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// Gives `node` a name.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENAMETOOLONG`, `EEXIST`.
    pub fn link(&self, name: &[u8], node: Arc<Inode>) -> Result<(), Errno> {
        let Content::Directory(entries) = &self.content else {
            return Err(Errno::ENOTDIR);
        };
        if name.len() > MAX_NAME {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut entries = entries.lock();
        if entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        entries.insert(name.to_vec(), node);
        Ok(())
    }

    /// Takes a name away. `directory` says whether the name must be a directory's, which must be empty, or must not.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EISDIR`, `ENOTEMPTY`.
    pub fn unlink(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        let Content::Directory(entries) = &self.content else {
            return Err(Errno::ENOTDIR);
        };
        let node = entries.lock().get(name).cloned().ok_or(Errno::ENOENT)?;
        match (&node.content, directory) {
            (Content::Directory(_), false) => return Err(Errno::EISDIR),
            (Content::Directory(children), true) if !children.lock().is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            (Content::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(Errno::ENOTDIR),
        }
        entries.lock().remove(name);
        Ok(())
    }

    /// Names and nodes, in order of names.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn entries(&self) -> Result<Vec<Entry>, Errno> {
        let Content::Directory(entries) = &self.content else {
            return Err(Errno::ENOTDIR);
        };
        Ok(entries
            .lock()
            .iter()
            .map(|(name, node)| (name.clone(), node.clone()))
            .collect())
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
