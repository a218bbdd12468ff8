//! Loading level 2: a program of the root archive, its first stack, and its arguments.

use crate::object::Object;
use crate::space::Space;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::ops::Range;
use dragonet_abi::layout::{STACK_TOP, USER_START};
use dragonet_abi::memory::Protection;
use dragonet_abi::startup::{ROLE_SYSTEM, StartupHandle};
use dragonet_abi::vmspace::RegisterFrame;
use dragonet_abi::{Errno, Handle};
use dragonet_programs::vm::{Ram, fixed};
use dragonet_rt::{archive, start_block};
use elf_image::Image;

/// Bytes of the stack.
const STACK_SIZE: u64 = 256 * 1024;

/// The handle of the system that level 2 gets. Nothing asks what it names.
const SYSTEM: Handle = Handle(0x7fff_0001);

/// Loads a program, named by the first argument, into an empty space; the registers to start it with.
pub fn load(ram: &Rc<Ram>, space: &mut Space, arguments: &[&str]) -> Result<RegisterFrame, String> {
    let name = arguments.first().copied().unwrap_or_default();
    let files = archive::root().map_err(|errno| errno.to_string())?;
    let file = files
        .find(&format!("bin/{name}"))
        .ok_or_else(|| format!("{name}: not found"))?;
    let image = Image::parse(file.bytes, 0, USER_START..STACK_TOP - STACK_SIZE)
        .map_err(|error| format!("{name}: {error}"))?;
    let refused = |errno: Errno| format!("loading {name}: {errno}");
    for segment in image.segments() {
        let mut protection = Protection::empty();
        protection.set(Protection::READ, segment.protection.read);
        protection.set(Protection::WRITE, segment.protection.write);
        protection.set(Protection::EXECUTE, segment.protection.execute);
        let piece = Piece {
            pages: segment.pages(),
            protection,
            address: segment.address,
            bytes: segment.bytes(file.bytes),
        };
        piece.put(ram, space).map_err(refused)?;
    }
    let system = StartupHandle {
        role: ROLE_SYSTEM,
        handle: SYSTEM,
    };
    let block = start_block::encode(&[system], arguments.iter().copied(), [].into_iter()).map_err(refused)?;
    let stack_pointer = (STACK_TOP - block.len() as u64) & !15;
    let stack = Piece {
        pages: STACK_TOP - STACK_SIZE..STACK_TOP,
        protection: Protection::READ | Protection::WRITE,
        address: stack_pointer,
        bytes: &block,
    };
    stack.put(ram, space).map_err(refused)?;
    Ok(RegisterFrame {
        rip: image.entry,
        rsp: stack_pointer,
        rdi: stack_pointer,
        ..RegisterFrame::default()
    })
}

/// Memory of the program that begins with known bytes somewhere.
struct Piece<'bytes> {
    pages: Range<u64>,
    protection: Protection,
    address: u64,
    bytes: &'bytes [u8],
}

impl Piece<'_> {
    fn put(&self, ram: &Rc<Ram>, space: &mut Space) -> Result<(), Errno> {
        let length = self.pages.end - self.pages.start;
        let object = Object::new(ram, length);
        object.write(self.address - self.pages.start, self.bytes)?;
        let request = fixed(self.pages.start, length, self.protection, Handle::NONE, 0);
        space.map(&request, Some(object)).map(drop)
    }
}
