//! `vmspace_ctl(RUN)`: the calling thread becomes a user of the vkernel until something happens. `vmspace_entries`: what is
//! mapped in a vmspace.

use super::memory::Vpte;
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The command of `vmspace_ctl` that runs a user.
pub const VMSPACE_CTL_RUN: u64 = 1;

/// All general registers of a thread in user mode. Selectors are the kernel's own and are not the user's to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "fields are registers")]
pub struct RegisterFrame {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    /// Canonical user address.
    pub rip: u64,
    /// Status and direction flags, TF, AC and ID are the user's; IF is always set, the rest always clear.
    pub rflags: u64,
    pub rsp: u64,
    /// Canonical user address.
    pub fs_base: u64,
    /// Canonical user address.
    pub gs_base: u64,
}

impl RegisterFrame {
    /// Bits of `rflags` that a user may choose: CF PF AF ZF SF TF DF OF RF AC ID.
    pub const USER_FLAGS: u64 = 0x25_0dd5;
    /// Bits of `rflags` that are always set in user mode: reserved bit 1 and IF.
    pub const FORCED_FLAGS: u64 = 0x202;
}

/// In and out of `vmspace_ctl(RUN)`. The address must be 8-byte aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RunState {
    /// In: the registers to run with. Out: the registers at the event.
    pub registers: RegisterFrame,
    /// In: nanoseconds from now until RUN returns with [`RUN_TIMEOUT`], or [`super::time::FOREVER`]. Out: 0 once the user
    /// has run, whatever ended it. So it must be set before every RUN: with 0 the next one returns at once with [`RUN_TIMEOUT`].
    pub timeout: u64,
    /// Out: why RUN returned, a `RUN_*` constant.
    pub reason: u32,
    /// Out: for [`RUN_EXCEPTION`], the vector (0..=31).
    pub vector: u32,
    /// Out: the exception's error code, 0 where it has none. For a page fault: P 1, W 2, U 4, RSV 8, I 0x10.
    pub error_code: u64,
    /// Out: for a page fault the address, else 0.
    pub fault_address: u64,
}

/// The user executed `syscall`; `rip` is behind it, `rcx` = `rip` and `r11` = `rflags` as the instruction leaves them.
pub const RUN_SYSCALL: u32 = 1;
/// The user raised an exception that the host could not resolve by itself.
pub const RUN_EXCEPTION: u32 = 2;
/// A virtual interrupt in the caller's enabled mask is pending.
pub const RUN_VIRTUAL_INTERRUPT: u32 = 3;
/// The time-out passed.
pub const RUN_TIMEOUT: u32 = 4;
/// The vmspace was destroyed. Every RUN in it ends so, whatever else has happened; the registers are as the user left them.
pub const RUN_DESTROYED: u32 = 5;

/// One row of `vmspace_entries`: a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryInfo {
    /// First address.
    pub start: u64,
    /// First address above.
    pub end: u64,
    /// Accesses allowed: [`super::memory::Protection`] bits.
    pub protection: u32,
    /// Accesses that can be allowed: [`super::memory::Protection`] bits.
    pub maximum: u32,
    /// An [`EntryKind`].
    pub kind: u32,
    /// [`EntryFlags`].
    pub flags: u32,
    /// Id of the memory object.
    pub object: u64,
    /// Byte in the object that `start` shows; with a virtual page table, the address at which `start` is looked up in it.
    pub offset: u64,
    /// Root entry of the virtual page table, else 0.
    pub root: Vpte,
    /// Pages of memory that the object owns, wherever mapped; 0 for boot modules and devices.
    pub object_pages: u64,
    /// Pages of memory that the private copies own, those of entries which were split off included.
    pub copied_pages: u64,
    /// Pages of this mapping that have a translation now, so that accesses to them do not fault.
    pub mapped_pages: u64,
}

/// What `vmspace_list` tells of a vmspace that a process has created. What changes meanwhile is counted as it was or as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VmspaceInfo {
    /// Its number, by whatever handle it was found; no other vmspace ever has the same.
    pub id: u64,
    /// Threads that run in it now.
    pub running: u64,
    /// Mappings.
    pub mappings: u64,
    /// Bytes that are mapped.
    pub mapped_bytes: u64,
    /// Pages that have a translation now, so that accesses to them do not fault.
    pub resident_pages: u64,
    /// Pages that its page table takes.
    pub table_pages: u64,
}

/// How a mapping is backed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EntryKind {
    /// Writes go to the object.
    Shared = 1,
    /// Writes go to private copies, or the object is this vmspace's own.
    Private = 2,
    /// Translated by a virtual page table in the object.
    Vpagetable = 3,
    /// Reserved for the stack right above.
    Ungrown = 4,
    /// Reserved so that nothing is there.
    Guard = 5,
}

impl EntryKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Shared),
            2 => Some(Self::Private),
            3 => Some(Self::Vpagetable),
            4 => Some(Self::Ungrown),
            5 => Some(Self::Guard),
            _ => None,
        }
    }
}

bitflags! {
    /// More about a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct EntryFlags: u32 {
        /// The object is private memory, which no handle names.
        const ANONYMOUS = 1;
        /// What is written is copied from the object first.
        const COPY_ON_WRITE = 2;
        /// The object is a boot module.
        const MODULE = 4;
        /// The object is device memory.
        const DEVICE = 8;
        /// It grows down into an [`EntryKind::Ungrown`] entry right below.
        const STACK = 16;
    }
}
