//! Paths: from a string to a place in the tree.
//!
//! A place is the chain of nodes from the root to it, so that `..` and getcwd(2) need no pointers from children to parents.

use crate::linux::Errno;
use crate::vfs::inode::{Content, Inode};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a path at most, its zero byte included.
pub const MAX_PATH: usize = 4096;
/// Symbolic links followed at most.
const MAX_LINKS: usize = 40;

/// A node and the way to it.
#[derive(Clone)]
pub struct Location {
    root: Arc<Inode>,
    steps: Vec<(Vec<u8>, Arc<Inode>)>,
    /// Bytes of the absolute path.
    length: usize,
}

/// Where a path leads.
pub struct Found {
    /// The directory of the last name, or the place itself if the path ends with no name (`/`, `.`, `..`).
    pub parent: Location,
    /// The last name; empty if there is none.
    pub name: Vec<u8>,
    /// What has that name.
    pub node: Option<Arc<Inode>>,
    /// The path ends with a slash, so the last name has to be a directory's.
    pub must_be_directory: bool,
}

impl Location {
    /// The root directory.
    pub fn root(root: Arc<Inode>) -> Self {
        Location {
            root,
            steps: Vec::new(),
            length: 0,
        }
    }

    /// The node.
    pub fn node(&self) -> &Arc<Inode> {
        self.steps.last().map_or(&self.root, |(_, node)| node)
    }

    /// The absolute path.
    pub fn path(&self) -> Vec<u8> {
        if self.steps.is_empty() {
            return vec![b'/'];
        }
        let mut path = Vec::new();
        for (name, _) in &self.steps {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// The place of an entry of this directory.
    ///
    /// # Errors
    /// `ENAMETOOLONG` if the absolute path gets longer than [`MAX_PATH`].
    pub fn enter(&mut self, name: Vec<u8>, node: Arc<Inode>) -> Result<(), Errno> {
        let length = self.length + 1 + name.len();
        if length >= MAX_PATH {
            return Err(Errno::ENAMETOOLONG);
        }
        self.length = length;
        self.steps.push((name, node));
        Ok(())
    }

    /// Goes back to the directory above; the root is above itself.
    fn leave(&mut self) {
        if let Some((name, _)) = self.steps.pop() {
            self.length -= 1 + name.len();
        }
    }

    /// Follows `path` from here. `follow` says whether a symbolic link as the last name is followed.
    ///
    /// # Errors
    /// `ENOENT` for an empty path or a missing directory; `ENOTDIR`; `ELOOP`; `ENAMETOOLONG`. A missing last name is no error.
    pub fn walk(&self, path: &[u8], follow: bool) -> Result<Found, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut place = self.clone();
        let mut links = 0;
        let mut must_be_directory = false;
        let mut rest: VecDeque<Vec<u8>> = VecDeque::new();
        place.begin(path, &mut rest, &mut must_be_directory);

        while let Some(name) = rest.pop_front() {
            if !place.node().is_directory() {
                return Err(Errno::ENOTDIR);
            }
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    place.leave();
                    continue;
                }
                _ => {}
            }
            let node = match place.node().look_up(&name) {
                Err(Errno::ENOENT) if rest.is_empty() => {
                    return Ok(Found {
                        parent: place,
                        name,
                        node: None,
                        must_be_directory,
                    });
                }
                other => other?,
            };
            if let Content::Link(target) = &node.content
                && (follow || must_be_directory || !rest.is_empty())
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let mut target_steps = VecDeque::new();
                place.begin(target, &mut target_steps, &mut must_be_directory);
                target_steps.append(&mut rest);
                rest = target_steps;
                continue;
            }
            if rest.is_empty() {
                if must_be_directory && !node.is_directory() {
                    return Err(Errno::ENOTDIR);
                }
                return Ok(Found {
                    parent: place,
                    name,
                    node: Some(node),
                    must_be_directory,
                });
            }
            place.enter(name, node)?;
        }
        let node = place.node().clone();
        Ok(Found {
            parent: place,
            name: Vec::new(),
            node: Some(node),
            must_be_directory,
        })
    }

    /// Starts on a path: from the root if it begins with a slash, and with its names still to go.
    fn begin(&mut self, path: &[u8], rest: &mut VecDeque<Vec<u8>>, must_be_directory: &mut bool) {
        if path.first() == Some(&b'/') {
            self.steps.clear();
            self.length = 0;
        }
        *must_be_directory |= path.last() == Some(&b'/');
        rest.extend(
            path.split(|&byte| byte == b'/')
                .filter(|name| !name.is_empty())
                .map(<[u8]>::to_vec),
        );
    }
}

impl Found {
    /// The place, which must exist.
    ///
    /// # Errors
    /// `ENOENT`, `ENAMETOOLONG`.
    pub fn location(self) -> Result<Location, Errno> {
        let node = self.node.ok_or(Errno::ENOENT)?;
        let mut place = self.parent;
        if !self.name.is_empty() {
            place.enter(self.name, node)?;
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Location {
        let root = Inode::directory(0o755).unwrap();
        let bin = Inode::directory(0o755).unwrap();
        let link = |target: &[u8]| Inode::new(Content::Link(target.to_vec()), 0o777).unwrap();
        bin.link(b"up", link(b"../bin")).unwrap();
        bin.link(b"loop", link(b"/bin/loop")).unwrap();
        bin.link(b"deep", Inode::directory(0o755).unwrap()).unwrap();
        root.link(b"bin", bin).unwrap();
        root.link(b"sbin", link(b"bin/")).unwrap();
        Location::root(root)
    }

    fn path_of(root: &Location, path: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(root.walk(path, true)?.location()?.path())
    }

    #[test]
    fn paths_lead_where_they_say() {
        let root = tree();
        for (path, target) in [
            (&b"/"[..], &b"/"[..]),
            (b"//bin//deep/.", b"/bin/deep"),
            (b"/bin/../..//..", b"/"),
            (b"sbin/deep/", b"/bin/deep"),
            (b"/bin/up/up/up/deep", b"/bin/deep"),
        ] {
            assert_eq!(path_of(&root, path).unwrap(), target);
        }
        let bin = root.walk(b"/bin", true).unwrap().location().unwrap();
        assert_eq!(path_of(&bin, b"deep").unwrap(), b"/bin/deep");
        assert_eq!(path_of(&bin, b"/sbin/deep/..").unwrap(), b"/bin");
    }

    #[test]
    fn a_place_has_a_path_of_bounded_length() {
        let mut place = tree();
        let name = [b'd'; 100];
        let mut depth = 0;
        loop {
            let node = Inode::directory(0o755).unwrap();
            match place.enter(name.to_vec(), node) {
                Ok(()) => depth += 1,
                Err(error) => break assert_eq!(error, Errno::ENAMETOOLONG),
            }
        }
        assert_eq!(depth, (MAX_PATH - 1) / 101);
        assert_eq!(place.path().len(), depth * 101);
        for _ in 0..2 * depth {
            place.leave();
        }
        assert_eq!((place.path(), place.length), (b"/".to_vec(), 0));
    }

    #[test]
    fn what_is_wrong_with_a_path_is_said() {
        let root = tree();
        assert_eq!(path_of(&root, b""), Err(Errno::ENOENT));
        assert_eq!(path_of(&root, b"/bin/loop"), Err(Errno::ELOOP));
        assert_eq!(path_of(&root, b"/no/where"), Err(Errno::ENOENT));
        assert_eq!(path_of(&root, &[b'n'; 300]), Err(Errno::ENAMETOOLONG));
        let missing = root.walk(b"/bin/new", true).unwrap();
        assert!(missing.node.is_none());
        assert_eq!(
            (missing.parent.path(), missing.name.as_slice()),
            (b"/bin".to_vec(), &b"new"[..])
        );
        let link = root.walk(b"/bin/loop", false).unwrap();
        assert!(matches!(link.node.unwrap().content, Content::Link(_)));
    }
}
