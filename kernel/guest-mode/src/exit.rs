//! Why a guest stopped, in terms of no vendor.

/// An access for which the nested table has no translation, or one that does not allow it. `A` says what the access wanted to do, to
/// whoever provides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault<A> {
    /// Guest-physical address, which is an address of the process.
    pub address: u64,
    /// What it wanted to do.
    pub access: A,
    /// The guest's own linear address, if the access had one.
    pub linear: Option<u64>,
}

/// Why a guest stopped and what its thread has to do about it. What the hardware layer can answer by itself (CPUID, NMI) is
/// not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit<A> {
    /// The guest called its host by an instruction of so many bytes; the instruction pointer is at it.
    HostCall(u64),
    /// An exception in the guest: vector, error code, address of a page fault.
    Exception {
        /// 0 to 31.
        vector: u8,
        /// 0 where the vector has none.
        error_code: u64,
        /// Page faults: the linear address.
        address: u64,
    },
    /// The process's address space must provide a translation.
    Nested(NestedFault<A>),
    /// Nothing: the host has something to do, or the exit was served.
    Resume,
    /// The guest cannot go on; what happened is in the log.
    Dead,
}
