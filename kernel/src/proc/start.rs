//! The first process: loaded from the boot module `init` by the kernel itself. Every other process is built by its parent.

use super::{Entry, Object, Process, Thread};
use crate::arch::boot::BootInfo;
use crate::arch::trap::TrapFrame;
use crate::mm::physical::ModuleMemory;
use crate::sched;
use crate::vm::MapArguments;
use alloc::vec;
use alloc::vec::Vec;
use dragonet_abi::layout::{MAX_NAME, STACK_TOP, USER_END, USER_START};
use dragonet_abi::memory::{MapFlags, Protection};
use dragonet_abi::process::PRIORITY_DEFAULT;
use dragonet_abi::startup::{ROLE_SYSTEM, STARTUP_MAGIC, StartupHandle, StartupHeader};
use dragonet_abi::{Errno, Rights};
use elf_image::Image;
use zerocopy::IntoBytes;

/// Bytes that are reserved for the stack, its guard included.
const STACK_SIZE: u64 = 128 * 1024;

/// Loads and starts the boot module `init` with a handle of the system that has every right.
///
/// # Errors
/// A text that says what is missing or wrong.
pub fn start_first_process(boot: &BootInfo) -> Result<(), &'static str> {
    let module = boot
        .modules
        .iter()
        .find(|module| module.name == "init")
        .ok_or("no boot module is named \"init\"; the boot loader must load it beside the kernel")?;
    let memory = ModuleMemory::new(module.physical, module.size)
        .map_err(|_| "the boot module \"init\" is empty or not page-aligned")?;
    let image = memory.bytes();
    let plan = Image::parse(image, 0, USER_START..USER_END)
        .map_err(|_| "the boot module \"init\" is not an x86-64 program")?;
    let mut name = [0; MAX_NAME];
    name[..4].copy_from_slice(b"init");
    let process = Process::new(name, 0).map_err(|_| "not enough memory for the first process")?;
    load(&process, &plan, image).map_err(|_| "the boot module \"init\" does not fit into memory")?;
    let rights = Rights::all();
    let system = process
        .handles()
        .insert(Entry {
            object: Object::System,
            rights,
        })
        .map_err(|_| "no handle for the first process")?;
    let block = startup_block(system);
    let stack = (STACK_TOP - block.len() as u64) & !0xf;
    process
        .vmspace()
        .write(stack, &block)
        .map_err(|_| "not enough memory for the first stack")?;
    let frame = TrapFrame::new_user(plan.entry, stack - 8, stack);
    Thread::new(&process, frame, PRIORITY_DEFAULT as u8, sched::online_mask())
        .and_then(|thread| thread.start(true))
        .map_err(|_| "the first thread cannot be started")?;
    Ok(())
}

fn load(process: &Process, plan: &Image, image: &[u8]) -> Result<(), Errno> {
    for segment in plan.segments() {
        let pages = segment.pages();
        let length = pages.end - pages.start;
        let mut protection = Protection::READ;
        protection.set(Protection::WRITE, segment.protection.write);
        protection.set(Protection::EXECUTE, segment.protection.execute);
        map(process, pages.start, length, MapFlags::empty())?;
        process.vmspace().write(segment.address, segment.bytes(image))?;
        process.vmspace().protect(pages.start, length, protection)?;
    }
    map(process, STACK_TOP - STACK_SIZE, STACK_SIZE, MapFlags::STACK)
}

/// Maps private memory that can be read and written.
fn map(process: &Process, address: u64, length: u64, flags: MapFlags) -> Result<(), Errno> {
    let arguments = MapArguments {
        address,
        length,
        protection: Protection::READ | Protection::WRITE,
        flags: flags | MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED,
        object: None,
        maximum: Protection::all(),
        offset: 0,
    };
    process.vmspace().map(&arguments).map(|_| ())
}

fn startup_block(system: dragonet_abi::Handle) -> Vec<u8> {
    let argument = b"init\0";
    let size = size_of::<StartupHeader>() + size_of::<StartupHandle>() + argument.len();
    let header = StartupHeader {
        magic: STARTUP_MAGIC,
        size: size as u32,
        handle_count: 1,
        argument_count: 1,
        environment_count: 0,
    };
    let handle = StartupHandle {
        role: ROLE_SYSTEM,
        handle: system,
    };
    let mut block = vec![];
    block.extend_from_slice(header.as_bytes());
    block.extend_from_slice(handle.as_bytes());
    block.extend_from_slice(argument);
    block
}
