//! The system-call interface of the microkernel: every number, structure, flag and error, once.
//!
//! Kernel, runtime, programs and vkernel all compile against this crate and nothing else crosses the border.
//!
//! Calling convention: `syscall` with the number in `rax` and up to six arguments in `rdi rsi rdx r10 r8 r9`. The
//! result comes back in `rax`: zero or a positive value, or a negated [`Errno`]. `rcx` and `r11` are lost, every
//! other register is preserved except where a call (the channel family) says that it returns words in registers.
//!
//! All structures are `repr(C)`, have no padding and no invalid bit pattern: they can be copied across the border
//! byte by byte. Reserved fields must be zero.
#![no_std]
#![forbid(unsafe_code)]

pub mod channel;
pub mod counters;
pub mod device;
pub mod errno;
pub mod handle;
pub mod layout;
pub mod memory;
pub mod number;
pub mod process;
pub mod startup;
pub mod system;
pub mod time;
pub mod virtual_interrupt;
pub mod vmm;
pub mod vmspace;

pub use errno::Errno;
pub use handle::{Handle, ObjectKind, Rights};
pub use number::SyscallNumber;
