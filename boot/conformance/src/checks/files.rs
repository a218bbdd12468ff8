//! The kernel's own image and file, the command line and the modules.

use core::sync::atomic::{AtomicU64, Ordering};

use limine::file::File;
use limine::memory_map::EntryType;

use crate::check::{Outcome, present};
use crate::requests::*;
use crate::require;
use crate::walk::walk;

unsafe extern "C" {
    static image_start: u8;
    static rodata_start: u8;
    static data_start: u8;
    static image_end: u8;
}

const PAGE: u64 = 4096;

/// Known contents in the data segment.
static INITIALISED: AtomicU64 = AtomicU64::new(0x0123_4567_89ab_cdef);

/// Zeros that are not in the file.
static ZEROS: [AtomicU64; 8192] = [const { AtomicU64::new(0) }; 8192];

fn image() -> (u64, u64) {
    ((&raw const image_start) as u64, (&raw const image_end) as u64)
}

/// The image is contiguous in memory, where the answer says, and belongs to the executable.
pub fn image_position() -> Outcome {
    let answer = present(ADDRESS.get_response(), "answer")?;
    let (start, end) = image();
    require!(
        answer.virtual_base() == start,
        "virtual base {:#x}",
        answer.virtual_base()
    );
    for page in (start..end).step_by(PAGE as usize) {
        let wanted = answer.physical_base() + (page - start);
        let found = walk(page).map(|mapping| mapping.physical);
        require!(
            found == Some(wanted),
            "{page:#x} is at {found:x?}, not {wanted:#x}"
        );
    }
    let inside = all_in(
        answer.physical_base(),
        end - start,
        EntryType::EXECUTABLE_AND_MODULES,
    );
    require!(
        inside,
        "the memory at {:#x} has another type",
        answer.physical_base()
    );
    require!(walk(end).is_none(), "{end:#x}, after the image, is mapped");
    Ok(())
}

/// Each segment has the permissions of its header, is write-back, and is the supervisor's.
pub fn image_permissions() -> Outcome {
    let (start, end) = image();
    let (rodata, data) = ((&raw const rodata_start) as u64, (&raw const data_start) as u64);
    let no_execute = x86_64::registers::control::Efer::read()
        .contains(x86_64::registers::control::EferFlags::NO_EXECUTE_ENABLE);
    for page in (start..end).step_by(PAGE as usize) {
        let mapping = present(walk(page), "mapping of a page of the image")?;
        let (writable, executable) = (page >= data, page < rodata);
        require!(
            mapping.writable == writable,
            "{page:#x} is writable: {}",
            mapping.writable
        );
        require!(
            mapping.no_execute == (no_execute && !executable),
            "{page:#x}: NX is {}",
            mapping.no_execute
        );
        require!(!mapping.user && mapping.attribute == 0, "{page:#x}: {mapping:x?}");
    }
    Ok(())
}

/// Data is initialised, and what is not in the file is zero.
pub fn image_contents() -> Outcome {
    let found = INITIALISED.load(Ordering::SeqCst);
    require!(found == 0x0123_4567_89ab_cdef, "initialised data is {found:#x}");
    let stray = ZEROS.iter().position(|word| word.load(Ordering::SeqCst) != 0);
    require!(
        stray.is_none(),
        "word {} of the zeros is not zero",
        stray.unwrap_or(0)
    );
    Ok(())
}

/// The command line is the string of the executable's file, the same memory.
pub fn command_line() -> Outcome {
    let line = present(COMMAND_LINE.get_response(), "answer")?.cmdline();
    let file = present(FILE.get_response(), "executable file")?.file();
    require!(
        line.as_ptr() == file.string().as_ptr(),
        "the executable's string is elsewhere"
    );
    require!(line.to_str().is_ok(), "not a text");
    Ok(())
}

/// Contents of a file in memory.
fn contents(file: &File) -> &'static [u8] {
    // SAFETY: the protocol says that the file is there; `modules` and `executable_file` check that the memory is of
    // the right type before they read it, and nobody writes it.
    unsafe { core::slice::from_raw_parts(file.addr(), file.size() as usize) }
}

/// The executable's file is in memory as it was on the medium.
pub fn executable_file() -> Outcome {
    let file = present(FILE.get_response(), "answer")?.file();
    let physical = (file.addr() as u64).wrapping_sub(direct_map());
    require!(
        all_in(physical, file.size(), EntryType::EXECUTABLE_AND_MODULES),
        "at {physical:#x}"
    );
    require!(contents(file).starts_with(b"\x7fELF"), "not an ELF file");
    require!(
        file.path().to_bytes().starts_with(b"/"),
        "the path {:?}",
        file.path()
    );
    Ok(())
}

/// The 64-bit FNV-1a hash.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The modules are those of the command line, in order, unharmed.
pub fn modules() -> Outcome {
    let modules = MODULES.get_response().map_or(&[][..], |answer| answer.modules());
    require!(
        MODULES
            .get_response()
            .is_none_or(|answer| !answer.modules().is_empty()),
        "an empty answer"
    );
    let wanted = words("module").count();
    require!(wanted == modules.len(), "{} modules, not {wanted}", modules.len());
    for (module, wanted) in modules.iter().zip(words("module")) {
        let mut parts = wanted.split(':');
        let name = parts.next().unwrap_or("");
        require!(
            module.string().to_bytes() == name.as_bytes(),
            "{:?} is not {name}",
            module.string()
        );
        require!(
            module.path().to_bytes().starts_with(b"/"),
            "the path {:?}",
            module.path()
        );
        let size = parts.next().and_then(|size| size.parse().ok()).unwrap_or(0);
        require!(
            module.size() == size,
            "{name} has {} bytes, not {size}",
            module.size()
        );
        let physical = (module.addr() as u64).wrapping_sub(direct_map());
        let inside = all_in(physical, module.size(), EntryType::EXECUTABLE_AND_MODULES);
        require!(inside, "{name} at {physical:#x} has another type");
        let expected = parts
            .next()
            .and_then(|hash| u64::from_str_radix(hash, 16).ok())
            .unwrap_or(0);
        let found = hash(contents(module));
        require!(
            found == expected,
            "{name} has the hash {found:x}, not {expected:x}"
        );
    }
    Ok(())
}

/// Every module has its pages for itself.
pub fn module_pages() -> Outcome {
    let modules = MODULES.get_response().map_or(&[][..], |answer| answer.modules());
    let pages = |file: &File| {
        let start = file.addr() as u64;
        (start & !(PAGE - 1), (start + file.size()).next_multiple_of(PAGE))
    };
    let executable = present(FILE.get_response(), "executable file")?.file();
    for (index, module) in modules.iter().enumerate() {
        let (start, end) = pages(module);
        require!(module.addr() as u64 == start, "module {index} is at {start:#x}");
        let others = modules.iter().enumerate().filter(|(other, _)| *other != index);
        let mut others = others.map(|(_, other)| pages(other)).chain([pages(executable)]);
        require!(
            others.all(|other| other.1 <= start || end <= other.0),
            "module {index} shares a page"
        );
        let physical = start.wrapping_sub(direct_map());
        let inside = all_in(physical, end - start, EntryType::EXECUTABLE_AND_MODULES);
        require!(inside, "the last page of module {index} is not its own");
    }
    Ok(())
}
