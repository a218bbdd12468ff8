//! Guest mode: a thread that runs its program as a virtual machine in its process's own address space.
//!
//! Guest-physical addresses are addresses of the process. The thread's own page table, whose root it names, says what its
//! linear addresses are; a thread that maps everything one to one goes on as if nothing had happened.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Operation of `vmm_guest_ctl`: the calling thread goes on in guest mode, with all registers as they are, but result 0.
pub const VMM_RUN: u64 = 1;
/// Operation of `vmm_guest_ctl`: the calling thread, a guest, goes on as an ordinary thread, with all registers as they are, but
/// result 0. Its instruction and stack pointer then mean addresses of the process.
pub const VMM_LEAVE: u64 = 2;

/// Guest threads of one process at most.
pub const MAX_GUEST_THREADS: usize = 64;
/// Selector in CS while a thread is in guest mode, where `VMCALL` makes a system call; an ordinary thread has another one and uses
/// `syscall`. So code that runs in both can tell by one instruction.
pub const GUEST_CODE_SELECTOR: u16 = 0x40 | 3;
/// Selector in SS while a thread is in guest mode.
pub const GUEST_DATA_SELECTOR: u16 = 0x48 | 3;
/// Guest-physical addresses end here, or earlier on CPUs with fewer address bits, but never below 64 GiB.
pub const GUEST_PHYSICAL_END: u64 = 1 << 46;

/// What `vmm_guest_ctl(VMM_RUN)` is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GuestOptions {
    /// Address of the root of the thread's page table, in the hardware's 4-level format; a multiple of the page size below the end of
    /// guest-physical addresses. It must map the code and stack that the thread uses to themselves. The address is also the name under which
    /// CPUs remember translations, as is that of a user's root: before a root gets other tables, all addresses must be invalidated.
    pub cr3: u64,
    /// [`GUEST_MASTER`] or 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// In `flags`: the first guest thread of the process, which brings its guest memory into being. EBUSY if there is one already; without
/// it, ENOENT if there is none.
pub const GUEST_MASTER: u32 = 1;

/// Values of the registers that describe VMX on one CPU, in the order of `vmx_model::Msr::ALL`; 0 where the CPU does not have one, all 0
/// without VMX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VmxRegisters {
    /// The values.
    pub values: [u64; VMX_REGISTERS],
}

/// Registers that describe VMX.
pub const VMX_REGISTERS: usize = 18;
