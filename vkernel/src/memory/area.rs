//! One area of a program's address space: a run of pages with one protection and one source.

use crate::memory::object::MemoryObject;
use alloc::sync::Arc;
use bitflags::bitflags;

bitflags! {
    /// What a program may do with an area.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

/// Where the first contents of a page come from.
#[derive(Clone)]
pub enum Source {
    /// Zeroes.
    Anonymous,
    /// An object.
    Object {
        /// The pages.
        object: Arc<MemoryObject>,
        /// Byte of the object at the start of the area; a multiple of the page size.
        offset: u64,
        /// Private areas see zeroes from this byte of the object on (the end of a segment's bytes in a program file).
        limit: u64,
    },
}

/// A run of pages.
#[derive(Clone)]
pub struct Area {
    /// First address, page-aligned.
    pub start: u64,
    /// First address behind, page-aligned.
    pub end: u64,
    /// Allowed accesses.
    pub protection: Protection,
    /// Writes are seen by every other mapping of the object. Never with [`Source::Anonymous`].
    pub shared: bool,
    /// First contents.
    pub source: Source,
}

impl Area {
    /// A private area of zeroes.
    pub fn anonymous(start: u64, end: u64, protection: Protection) -> Self {
        Area {
            start,
            end,
            protection,
            shared: false,
            source: Source::Anonymous,
        }
    }

    /// The part of the area inside `start..end`, which overlap it.
    pub fn part(&self, start: u64, end: u64) -> Area {
        let start = start.max(self.start);
        let end = end.min(self.end);
        debug_assert!(start < end);
        let mut part = self.clone();
        if let Source::Object { offset, .. } = &mut part.source {
            *offset += start - self.start;
        }
        part.start = start;
        part.end = end;
        part
    }

    /// True if `next` begins where this ends and could be one area with it.
    pub fn joins(&self, next: &Area) -> bool {
        self.end == next.start
            && self.protection == next.protection
            && self.shared == next.shared
            && match (&self.source, &next.source) {
                (Source::Anonymous, Source::Anonymous) => true,
                (
                    Source::Object {
                        object,
                        offset,
                        limit,
                    },
                    Source::Object {
                        object: next_object,
                        offset: next_offset,
                        limit: next_limit,
                    },
                ) => {
                    Arc::ptr_eq(object, next_object)
                        && limit == next_limit
                        && offset + (self.end - self.start) == *next_offset
                }
                _ => false,
            }
    }
}
