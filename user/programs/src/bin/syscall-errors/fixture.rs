//! Objects and addresses that the cases use.

use dragonet_abi::layout::{PAGE_SIZE, PLACEMENT_END, STACK_GUARD, STACK_STEP};
use dragonet_abi::memory::{MapFlags, MapRequest, Protection};
use dragonet_abi::process::LimitKind;
use dragonet_abi::virtual_interrupt::InterruptFrame;
use dragonet_abi::vmspace::RunState;
use dragonet_abi::{Errno, Handle, Rights};
use dragonet_rt::memory::Mapping;
use dragonet_rt::process::{Child, Command};
use dragonet_rt::{OwnedHandle, syscall, system, thread};

/// Everything stays open and mapped until the end of the test.
pub struct Fixture {
    pub system: Handle,
    /// The system, with no right but to duplicate.
    pub weak_system: OwnedHandle,
    /// A process that has ended, with status 0.
    pub ended: Child,
    /// A process that was made and never started.
    pub unstarted: OwnedHandle,
    pub weak_process: OwnedHandle,
    pub weak_thread: OwnedHandle,
    /// An empty vmspace.
    pub vmspace: OwnedHandle,
    pub weak_vmspace: OwnedHandle,
    /// A vmspace that was destroyed by another handle.
    pub destroyed_vmspace: OwnedHandle,
    /// This program's own vmspace, which has something to read and write.
    pub own_vmspace: OwnedHandle,
    /// The same by another handle.
    pub own_vmspace_too: OwnedHandle,
    /// The same with only one of the rights that the source of a fork needs.
    pub readable_vmspace: OwnedHandle,
    pub managed_vmspace: OwnedHandle,
    /// Empty vmspaces of processes that may have few pages, and few bytes of addresses.
    pub few_pages: OwnedHandle,
    pub few_addresses: OwnedHandle,
    /// Two pages.
    pub object: OwnedHandle,
    pub weak_object: OwnedHandle,
    pub read_only_object: OwnedHandle,
    pub server: OwnedHandle,
    pub weak_server: OwnedHandle,
    pub client: OwnedHandle,
    pub weak_client: OwnedHandle,
    /// A handle that was closed.
    pub closed: Handle,
    /// Four pages: the first is good, the second read-only, the third inaccessible, the fourth good.
    memory: Mapping,
    /// The object.
    shared: Mapping,
    /// A stack that has not grown.
    stack: Mapping,
    /// Address of a guard.
    guard: u64,
    /// Address of a good page that is followed by one where nothing is mapped.
    last: u64,
}

/// This program's own limits, which it cannot raise.
pub const LIMIT: u64 = 1 << 44;

impl Fixture {
    pub fn new() -> Result<Self, Errno> {
        let system = system::handle()?;
        let none = Rights::empty();
        let process = syscall::process_create("never-started")?;
        let thread = thread::spawn(|| ())?;
        let thread_handle =
            syscall::handle_duplicate(thread.handle(), Rights::all() & rights(thread.handle())?)?;
        let _ = thread.join();
        let vmspace = syscall::vmspace_create(system)?;
        let destroyed = syscall::vmspace_create(system)?;
        let destroyed_vmspace = destroyed.duplicate(rights(destroyed.get())?)?;
        syscall::vmspace_destroy(destroyed).map_err(|(_, errno)| errno)?;
        let object = syscall::object_create(2 * PAGE_SIZE)?;
        let (server, client) = syscall::channel_create()?;
        let closed = syscall::object_create(PAGE_SIZE)?;
        let closed_number = closed.get();
        drop(closed);
        let ended = Command::new("echo")
            .argument("-n")
            .spawn()
            .map_err(|_| Errno::ENOENT)?;
        ended.wait()?;
        for kind in [LimitKind::Memory, LimitKind::AddressSpace] {
            syscall::process_limit(Handle::SELF_PROCESS, kind, LIMIT)?;
        }
        let own_vmspace = syscall::process_vmspace(Handle::SELF_PROCESS)?;
        Ok(Fixture {
            system,
            weak_system: syscall::handle_duplicate(system, none)?,
            ended,
            weak_process: process.duplicate(none)?,
            unstarted: process,
            weak_thread: thread_handle.duplicate(none)?,
            weak_vmspace: vmspace.duplicate(none)?,
            vmspace,
            destroyed_vmspace,
            own_vmspace_too: syscall::process_vmspace(Handle::SELF_PROCESS)?,
            readable_vmspace: own_vmspace.duplicate(Rights::READ)?,
            managed_vmspace: own_vmspace.duplicate(Rights::MANAGE)?,
            own_vmspace,
            few_pages: limited(LimitKind::Memory, 2)?,
            few_addresses: limited(LimitKind::AddressSpace, 2 * PAGE_SIZE)?,
            shared: Mapping::of_object(
                object.get(),
                0,
                2 * PAGE_SIZE,
                Protection::READ | Protection::WRITE,
            )?,
            weak_object: object.duplicate(none)?,
            read_only_object: object.duplicate(Rights::READ)?,
            object,
            weak_server: server.duplicate(none)?,
            server,
            weak_client: client.duplicate(none)?,
            client,
            closed: closed_number,
            memory: protected_pages()?,
            stack: Mapping::stack(4 * STACK_STEP)?,
            guard: guard()?,
            last: page_before_hole()?,
        })
    }

    /// Address of a page that may be read and written.
    pub const fn good(&self) -> u64 {
        self.memory.address()
    }

    /// Address of two pages that are shared.
    pub const fn shared(&self) -> u64 {
        self.shared.address()
    }

    /// Address of a page that may only be read.
    pub const fn read_only(&self) -> u64 {
        self.memory.address() + PAGE_SIZE
    }

    /// Address of a mapped page that allows nothing.
    pub const fn inaccessible(&self) -> u64 {
        self.memory.address() + 2 * PAGE_SIZE
    }

    /// Address of a page that is reserved by a guard.
    pub const fn guard(&self) -> u64 {
        self.guard
    }

    /// Address of the guard below a stack.
    pub const fn stack_guard(&self) -> u64 {
        self.stack.address()
    }

    /// Address of a page to which a stack has not grown.
    pub const fn ungrown(&self) -> u64 {
        self.stack.address() + STACK_GUARD
    }

    /// An address so close to the end of a mapping that a structure of `size` bytes does not fit.
    pub const fn straddling(&self, size: u64) -> u64 {
        self.last + PAGE_SIZE - size.next_multiple_of(8) / 2 / 8 * 8
    }

    /// Address of a page where nothing is mapped.
    pub const fn unmapped(&self) -> u64 {
        self.last + PAGE_SIZE
    }

    /// Writes a [`RunState`] into the good page and returns its address.
    pub fn run_state(&self, state: &RunState, offset: u64) -> u64 {
        self.put(zerocopy::IntoBytes::as_bytes(state), offset)
    }

    /// Writes an [`InterruptFrame`] into the good page and returns its address.
    pub fn interrupt_frame(&self, frame: &InterruptFrame, offset: u64) -> u64 {
        self.put(zerocopy::IntoBytes::as_bytes(frame), offset)
    }

    /// Writes bytes into the good page and returns their address.
    pub fn put(&self, bytes: &[u8], offset: u64) -> u64 {
        // Only a case that does not fit into the page would fail, and then by its wrong result.
        let _ = self.memory.write(offset, bytes);
        self.memory.address() + offset
    }
}

fn rights(handle: Handle) -> Result<Rights, Errno> {
    syscall::handle_info(handle).map(|info| Rights::from_bits_truncate(info.rights))
}

/// The vmspace of a process with a limit.
fn limited(kind: LimitKind, limit: u64) -> Result<OwnedHandle, Errno> {
    let process = syscall::process_create("limited")?;
    syscall::process_limit(process.get(), kind, limit)?;
    syscall::process_vmspace(process.get())
}

#[allow(unsafe_code)]
fn protected_pages() -> Result<Mapping, Errno> {
    let memory = Mapping::anonymous(4 * PAGE_SIZE)?;
    // SAFETY: nothing is borrowed from the mapping, and the program only writes to its first page.
    unsafe {
        memory.protect(PAGE_SIZE, PAGE_SIZE, Protection::READ)?;
        memory.protect(2 * PAGE_SIZE, PAGE_SIZE, Protection::empty())?;
    }
    Ok(memory)
}

fn map_fixed(address: u64, protection: Protection, flags: MapFlags) -> Result<u64, Errno> {
    let flags = flags | MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::EXCLUSIVE;
    let request = MapRequest {
        address,
        length: PAGE_SIZE,
        protection: protection.bits(),
        flags: flags.bits(),
        object: Handle::NONE,
        reserved: 0,
        offset: 0,
    };
    map(&request)
}

/// A guard where the kernel places nothing by itself.
fn guard() -> Result<u64, Errno> {
    map_fixed(3 * PLACEMENT_END, Protection::empty(), MapFlags::GUARD)
}

/// Maps a page behind which nothing will be: the kernel places nothing so high by itself.
fn page_before_hole() -> Result<u64, Errno> {
    let protection = Protection::READ | Protection::WRITE;
    map_fixed(2 * PLACEMENT_END, protection, MapFlags::empty())
}

#[allow(unsafe_code)]
fn map(request: &MapRequest) -> Result<u64, Errno> {
    // SAFETY: `EXCLUSIVE` replaces nothing.
    unsafe { syscall::mmap(request) }
}
