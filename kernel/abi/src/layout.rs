//! The shape of a process's address space and the limits that calls check.

/// Bytes of a page, the unit of every mapping.
pub const PAGE_SIZE: u64 = 4096;
/// Lowest address that can be mapped: the page at 0 is never there.
pub const USER_START: u64 = 0x1_0000;
/// First address above everything that can be mapped: one page below the canonical border, so that the return
/// address of a `syscall` in the last page is canonical.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Where programs of the microkernel are linked.
pub const PROGRAM_START: u64 = 0x20_0000;
/// Placement without an address starts here and goes up ...
pub const PLACEMENT_START: u64 = 0x1_0000_0000;
/// ... to here: 64 GiB, the end of guest-physical addresses on the oldest CPU with EPT, so that whatever a program
/// maps without asking for an address stays usable by a guest thread.
pub const PLACEMENT_END: u64 = 0x10_0000_0000;
/// First address above the first thread's stack.
pub const STACK_TOP: u64 = 0xf_ffff_0000;
/// Bytes at the lower end of a `STACK` mapping that are never part of the stack.
pub const STACK_GUARD: u64 = PAGE_SIZE;
/// Bytes at the upper end of a `STACK` mapping that can be accessed from the start; a stack grows to multiples of this.
pub const STACK_STEP: u64 = 64 * 1024;
/// Most CPUs that the kernel uses.
pub const MAX_CPUS: usize = 64;
/// Handles of one process at most.
pub const MAX_HANDLES: usize = 4096;
/// Threads of one process at most.
pub const MAX_THREADS: usize = 1024;
/// Bytes of a process or thread name at most.
pub const MAX_NAME: usize = 32;
/// Bytes of one memory object at most (virtual size; pages come when touched): half of a program's addresses.
pub const MAX_OBJECT_SIZE: u64 = 1 << 46;
