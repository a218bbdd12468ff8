//! What a translation allows, how it is cached, whether it was used: in terms of no format.

use bitflags::bitflags;

bitflags! {
    /// What a translation allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Protection: u8 {
        /// Loads. Every entry that is present allows them.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

bitflags! {
    /// What was done through a translation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Usage: u8 {
        /// Any access.
        const ACCESSED = 1;
        /// A store.
        const DIRTY = 2;
    }
}

/// How the CPU caches accesses through a translation. The number is the index in a format's cache vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum CacheMode {
    /// Ordinary memory.
    WriteBack = 0,
    /// Reads cached, writes go through.
    WriteThrough = 1,
    /// Device registers.
    Uncached = 2,
    /// Frame buffers: writes collected, reads uncached.
    WriteCombining = 3,
    /// Reads cached, writes go past the caches and drop the line everywhere.
    WriteProtected = 4,
}

impl CacheMode {
    /// How many there are.
    pub const COUNT: usize = 5;
    /// Every mode, by number.
    pub const ALL: [CacheMode; CacheMode::COUNT] = [
        CacheMode::WriteBack,
        CacheMode::WriteThrough,
        CacheMode::Uncached,
        CacheMode::WriteCombining,
        CacheMode::WriteProtected,
    ];
}

/// What a translation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Accesses allowed. `READ` is implied.
    pub protection: Protection,
    /// Reachable from user mode. Means nothing in EPT.
    pub user: bool,
    /// Survives address-space switches. Means nothing in EPT.
    pub global: bool,
    /// Memory type.
    pub cache: CacheMode,
    /// Three bits for the owner of the table (bits 0..=2). Hardware ignores them.
    pub software: u8,
}
