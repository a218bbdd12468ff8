//! Mappings: protection, flags, advice, and the entry format of virtual page tables.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// What accesses a mapping allows. Write without read is refused; write with execute is refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Protection: u32 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

bitflags! {
    /// How `mmap` maps. Exactly one of `SHARED` and `PRIVATE`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MapFlags: u32 {
        /// Writes go to the object.
        const SHARED = 0x0001;
        /// Writes go to a private copy.
        const PRIVATE = 0x0002;
        /// At exactly this address, replacing what is there.
        const FIXED = 0x0010;
        /// With `ANONYMOUS | PRIVATE` and protection `READ | WRITE`: a stack. The whole length is reserved; of it the upper
        /// [`super::layout::STACK_STEP`] bytes can be accessed at once. An access below grows that part downwards, to the next
        /// multiple of `STACK_STEP`, but never into the lowest [`super::layout::STACK_GUARD`] bytes.
        const STACK = 0x0400;
        /// New zeroed memory; no object is given.
        const ANONYMOUS = 0x1000;
        /// Translations come from a page table stored in the object (set by `MADV_SETMAP`). Needs an object with
        /// read and write rights, and read and write protection.
        const VPAGETABLE = 0x2000;
        /// With `FIXED`: fail with `EEXIST` instead of replacing.
        const EXCLUSIVE = 0x4000;
        /// With `ANONYMOUS | PRIVATE` and no protection: addresses where nothing is and nothing will be placed. They take no memory,
        /// every access faults, and `mprotect` cannot open them; `munmap` and `FIXED` take them away.
        const GUARD = 0x8000;
        /// With `SHARED` and an object: memory of a virtual machine. In guest mode the thread's own page tables say what of it may be executed,
        /// if the handle has the right to execute; in the process itself it is as the protection says.
        const GUEST_MEMORY = 0x1_0000;
    }
}

/// Advice for `madvise` and `mcontrol`. Numbers are DragonFly's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Advice {
    /// Pages will be used soon: bring them in. `ENOMEM` if memory ran out meanwhile.
    WillNeed = 3,
    /// The contents of private pages are dropped: the next read gives zeroes, or what the object has.
    DontNeed = 4,
    /// The contents of private pages may be dropped at any time until they are written again. They are dropped at once.
    Free = 5,
    /// Virtual page table: forget translations of this range, the vkernel changed its table. From a thread in guest mode: forget translations
    /// of these linear addresses of the guest, in either half, under all of its page tables.
    Invalidate = 10,
    /// Virtual page table: the value is the root entry (a [`Vpte`]). `mcontrol` only.
    SetMap = 11,
}

impl Advice {
    /// The advice with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            3 => Some(Advice::WillNeed),
            4 => Some(Advice::DontNeed),
            5 => Some(Advice::Free),
            10 => Some(Advice::Invalidate),
            11 => Some(Advice::SetMap),
            _ => None,
        }
    }
}

/// What a vmspace made by `vmspace_fork` has where this one has a mapping. Numbers are those of the BSDs' `minherit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Inheritance {
    /// The same object, and the same virtual page table. Default for shared mappings, and possible for them alone.
    Share = 0,
    /// The contents as they are at the fork; later stores of one side are not seen by the other. Default for private memory,
    /// and possible for it alone.
    Copy = 1,
    /// Nothing: a hole.
    None = 2,
    /// New zeroed memory. For private memory alone.
    Zero = 3,
}

impl Inheritance {
    /// The inheritance with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Inheritance::Share),
            1 => Some(Inheritance::Copy),
            2 => Some(Inheritance::None),
            3 => Some(Inheritance::Zero),
            _ => None,
        }
    }
}

/// An entry of a virtual page table: the hardware's own format for 4-level tables (Intel SDM volume 3, section
/// 4.5), with page numbers that count pages of the backing object. One table serves the host's software walker and
/// the MMU of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Vpte(pub u64);

impl Vpte {
    /// Valid.
    pub const VALID: u64 = 1 << 0;
    /// Stores are allowed (all levels must agree).
    pub const WRITE: u64 = 1 << 1;
    /// Reachable from user mode (all levels must agree).
    pub const USER: u64 = 1 << 2;
    /// Set by the walker when it uses the entry.
    pub const ACCESSED: u64 = 1 << 5;
    /// Set by the walker when it lets a store through. Clearing it needs `MADV_INVAL`.
    pub const DIRTY: u64 = 1 << 6;
    /// Ends the walk early: 1 GiB at level 3, 2 MiB at level 2; as a root entry, a linear map of the object.
    pub const LARGE: u64 = 1 << 7;
    /// Ignored by the software walker.
    pub const GLOBAL: u64 = 1 << 8;
    /// No instruction fetches (any level suffices).
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Page number field, in place.
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;

    /// Byte offset in the object that the entry names.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 & Self::FRAME
    }

    /// True if every bit of `mask` is set.
    #[must_use]
    pub const fn has(self, mask: u64) -> bool {
        self.0 & mask == mask
    }
}

/// Arguments of `vmspace_mmap`; those of `mmap` travel in registers in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapRequest {
    /// Page-aligned address; 0 for none. Unless `FIXED` a hint: taken if the whole range can be mapped and is free, else the
    /// lowest free place for the length is.
    pub address: u64,
    /// Bytes, above 0; rounded up to pages.
    pub length: u64,
    /// [`Protection`] bits.
    pub protection: u32,
    /// [`MapFlags`] bits.
    pub flags: u32,
    /// The memory object, or none with `ANONYMOUS`.
    pub object: super::Handle,
    /// Must be zero.
    pub reserved: u32,
    /// Page-aligned byte offset in the object.
    pub offset: u64,
}
