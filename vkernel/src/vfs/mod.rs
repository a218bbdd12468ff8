//! Files: one tree in memory over the root image, pipes, the console, and a few devices.
//!
//! `inode`, `path` and `archive` are the tree; `open_file` is an open file description with its reads and writes; `fd` maps
//! numbers to those. A file's bytes live in a memory object: unchanged they are the image's own, changed pages are frames of RAM,
//! and all of it is gone when the vkernel ends.

pub mod archive;
pub mod console;
pub mod context;
pub mod fd;
pub mod generated;
pub mod inode;
pub mod open;
pub mod open_file;
pub mod path;
pub mod pipe;
pub mod poll;

pub use context::FileContext;
pub use open_file::OpenFile;
