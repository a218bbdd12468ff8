//! System calls: one file per family. Each call decodes its arguments, checks rights, and calls down.
//!
//! Every function takes the calling thread and typed or raw arguments and returns `Result<u64, Errno>`; nothing here can panic on user
//! input. Only the trap entry calls [`dispatch`]. The table of numbers, arguments and rights is [`dragonet_abi::SyscallNumber`].
#![forbid(unsafe_code)]

mod channel;
mod clock;
mod device;
mod handle;
mod memory;
mod process;
mod system;
mod thread;
mod user_slice;
mod virtual_interrupt;
mod vmm;
mod vmspace;

use crate::arch::trap::TrapFrame;
use crate::proc::{Entry, Object, Process, Thread};
use crate::vmm::Guest;
use alloc::boxed::Box;
use alloc::sync::Arc;
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Handle, Rights, SyscallNumber};

/// What becomes of the caller's registers.
pub enum Outcome {
    /// `rax` takes this.
    Value(u64),
    /// The frame was replaced as a whole.
    FrameReplaced,
    /// The caller goes on in guest mode.
    EnterGuest(Box<Guest>),
    /// The caller, which is in guest mode, goes on as an ordinary thread.
    LeaveGuest,
}

/// A call in progress.
pub struct Call<'call> {
    /// The caller.
    pub thread: &'call Thread,
    /// Its registers.
    pub frame: &'call mut TrapFrame,
    /// If it is in guest mode, its guest.
    pub guest: Option<&'call mut Guest>,
}

impl Call<'_> {
    fn process(&self) -> &Arc<Process> {
        self.thread.process()
    }

    /// Argument 0 to 5.
    fn argument(&self, index: usize) -> u64 {
        let frame = &self.frame;
        [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9]
            .get(index)
            .copied()
            .unwrap_or(0)
    }

    /// An argument that is a handle.
    fn handle(&self, index: usize) -> Result<Handle, Errno> {
        u32::try_from(self.argument(index))
            .map(Handle)
            .map_err(|_| Errno::EBADF)
    }

    /// What a handle argument names, with its rights. The caller itself has those of whoever creates a process or thread.
    fn entry(&self, index: usize) -> Result<Entry, Errno> {
        match self.handle(index)? {
            Handle::SELF_PROCESS => Ok(Entry {
                object: Object::Process(self.process().clone()),
                rights: Process::RIGHTS,
            }),
            Handle::SELF_THREAD => Ok(Entry {
                object: Object::Thread(self.thread.arc()),
                rights: Thread::RIGHTS,
            }),
            handle => self.process().handles().get(handle),
        }
    }

    /// The object of one kind that a handle argument names, if the handle has the rights. The kind comes first: a handle of
    /// another kind is EBADF whatever its rights are.
    fn object<T>(
        &self,
        index: usize,
        kind: impl Fn(Object) -> Result<T, Errno>,
        rights: Rights,
    ) -> Result<T, Errno> {
        let entry = self.process().handles().get(self.handle(index)?)?;
        let object = kind(entry.object)?;
        if entry.rights.contains(rights) {
            Ok(object)
        } else {
            Err(Errno::EPERM)
        }
    }

    /// The process that a handle argument names; the caller's own for [`Handle::SELF_PROCESS`].
    fn process_object(&self, index: usize, rights: Rights) -> Result<Arc<Process>, Errno> {
        if self.handle(index)? == Handle::SELF_PROCESS {
            return Ok(self.process().clone());
        }
        self.object(index, Object::process, rights)
    }

    /// The thread that a handle argument names; the caller for [`Handle::SELF_THREAD`].
    fn thread_object(&self, index: usize, rights: Rights) -> Result<Arc<Thread>, Errno> {
        if self.handle(index)? == Handle::SELF_THREAD {
            return Ok(self.thread.arc());
        }
        self.object(index, Object::thread, rights)
    }

    /// Checks that a handle argument names the system with these rights.
    fn system(&self, index: usize, rights: Rights) -> Result<(), Errno> {
        let entry = self.process().handles().get(self.handle(index)?)?;
        match entry.object {
            Object::System if entry.rights.contains(rights) => Ok(()),
            Object::System => Err(Errno::EPERM),
            _ => Err(Errno::EBADF),
        }
    }
}

/// The monotonic time at which a time-out from now passes.
fn deadline_after(timeout: u64) -> u64 {
    if timeout == FOREVER {
        FOREVER
    } else {
        crate::arch::clock::now().saturating_add(timeout)
    }
}

/// Serves the system call in `frame`, of a thread in guest mode with its `guest`.
///
/// # Errors
/// What the call reports to its caller; ENOSYS for a number without a call.
pub fn dispatch(thread: &Thread, frame: &mut TrapFrame, guest: Option<&mut Guest>) -> Result<Outcome, Errno> {
    use SyscallNumber as N;
    let number = N::from_number(frame.rax).ok_or(Errno::ENOSYS)?;
    let mut call = Call { thread, frame, guest };
    let call = &mut call;
    let value = match number {
        N::Null => 0,
        N::ProcessCreate => process::create(call)?,
        N::ProcessStart => process::start(call)?,
        N::ProcessExit => process::exit(call),
        N::ProcessKill => process::kill(call)?,
        N::ProcessWait => process::wait(call)?,
        N::ProcessVmspace => process::vmspace(call)?,
        N::ProcessGive => process::give(call)?,
        N::ProcessList => process::list(call)?,
        N::ProcessOpen => process::open(call)?,
        N::ProcessLimit => process::limit(call)?,
        N::ThreadCreate => thread::create(call)?,
        N::ThreadExit => thread::exit(call),
        N::ThreadControl => thread::control(call)?,
        N::ThreadYield => thread::yield_now(),
        N::ThreadWait => thread::wait(call)?,
        N::HandleClose => handle::close(call)?,
        N::HandleDuplicate => handle::duplicate(call)?,
        N::HandleInfo => handle::info(call)?,
        N::Mmap => memory::mmap(call)?,
        N::Munmap => memory::munmap(call)?,
        N::Mprotect => memory::mprotect(call)?,
        N::Madvise => memory::madvise(call)?,
        N::Mcontrol => memory::mcontrol(call)?,
        N::Minherit => memory::minherit(call)?,
        N::ObjectCreate => memory::object_create(call)?,
        N::VmspaceCreate => vmspace::create(call)?,
        N::VmspaceDestroy => vmspace::destroy(call)?,
        N::VmspaceCtl => return vmspace::ctl(call),
        N::VmspaceMmap => vmspace::mmap(call)?,
        N::VmspaceMunmap => vmspace::munmap(call)?,
        N::VmspaceMprotect => vmspace::mprotect(call)?,
        N::VmspaceMcontrol => vmspace::mcontrol(call)?,
        N::VmspacePread => vmspace::pread(call)?,
        N::VmspacePwrite => vmspace::pwrite(call)?,
        N::VmspaceEntries => vmspace::entries(call)?,
        N::VmspaceFork => vmspace::fork(call)?,
        N::VmspaceMinherit => vmspace::minherit(call)?,
        N::VmspaceList => vmspace::list(call)?,
        N::UmtxSleep => clock::umtx_sleep(call)?,
        N::UmtxWakeup => clock::umtx_wakeup(call)?,
        N::ClockGet => clock::get(call)?,
        N::SleepUntil => clock::sleep_until(call)?,
        N::VirqPost => virtual_interrupt::post(call)?,
        N::VirqTake => virtual_interrupt::take(call),
        N::VirqWait => virtual_interrupt::wait(call)?,
        N::VirqControl => virtual_interrupt::control(call)?,
        N::VirqReturn => return virtual_interrupt::return_from(call),
        N::TimerSet => virtual_interrupt::timer_set(call)?,
        N::ChannelCreate => channel::create(call)?,
        N::ChannelCall => channel::call(call)?,
        N::ChannelReceive => channel::receive(call)?,
        N::ChannelReply => channel::reply(call)?,
        N::DeviceOpen => device::open(call)?,
        N::InterruptBind => device::interrupt_bind(call)?,
        N::InterruptAcknowledge => device::interrupt_acknowledge(call)?,
        N::PortRead => device::port_read(call)?,
        N::PortWrite => device::port_write(call)?,
        N::CountersRead => system::counters_read(call)?,
        N::LogWrite => system::log_write(call)?,
        N::LogRead => system::log_read(call)?,
        N::Power => system::power(call)?,
        N::SystemInfo => system::info(call)?,
        N::BootModule => system::boot_module(call)?,
        N::VmmGuestCtl => return vmm::guest_ctl(call),
        N::VmmGuestSyncAddr => vmm::sync_addr(call)?,
        N::VmmInfo => vmm::info(call)?,
    };
    Ok(Outcome::Value(value))
}
