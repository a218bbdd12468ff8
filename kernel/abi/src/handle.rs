//! Handles: a process's names for kernel objects, each with the rights that it carries.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process-local name of a kernel object: a slot index in the low 20 bits (from 1; 0 is never valid) and the
/// slot's generation above, so that a handle that was closed does not name its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// Names nothing. Calls that accept "no object" take this.
    pub const NONE: Handle = Handle(0);
    /// The calling process itself, with all rights, wherever a process handle is expected. It cannot be closed or sent in a message;
    /// `handle_duplicate` makes a handle that can, with at most the rights that a creator has.
    pub const SELF_PROCESS: Handle = Handle(0xffff_ffff);
    /// The calling thread itself, in the same way.
    pub const SELF_THREAD: Handle = Handle(0xffff_fffe);
    /// Bits of the slot index.
    pub const INDEX_BITS: u32 = 20;

    /// True unless this is [`Handle::NONE`].
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// What a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ObjectKind {
    /// A process.
    Process = 1,
    /// A thread.
    Thread = 2,
    /// A vmspace other than by way of its process.
    Vmspace = 3,
    /// A memory object.
    Memory = 4,
    /// The receiving end of a channel.
    ChannelServer = 5,
    /// The calling end of a channel.
    ChannelClient = 6,
    /// An interrupt line.
    Interrupt = 7,
    /// A range of I/O ports.
    Ports = 8,
    /// The system itself: inspection, power, devices, modules, the right to make vkernels.
    System = 9,
    /// A call that was received and waits for its reply; closing it fails the caller with `EPIPE`.
    Reply = 10,
}

bitflags! {
    /// What the holder of a handle may do with the object. Bits that mean nothing for a kind are ignored there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u32 {
        /// Read the object's contents (memory, vmspace, ports).
        const READ = 1 << 0;
        /// Write the object's contents.
        const WRITE = 1 << 1;
        /// Map memory executable.
        const EXECUTE = 1 << 2;
        /// Duplicate the handle.
        const DUPLICATE = 1 << 3;
        /// Give the handle to another process, by message or directly.
        const TRANSFER = 1 << 4;
        /// Wait for the process or thread to end.
        const WAIT = 1 << 5;
        /// Kill the process or thread.
        const KILL = 1 << 6;
        /// Change the object: threads and handles of a process, entries of a vmspace, affinity of a thread.
        const MANAGE = 1 << 7;
        /// Call through a channel.
        const CALL = 1 << 8;
        /// Receive from a channel, reply to it.
        const RECEIVE = 1 << 9;
        /// Post virtual interrupts to a thread.
        const POST = 1 << 10;
        /// Run in a vmspace.
        const RUN = 1 << 11;
        /// Bind and acknowledge an interrupt line.
        const INTERRUPT = 1 << 12;
        /// System: list processes, read counters, read the log.
        const INSPECT = 1 << 16;
        /// System: turn the machine off, reset it.
        const POWER = 1 << 17;
        /// System: make handles for interrupts, ports and device memory.
        const DEVICES = 1 << 18;
        /// System: open boot modules.
        const MODULES = 1 << 19;
        /// System: create vmspaces, the right to be a vkernel.
        const VKERNEL = 1 << 20;
        /// System: open any process by its id.
        const OPEN_PROCESS = 1 << 21;
    }
}

/// Answer of `handle_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HandleInfo {
    /// An [`ObjectKind`].
    pub kind: u32,
    /// [`Rights`] of this handle.
    pub rights: u32,
    /// Process id, thread id, or 0.
    pub id: u64,
    /// Bytes of a memory object, count of ports, or 0.
    pub size: u64,
}
