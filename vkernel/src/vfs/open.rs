//! Opening files by path.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    O_ACCMODE, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_TRUNC,
};
use crate::memory::MemoryObject;
use crate::process::Task;
use crate::vfs::inode::{Content, Inode};
use crate::vfs::open_file::{Kind, OpenFile};
use crate::vfs::path::{Found, Location};
use alloc::sync::Arc;

/// Opens what `path` leads to from `start`, making a file if asked to. `permissions` are those of a new file, mask applied;
/// `task` is who asks.
///
/// # Errors
/// As open(2): `ENOENT EEXIST ENOTDIR EISDIR ELOOP ENAMETOOLONG ENOSPC EINVAL`.
pub fn open(
    task: &Task,
    start: &Location,
    path: &[u8],
    flags: u32,
    permissions: u32,
) -> Result<Arc<OpenFile>, Errno> {
    let exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
    let follow = flags & O_NOFOLLOW == 0 && !exclusive;
    let status = flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_PATH);
    let found = start.walk(path, follow)?;
    if flags & O_PATH != 0 {
        let place = found.location()?;
        if flags & O_DIRECTORY != 0 && !place.node().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        return OpenFile::new(Kind::Path(place), status);
    }
    let place = match (&found.node, flags & O_CREAT != 0) {
        (Some(_), _) if exclusive => return Err(Errno::EEXIST),
        (Some(_), _) => found.location()?,
        (None, false) => return Err(Errno::ENOENT),
        (None, true) => create(found, permissions)?,
    };
    let node = place.node().clone();
    match &node.content {
        Content::Directory(_) if flags & (O_ACCMODE | O_CREAT | O_TRUNC) != 0 => Err(Errno::EISDIR),
        Content::Directory(_) => OpenFile::new(Kind::Directory(place), status),
        _ if flags & O_DIRECTORY != 0 => Err(Errno::ENOTDIR),
        Content::Link(_) => Err(Errno::ELOOP),
        Content::Generated(_) if flags & O_ACCMODE != 0 => Err(Errno::EACCES),
        Content::Generated(report) => {
            let object = MemoryObject::new(kernel().memory(), 0);
            object.write(0, report.text(task).as_bytes())?;
            OpenFile::new(Kind::File(node.clone(), Arc::new(object)), status)
        }
        Content::Device(device) => OpenFile::new(Kind::Device(node.clone(), *device), status),
        Content::File(object) => {
            let file = OpenFile::new(Kind::File(node.clone(), object.clone()), status)?;
            if flags & O_TRUNC != 0 && file.is_writable() {
                object.resize(0)?;
            }
            Ok(file)
        }
    }
}

/// Makes an empty file where there is none.
fn create(found: Found, permissions: u32) -> Result<Location, Errno> {
    if found.must_be_directory {
        return Err(Errno::EISDIR);
    }
    let object = Arc::new(MemoryObject::new(kernel().memory(), 0));
    let node = Inode::new(Content::File(object), permissions)?;
    let mut place = found.parent;
    match place.node().link(&found.name, node.clone()) {
        // Somebody else was faster; without O_EXCL their file will do.
        Err(Errno::EEXIST) => {
            let theirs = place.node().look_up(&found.name)?;
            place.enter(found.name, theirs)?;
        }
        other => {
            other?;
            place.enter(found.name, node)?;
        }
    }
    Ok(place)
}
