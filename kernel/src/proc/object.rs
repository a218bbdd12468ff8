//! The kernel objects that handles name.

use super::{GuestVmspace, Process, Thread};
use crate::ipc::{ClientEnd, Interrupt, Reply, ServerEnd};
use crate::vm::MemoryObject;
use alloc::sync::Arc;
use dragonet_abi::{Errno, ObjectKind};

/// A range of I/O ports that a driver may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub base: u16,
    /// Count, above 0.
    pub length: u16,
}

/// A counted reference to a kernel object.
#[derive(Clone)]
pub enum Object {
    /// A process.
    Process(Arc<Process>),
    /// A thread.
    Thread(Arc<Thread>),
    /// A vmspace that its holder manages or runs in.
    Vmspace(Arc<GuestVmspace>),
    /// Memory.
    Memory(Arc<MemoryObject>),
    /// Receiving end of a channel.
    ChannelServer(Arc<ServerEnd>),
    /// Calling end of a channel.
    ChannelClient(Arc<ClientEnd>),
    /// A received call.
    Reply(Arc<Reply>),
    /// An interrupt line.
    Interrupt(Arc<Interrupt>),
    /// I/O ports.
    Ports(PortRange),
    /// The system.
    System,
}

macro_rules! as_kind {
    ($($(#[$doc:meta])* $function:ident: $variant:ident -> $type:ty;)*) => {
        impl Object {
            $($(#[$doc])*
            pub fn $function(self) -> Result<$type, Errno> {
                match self { Object::$variant(inner) => Ok(inner), _ => Err(Errno::EBADF) }
            })*
        }
    };
}

as_kind! {
    /// The process, or EBADF.
    process: Process -> Arc<Process>;
    /// The thread, or EBADF.
    thread: Thread -> Arc<Thread>;
    /// The vmspace, or EBADF.
    vmspace: Vmspace -> Arc<GuestVmspace>;
    /// The memory object, or EBADF.
    memory: Memory -> Arc<MemoryObject>;
    /// The server end, or EBADF.
    server: ChannelServer -> Arc<ServerEnd>;
    /// The client end, or EBADF.
    client: ChannelClient -> Arc<ClientEnd>;
    /// The received call, or EBADF.
    reply: Reply -> Arc<Reply>;
    /// The interrupt line, or EBADF.
    interrupt: Interrupt -> Arc<Interrupt>;
    /// The ports, or EBADF.
    ports: Ports -> PortRange;
}

impl Object {
    /// The kind, as programs see it.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Process(_) => ObjectKind::Process,
            Object::Thread(_) => ObjectKind::Thread,
            Object::Vmspace(_) => ObjectKind::Vmspace,
            Object::Memory(_) => ObjectKind::Memory,
            Object::ChannelServer(_) => ObjectKind::ChannelServer,
            Object::ChannelClient(_) => ObjectKind::ChannelClient,
            Object::Reply(_) => ObjectKind::Reply,
            Object::Interrupt(_) => ObjectKind::Interrupt,
            Object::Ports(_) => ObjectKind::Ports,
            Object::System => ObjectKind::System,
        }
    }

    /// Id (process, thread) and size (memory: bytes; ports: count), 0 where there is none.
    pub fn id_and_size(&self) -> (u64, u64) {
        match self {
            Object::Process(process) => (process.id(), 0),
            Object::Thread(thread) => (thread.id(), 0),
            Object::Memory(memory) => (memory.id(), memory.size()),
            Object::Ports(ports) => (0, u64::from(ports.length)),
            _ => (0, 0),
        }
    }
}
