//! The machine: everything that knows what kind of CPU this is.
//!
//! One architecture is there, x86-64; its modules are re-exported here, and the rest of the kernel names them as
//! `arch::irq`, `arch::cpu` and so on. Only this directory has inline assembly, model-specific registers, ports and
//! device registers.
//!
//! `arch` calls upwards in few places only: `crate::trap` (system calls, exceptions of programs, timer and device
//! interrupts), `crate::pmap::on_shootdown` and, once at boot, `crate::kernel_main`.

mod x86_64;

pub use self::x86_64::*;
