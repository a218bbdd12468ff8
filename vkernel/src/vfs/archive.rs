//! The file tree from a tar archive (ustar) that stays in memory: files are not copied.

use crate::linux::Errno;
use crate::memory::{MemoryObject, PhysicalMemory};
use crate::vfs::generated::Report;
use crate::vfs::inode::{Content, Device, Inode};
use alloc::sync::Arc;
use alloc::vec::Vec;
use tar_no_std::{ArchiveHeaderIterator, PosixHeader, TypeFlag};

/// Bytes of a tar block.
const BLOCK: usize = 512;
/// Permissions of directories that the archive implies without naming them.
const DIRECTORY_PERMISSIONS: u32 = 0o755;

/// Makes the tree of `archive`, and the devices that every program expects.
///
/// # Errors
/// `EIO` if it is not a tar archive; `ENOSPC` for too many files.
pub fn root(memory: &'static PhysicalMemory, archive: &'static [u8]) -> Result<Arc<Inode>, Errno> {
    let root = Inode::directory(DIRECTORY_PERMISSIONS)?;
    let whole = archive.len() - archive.len() % BLOCK;
    if whole == 0 {
        return Err(Errno::EIO);
    }
    for (block, header) in ArchiveHeaderIterator::new(&archive[..whole]) {
        if header.is_zero_block() {
            break;
        }
        let Ok(kind) = header.typeflag.try_to_type_flag() else {
            return Err(Errno::EIO);
        };
        let name = full_name(header);
        let permissions = header.mode.to_flags().map_or(0o644, |flags| flags.bits() as u32);
        match kind {
            TypeFlag::DIRTYPE => make_directories(&root, &name).map(drop)?,
            TypeFlag::REGTYPE | TypeFlag::AREGTYPE => {
                let size = header.size.as_number::<usize>().map_err(|_| Errno::EIO)?;
                let start = (block + 1) * BLOCK;
                let end = start.checked_add(size).ok_or(Errno::EIO)?;
                let bytes = archive.get(start..end).ok_or(Errno::EIO)?;
                let object = Arc::new(MemoryObject::from_image(memory, bytes));
                place(&root, &name, Inode::new(Content::File(object), permissions)?)?;
            }
            TypeFlag::SYMTYPE => {
                let target = header
                    .linkname
                    .as_str()
                    .map_err(|_| Errno::EIO)?
                    .as_bytes()
                    .to_vec();
                place(&root, &name, Inode::new(Content::Link(target), 0o777)?)?;
            }
            TypeFlag::LINK => {
                let target = header.linkname.as_str().map_err(|_| Errno::EIO)?;
                let node = names(target.as_bytes()).try_fold(root.clone(), |place, name| place.look_up(name));
                place(&root, &name, node?)?;
            }
            _ => {}
        }
    }
    add_devices(&root)?;
    Ok(root)
}

/// Directories and devices that programs expect, where the archive has none.
fn add_devices(root: &Arc<Inode>) -> Result<(), Errno> {
    for path in [&b"dev"[..], b"tmp", b"proc/self"] {
        make_directories(root, path)?;
    }
    let device = |device: Device| Inode::new(Content::Device(device), 0o666);
    let report = |report: Report| Inode::new(Content::Generated(report), 0o444);
    let link = |target: &[u8]| Inode::new(Content::Link(target.to_vec()), 0o777);
    for (name, node) in [
        (&b"dev/console"[..], device(Device::Console)?),
        (b"dev/tty", device(Device::Console)?),
        (b"dev/null", device(Device::Null)?),
        (b"dev/zero", device(Device::Zero)?),
        (b"dev/random", device(Device::Random)?),
        (b"dev/urandom", device(Device::Random)?),
        (b"dev/stdin", link(b"console")?),
        (b"dev/stdout", link(b"console")?),
        (b"dev/stderr", link(b"console")?),
        (b"proc/self/maps", report(Report::Maps)?),
        (b"proc/cpuinfo", report(Report::Processors)?),
        (b"proc/meminfo", report(Report::Memory)?),
    ] {
        place(root, name, node)?;
    }
    Ok(())
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// The name of an entry with the prefix that ustar keeps apart.
fn full_name(header: &PosixHeader) -> Vec<u8> {
    let name = header.name;
    let prefix = header.prefix;
    let mut full = Vec::new();
    if let Ok(prefix) = prefix.as_str()
        && !prefix.is_empty()
    {
        full.extend_from_slice(prefix.as_bytes());
        full.push(b'/');
    }
    full.extend_from_slice(name.as_str().unwrap_or_default().as_bytes());
    full
}

/// The directory with this path, made with all above it where missing.
fn make_directories(root: &Arc<Inode>, path: &[u8]) -> Result<Arc<Inode>, Errno> {
    let mut place = root.clone();
    for name in names(path) {
        if name == b".." {
            return Err(Errno::EIO);
        }
        place = match place.look_up(name) {
            Err(Errno::ENOENT) => {
                let node = Inode::directory(DIRECTORY_PERMISSIONS)?;
                place.link(name, node.clone())?;
                node
            }
            other => other?,
        };
    }
    Ok(place)
}

/// Puts a node at a path. An entry that comes later replaces an earlier one, as when unpacking.
fn place(root: &Arc<Inode>, path: &[u8], node: Arc<Inode>) -> Result<(), Errno> {
    let steps: Vec<&[u8]> = names(path).collect();
    let Some((name, above)) = steps.split_last() else {
        return Ok(());
    };
    let directory = make_directories(root, &above.join(&b'/'))?;
    let _ = directory.unlink(name, false);
    directory.link(name, node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames::tests::memory;
    use crate::vfs::path::Location;
    use alloc::boxed::Box;

    fn entry(archive: &mut Vec<u8>, name: &str, kind: u8, link: &str, bytes: &[u8]) {
        let mut header = [0_u8; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[124..135].copy_from_slice(alloc::format!("{:011o}", bytes.len()).as_bytes());
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..262].copy_from_slice(b"ustar");
        archive.extend_from_slice(&header);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }

    fn leak(archive: Vec<u8>) -> &'static [u8] {
        Box::leak(archive.into_boxed_slice())
    }

    #[test]
    fn a_tree_is_made() {
        let mut archive = Vec::new();
        entry(&mut archive, "bin/", b'5', "", b"");
        entry(&mut archive, "./bin/hello", b'0', "", b"program");
        entry(&mut archive, "bin/hi", b'2', "hello", b"");
        entry(&mut archive, "bin/hardly", b'1', "bin/hello", b"");
        entry(&mut archive, "etc/a/b", b'0', "", b"x");
        archive.resize(archive.len() + 2 * BLOCK, 0);
        let root = Location::root(root(memory(4), leak(archive)).unwrap());
        for path in ["/bin/hello", "/bin/hi", "/bin/hardly"] {
            let node = root.walk(path.as_bytes(), true).unwrap().node.unwrap();
            let Content::File(object) = &node.content else {
                panic!("{path}")
            };
            assert_eq!(object.image(), Some(&b"program"[..]));
            assert_eq!(node.mode(), 0o100_755);
        }
        assert!(root.walk(b"/etc/a/b", true).unwrap().node.is_some());
        assert!(root.walk(b"/dev/null", true).unwrap().node.is_some());
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let mut archive = Vec::new();
        entry(&mut archive, "bin/hello", b'0', "", &[1; 2000]);
        archive.truncate(2 * BLOCK);
        assert_eq!(root(memory(1), leak(archive)).err(), Some(Errno::EIO));
        assert_eq!(root(memory(1), &[]).err(), Some(Errno::EIO));
        assert_eq!(
            root(memory(1), leak(alloc::vec![b'?'; 4 * BLOCK])).err(),
            Some(Errno::EIO)
        );
    }
}
