//! From the first instruction to the program's main function, and what the program was started with.
//!
//! [`main!`](crate::main) names the main function. Programs use [`Arguments`], [`environment`] and [`role`].

use crate::OwnedHandle;
use crate::exit::exit;
use crate::start_block::StartBlock;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use dragonet_abi::Handle;
use dragonet_abi::startup::{MAX_STARTUP_SIZE, STARTUP_MAGIC, StartupHeader};

/// Roles are numbers below this.
const ROLES: usize = 16;

/// Handles by role, 0 = none. Set before `main` runs, later only by [`install`].
static HANDLES: [AtomicU32; ROLES] = [const { AtomicU32::new(0) }; ROLES];
/// Address and bytes of the startup block, 0 before it was checked.
static BLOCK_ADDRESS: AtomicUsize = AtomicUsize::new(0);
static BLOCK_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Names the main function of a program: `fn(Arguments) -> impl Termination`.
///
/// ```ignore
/// dragonet_rt::main!(main);
/// fn main(arguments: Arguments) -> ExitCode { ... }
/// ```
#[macro_export]
macro_rules! main {
    ($function:path) => {
        // The runtime finds the function by this name when the program is linked.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        fn dragonet_main(arguments: $crate::Arguments) -> u8 {
            $crate::Termination::status($function(arguments))
        }
    };
}

unsafe extern "Rust" {
    /// Defined by [`main!`](crate::main) in the program.
    safe fn dragonet_main(arguments: Arguments) -> u8;
}

/// Where the first thread begins: `rdi` holds the address of the startup block.
#[cfg(target_os = "none")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text._start")]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp", // ends the chain of frames that a backtrace follows
        "and rsp, -16",
        "call {begin}",
        "ud2",
        begin = sym begin,
    )
}

/// Reads the startup block at `address` and runs the program.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "called by `_start`"))]
extern "C" fn begin(address: usize) -> ! {
    let pointer = ptr::with_exposed_provenance::<StartupHeader>(address);
    // SAFETY: whoever started this program put a startup block there, in memory that nothing else uses. If the promise
    // was broken, the program dies by a fault here or by the check below.
    let size = unsafe {
        let header = pointer.read_unaligned();
        if header.magic == STARTUP_MAGIC {
            header.size as usize
        } else {
            0
        }
    };
    let block = if (size_of::<StartupHeader>()..=MAX_STARTUP_SIZE).contains(&size) {
        // SAFETY: as above, and the size is within the limit.
        StartBlock::parse(unsafe { slice::from_raw_parts(pointer.cast(), size) })
    } else {
        None
    };
    let Some(block) = block else {
        panic!("the startup block at {address:#x} is damaged");
    };
    for entry in block.handles() {
        if let Some(slot) = HANDLES.get(entry.role as usize) {
            slot.store(entry.handle.0, Ordering::Relaxed);
        }
    }
    BLOCK_ADDRESS.store(address, Ordering::Relaxed);
    BLOCK_SIZE.store(size, Ordering::Release);
    exit(dragonet_main(Arguments {
        program: program(),
        rest: block.arguments().skip(1).collect(),
    }))
}

fn block() -> Option<StartBlock<'static>> {
    let size = BLOCK_SIZE.load(Ordering::Acquire);
    let address = BLOCK_ADDRESS.load(Ordering::Relaxed);
    if size == 0 {
        return None;
    }
    // SAFETY: `begin` checked the block, which stays at the top of the first thread's stack and is never changed.
    StartBlock::parse(unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(address), size) })
}

/// The name by which the program was started, without directories.
#[must_use]
pub fn program() -> &'static str {
    let path = block()
        .and_then(|block| block.arguments().next())
        .unwrap_or("program");
    path.rsplit('/').next().unwrap_or(path)
}

/// What the program was asked to do.
#[derive(Clone, Debug)]
pub struct Arguments {
    program: &'static str,
    rest: Vec<&'static str>,
}

impl Arguments {
    /// The program's name, without directories.
    #[must_use]
    pub const fn program(&self) -> &'static str {
        self.program
    }

    /// The arguments behind the name.
    #[must_use]
    pub fn rest(&self) -> &[&'static str] {
        &self.rest
    }
}

/// The environment that the program was started with, as names and values.
pub fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    block()
        .into_iter()
        .flat_map(|block| block.environment())
        .filter_map(|entry| entry.split_once('='))
}

/// The value of an environment variable.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    environment()
        .find(|(candidate, _)| *candidate == name)
        .map(|(_, value)| String::from(value))
}

/// The handle that the program was started with for a role (a `ROLE_*` constant), if it was given one.
#[must_use]
pub fn role(role: u32) -> Option<Handle> {
    let handle = Handle(HANDLES.get(role as usize)?.load(Ordering::Relaxed));
    handle.is_some().then_some(handle)
}

/// Sets the handles of all roles: those of a copy of the program, to whom the old numbers mean nothing.
pub(crate) fn replace_roles(handles: impl Iterator<Item = (u32, Handle)>) {
    for slot in &HANDLES {
        slot.store(Handle::NONE.0, Ordering::Relaxed);
    }
    for (role, handle) in handles {
        if let Some(slot) = HANDLES.get(role as usize) {
            slot.store(handle.0, Ordering::Relaxed);
        }
    }
}

/// Sets the handle of a role for the rest of the program's life, and for the programs that it starts.
///
/// # Panics
/// If the number of the role is above 15.
pub fn install(role: u32, handle: OwnedHandle) {
    HANDLES[role as usize].store(handle.into_raw().0, Ordering::Relaxed);
}
