//! Why a guest stopped: the interface between `vmm` and the hardware below it.

use crate::vm::Access;

/// An access for which the nested table has no translation, or one that does not allow it.
pub type NestedFault = guest_mode::NestedFault<Access>;

/// Why a guest stopped and what its thread has to do about it.
pub type Exit = guest_mode::Exit<Access>;
