//! Loading a program into a new address space, and replacing the current program by it.

use crate::host;
use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    AT_BASE, AT_CLKTCK, AT_EGID, AT_ENTRY, AT_EUID, AT_EXECFN, AT_FLAGS, AT_GID, AT_HWCAP, AT_MINSIGSTKSZ,
    AT_PAGESZ, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PLATFORM, AT_RANDOM, AT_SECURE, AT_UID,
};
use crate::memory::area::{Protection, Source};
use crate::memory::space::{Placement, STACK_SIZE, STACK_TOP};
use crate::memory::{AddressSpace, MemoryObject, page_ceiling, page_floor};
use crate::process::Task;
use crate::process::stack::{self, Arguments, Auxiliary};
use crate::signal::deliver::{AlternateStack, largest_frame};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use dragonet_abi::layout::{PAGE_SIZE, USER_START};
use dragonet_abi::vmspace::{RegisterFrame, RunState};
use elf_image::Image;

/// Where a position-independent program goes.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// Programs lie below.
const PROGRAM_END: u64 = 0x7000_0000_0000;
/// Bytes at most of a program file that is not from the root image: it is copied once to look at its headers.
const MAX_WRITTEN_PROGRAM: u64 = 16 << 20;
/// Ticks a second that times(2) would count.
const CLOCK_TICKS: u64 = 100;

/// A program in its new memory, ready to begin.
pub struct Loaded {
    /// The memory.
    pub space: Arc<AddressSpace>,
    /// Where and with which stack it begins.
    pub run_state: RunState,
}

/// Makes an address space with the program in `file`, which is named `path`, and its arguments.
///
/// # Errors
/// `ENOEXEC` for a file that is not a static x86-64 program; `E2BIG`; `ENOMEM`.
pub fn load(file: &Arc<MemoryObject>, path: &[u8], strings: &Arguments) -> Result<Loaded, Errno> {
    let image = parse(file)?;
    let space = AddressSpace::new(kernel().memory())?;
    let mut program_end = 0;
    for segment in image.segments() {
        let pages = segment.pages();
        let mut protection = Protection::empty();
        protection.set(Protection::READ, segment.protection.read);
        protection.set(Protection::WRITE, segment.protection.write);
        protection.set(Protection::EXECUTE, segment.protection.execute);
        let file_end = page_ceiling(segment.address + segment.file_size).ok_or(Errno::ENOEXEC)?;
        let file_end = if segment.file_size == 0 {
            pages.start
        } else {
            file_end
        };
        if file_end > pages.start {
            let source = Source::Object {
                object: file.clone(),
                offset: page_floor(segment.file_offset),
                limit: segment.file_offset + segment.file_size,
            };
            let placement = Placement::Exclusive(pages.start);
            space.map(placement, file_end - pages.start, protection, false, source)?;
        }
        if pages.end > file_end {
            let placement = Placement::Exclusive(file_end);
            space.map(
                placement,
                pages.end - file_end,
                protection,
                false,
                Source::Anonymous,
            )?;
        }
        program_end = pages.end;
    }
    space.set_heap_start(program_end);
    let writable = Protection::READ | Protection::WRITE;
    let stack_start = Placement::Exclusive(STACK_TOP - STACK_SIZE);
    space.map(stack_start, STACK_SIZE, writable, false, Source::Anonymous)?;

    let mut random = [0; 16];
    kernel().random().lock().fill(&mut random);
    let path: Vec<u8> = path.iter().copied().chain([0]).collect();
    let auxiliary = [
        Auxiliary::Value(AT_PHDR, image.headers_address.unwrap_or(0)),
        Auxiliary::Value(AT_PHENT, Image::HEADER_SIZE as u64),
        Auxiliary::Value(
            AT_PHNUM,
            if image.headers_address.is_some() {
                image.header_count as u64
            } else {
                0
            },
        ),
        Auxiliary::Value(AT_PAGESZ, PAGE_SIZE),
        Auxiliary::Value(AT_BASE, 0),
        Auxiliary::Value(AT_FLAGS, 0),
        Auxiliary::Value(AT_ENTRY, image.entry),
        Auxiliary::Value(AT_UID, 0),
        Auxiliary::Value(AT_EUID, 0),
        Auxiliary::Value(AT_GID, 0),
        Auxiliary::Value(AT_EGID, 0),
        Auxiliary::Value(AT_SECURE, 0),
        Auxiliary::Value(AT_HWCAP, host::hardware_capabilities()),
        Auxiliary::Value(AT_CLKTCK, CLOCK_TICKS),
        Auxiliary::Value(AT_MINSIGSTKSZ, largest_frame()),
        Auxiliary::Bytes(AT_RANDOM, &random),
        Auxiliary::Bytes(AT_PLATFORM, b"x86_64\0"),
        Auxiliary::Bytes(AT_EXECFN, &path),
    ];
    let (pointer, bytes) = stack::build(STACK_TOP, strings, &auxiliary)?;
    space.write_bytes(pointer, &bytes)?;

    let registers = RegisterFrame {
        rip: image.entry,
        rsp: pointer,
        rflags: RegisterFrame::FORCED_FLAGS,
        ..RegisterFrame::default()
    };
    let run_state = RunState {
        registers,
        ..RunState::default()
    };
    Ok(Loaded {
        space: Arc::new(space),
        run_state,
    })
}

/// The plan for a program file. Only headers are looked at, but the plan checks ranges against the whole file.
fn parse(file: &Arc<MemoryObject>) -> Result<Image, Errno> {
    let plan =
        |bytes: &[u8]| Image::parse(bytes, PROGRAM_BASE, USER_START..PROGRAM_END).map_err(|_| Errno::ENOEXEC);
    if let Some(image) = file.image() {
        return plan(image);
    }
    let size = file.size();
    if size > MAX_WRITTEN_PROGRAM {
        return Err(Errno::ENOEXEC);
    }
    let mut bytes = vec![0; size as usize];
    let read = file.read(0, &mut bytes);
    plan(&bytes[..read])
}

impl Task {
    /// Replaces the program of the process by `file`. Does not return to the old program unless it fails.
    ///
    /// # Errors
    /// As [`load`]; the old program is untouched then.
    pub async fn execute(
        &mut self,
        file: &Arc<MemoryObject>,
        path: &[u8],
        strings: &Arguments,
    ) -> Result<(), Errno> {
        let loaded = load(file, path, strings)?;
        if !self.process.begin_exec(&self.thread) {
            return Err(Errno::ERESTARTSYS);
        }
        let process = self.process.clone();
        self.wait_uninterrupted(&process.thread_events, || process.thread_count() == 1)
            .await;
        if self.must_end() {
            return Err(Errno::ERESTARTSYS);
        }
        if self.thread.id() != process.id {
            let mut table = kernel().processes().lock();
            table.remove_thread(self.thread.id());
            self.thread.become_leader();
            table.add_thread(self.thread.clone());
        }

        self.space = loaded.space;
        self.run_state = loaded.run_state;
        self.thread.reset_fpu();
        self.clear_child_tid = 0;
        self.robust_list = 0;
        self.alternate_stack = AlternateStack::default();
        let actions = Arc::new(process.actions().duplicate());
        actions.reset_handlers();
        process.set_actions(actions);
        self.files = Arc::new(self.files.duplicate());
        self.files.close_on_exec();
        process.set_executable(path);
        process.release_parent_memory();
        process.finish_exec();
        Ok(())
    }
}
