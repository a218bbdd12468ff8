//! The microkernel as host.
#![allow(unsafe_code)]

use crate::linux::Errno;
use crate::memory::ram::Ram;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU32;
use dragonet_abi::Handle;
use dragonet_abi::layout::{PAGE_SIZE, USER_END, USER_START};
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::time::{Clock, FOREVER};
use dragonet_abi::vmspace::RunState;
use dragonet_rt::memory::Mapping;
use dragonet_rt::thread::Builder;
use dragonet_rt::{OwnedHandle, archive, console, syscall, system};

/// Bytes of the stack of a virtual CPU.
const STACK_SIZE: u64 = 256 * 1024;
/// Frames that are left to the host ...
const RESERVE: u64 = 512;
/// ... or this part of all, if that is more.
const RESERVE_PART: u64 = 32;

/// The RAM object and where the vkernel sees it.
struct RamObject {
    object: OwnedHandle,
    base: u64,
}

static RAM: spin::Once<RamObject> = spin::Once::new();

/// The ways in which the host can run programs, `MODE_*`.
pub fn modes() -> u64 {
    syscall::system_info().map_or(0, |information| information.vkernel_modes)
}

/// Makes the RAM object and maps it. Pages come when they are touched. Called once.
pub fn map_ram(size: u64) -> Result<Ram, Errno> {
    let object = syscall::object_create(size)?;
    let protection = Protection::READ | Protection::WRITE;
    let mapping = Mapping::of_object(object.get(), 0, size, protection)?;
    let base = mapping.address();
    core::mem::forget(mapping);
    RAM.call_once(|| RamObject { object, base });
    let pointer = NonNull::new(ptr::with_exposed_provenance_mut(base as usize)).ok_or(Errno::ENOMEM)?;
    let frames = u32::try_from(size / PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: the mapping is page-aligned, has that size, is never undone, and nobody else knows its address.
    Ok(unsafe { Ram::new(pointer, frames) })
}

/// Brings in the host's memory behind part of RAM. The host ends a process for whose fault it has no memory, so the last frames
/// of the host are not asked for: a program of ours is ended instead.
pub fn back_ram(offset: u64, length: u64) -> Result<(), Errno> {
    let ram = RAM.get().ok_or(Errno::ENOMEM)?;
    let information = syscall::system_info()?;
    let reserve = (information.frames_total / RESERVE_PART).max(RESERVE);
    if information.frames_free < reserve + length / PAGE_SIZE {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: the advice changes no contents.
    unsafe { syscall::madvise(ram.base + offset, length, Advice::WillNeed)? };
    Ok(())
}

/// The file with this path in the host's root archive.
pub fn root_image(path: &str) -> Option<&'static [u8]> {
    archive::root().ok()?.find(path).map(|file| file.bytes)
}

/// A host address space that translates through a page table in RAM.
pub struct Vmspace {
    handle: Option<OwnedHandle>,
}

impl Vmspace {
    /// A vmspace whose whole user range shows what the table of `root` says.
    pub fn new(root: Vpte) -> Result<Self, Errno> {
        let ram = RAM.get().ok_or(Errno::ENOMEM)?;
        let handle = syscall::vmspace_create(system::handle()?)?;
        let length = USER_END - USER_START;
        // The offset is the address, so that the table is indexed by addresses. Its entries say what may be executed.
        let request = MapRequest {
            address: USER_START,
            length,
            protection: (Protection::READ | Protection::WRITE).bits(),
            flags: (MapFlags::VPAGETABLE | MapFlags::SHARED | MapFlags::FIXED).bits(),
            object: ram.object.get(),
            reserved: 0,
            offset: USER_START,
        };
        syscall::vmspace_mmap(handle.get(), &request)?;
        syscall::vmspace_mcontrol(handle.get(), USER_START, length, Advice::SetMap, root)?;
        Ok(Vmspace { handle: Some(handle) })
    }

    /// Runs the calling thread in the vmspace until something happens.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        Ok(syscall::vmspace_ctl_run(self.get(), state)?)
    }

    /// Makes every CPU forget translations of a range. When this returns, none can use an old one.
    pub fn invalidate(&self, range: Range<u64>) {
        let start = range.start.max(USER_START);
        let length = range.end.min(USER_END).saturating_sub(start);
        let done = syscall::vmspace_mcontrol(self.get(), start, length, Advice::Invalidate, Vpte(0));
        // The range is aligned and inside the mapping, so the host has nothing to refuse. If it did, frames would be
        // reused while programs can still reach them: better to stop.
        done.expect("the host invalidates a valid range");
    }

    fn get(&self) -> Handle {
        self.handle.as_ref().map_or(Handle::NONE, OwnedHandle::get)
    }
}

impl Drop for Vmspace {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // No thread runs in it: whoever does so holds the address space.
            let destroyed = syscall::vmspace_destroy(handle).map_err(|(_, error)| error);
            destroyed.expect("the host destroys a vmspace that nobody runs in");
        }
    }
}

/// A host thread that interrupts can be posted to.
pub struct Thread {
    handle: Handle,
}

impl Thread {
    /// Posts virtual interrupts to the thread.
    pub fn post(&self, bits: u64) {
        // It fails only when the thread has ended, which those of CPUs do not.
        let _ = syscall::virq_post(self.handle, bits);
    }
}

/// Starts a host thread.
pub fn spawn_thread(body: impl FnOnce() + Send + 'static) -> Result<Thread, Errno> {
    let started = Builder::new().stack_size(STACK_SIZE).spawn(body)?;
    let handle = started.handle();
    // The thread runs as long as the process; its handle stays open.
    core::mem::forget(started);
    Ok(Thread { handle })
}

/// From now on these bits end runs and waits of the calling thread. Returns those that did so far.
pub fn enable_interrupts(mask: u64) -> u64 {
    // SAFETY: without a handler no code of ours is interrupted.
    unsafe { syscall::virq_control(0, mask) }.unwrap_or(0)
}

/// Takes pending bits of the calling thread.
pub fn take_interrupts(mask: u64) -> u64 {
    syscall::virq_take(mask).unwrap_or(0)
}

/// Waits for bits of the calling thread and takes them; 0 when the time has passed.
pub fn wait_for_interrupt(mask: u64, timeout: u64) -> u64 {
    syscall::virq_wait(mask, timeout).unwrap_or(0)
}

/// Arms the calling thread's timer: posts `bit` at the monotonic time `deadline`.
pub fn set_timer(deadline: u64, bit: u32) {
    // The bit is below 64 and there is no period, so there is nothing to refuse.
    let _ = syscall::timer_set(deadline, 0, bit);
}

/// Lets other host threads run.
pub fn thread_yield() {
    syscall::thread_yield();
}

/// Sleeps until the word no longer has the value `expected`, or for no reason.
pub fn sleep_on(word: &AtomicU32, expected: u32) {
    let _ = syscall::umtx_sleep(word, expected, FOREVER);
}

/// Wakes the thread that sleeps on a word.
pub fn wake_sleeper(word: &AtomicU32) {
    let _ = syscall::umtx_wakeup(word, 0);
}

/// Nanoseconds of a clock.
pub fn clock(clock: Clock) -> u64 {
    syscall::clock_get(clock).unwrap_or(0)
}

/// Writes bytes to the console, all of them. No interrupt may end the call to the console's server half-way.
pub fn console_write(bytes: &[u8]) {
    let enabled = enable_interrupts(0);
    console::write(bytes);
    console::flush();
    enable_interrupts(enabled);
}

/// Typed bytes come one by one, with no echo.
pub const CONSOLE_IS_RAW: bool = true;

/// Waits for typed bytes; 0 if there will never be any.
pub fn console_read(buffer: &mut [u8]) -> usize {
    console::read_blocking(buffer).unwrap_or(0)
}

/// Ends the process.
pub fn exit(status: u8) -> ! {
    dragonet_rt::exit::exit(status)
}
