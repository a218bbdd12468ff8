//! Copies the boot loader's answers into the kernel's own memory.

use super::boot::{BootInfo, ColorField, Framebuffer, MemoryKind, MemoryRegion, Module, sections};
use super::limine_requests as requests;
use arrayvec::ArrayVec;
use limine::memory_map::EntryType;
use spin::Once;
use x86_64::{PhysAddr, VirtAddr};

const MAX_REGIONS: usize = 512;
const MAX_MODULES: usize = 32;

static MEMORY_MAP: Once<ArrayVec<MemoryRegion, MAX_REGIONS>> = Once::new();
static MODULES: Once<ArrayVec<Module, MAX_MODULES>> = Once::new();

fn kind(entry: EntryType) -> MemoryKind {
    match entry {
        EntryType::USABLE => MemoryKind::Usable,
        EntryType::ACPI_RECLAIMABLE => MemoryKind::AcpiReclaimable,
        EntryType::ACPI_NVS => MemoryKind::AcpiNvs,
        EntryType::BAD_MEMORY => MemoryKind::Bad,
        EntryType::BOOTLOADER_RECLAIMABLE => MemoryKind::BootloaderReclaimable,
        EntryType::EXECUTABLE_AND_MODULES => MemoryKind::KernelAndModules,
        EntryType::FRAMEBUFFER => MemoryKind::Framebuffer,
        _ => MemoryKind::Reserved,
    }
}

/// Copies the loader's answers into the kernel's own memory.
///
/// # Panics
/// When the loader does not keep the protocol's promises.
pub(super) fn read() -> BootInfo {
    if requests::BASE_REVISION.is_valid() && !requests::BASE_REVISION.is_supported() {
        log::warn!("the boot loader does not know base revision 2 of the Limine protocol");
    }
    let hhdm_offset = requests::DIRECT_MAP
        .get_response()
        .expect("a boot loader with a direct map")
        .offset();
    super::boot::set_hhdm_offset(hhdm_offset);
    let map = requests::MEMORY_MAP
        .get_response()
        .expect("a boot loader with a memory map");
    let memory_map = MEMORY_MAP.call_once(|| {
        let region = |entry: &&limine::memory_map::Entry| MemoryRegion {
            base: PhysAddr::new_truncate(entry.base),
            length: entry.length,
            kind: kind(entry.entry_type),
        };
        map.entries().iter().map(region).take(MAX_REGIONS).collect()
    });
    if map.entries().len() > MAX_REGIONS {
        log::warn!(
            "only the first {MAX_REGIONS} of {} memory regions are used",
            map.entries().len()
        );
    }
    let address = requests::EXECUTABLE_ADDRESS
        .get_response()
        .expect("a boot loader that says where the kernel is");
    let physical = |address: u64| PhysAddr::new_truncate(address.checked_sub(hhdm_offset).unwrap_or(address));
    let modules = MODULES.call_once(|| {
        let files = requests::MODULES
            .get_response()
            .map_or(&[][..], |response| response.modules());
        let module = |file: &&'static limine::file::File| Module {
            name: module_name(file),
            physical: physical(file.addr() as u64),
            size: file.size(),
        };
        files.iter().map(module).take(MAX_MODULES).collect()
    });
    let loader = requests::BOOTLOADER
        .get_response()
        .map_or("an unnamed boot loader", |response| response.name());
    BootInfo {
        hhdm_offset,
        memory_map,
        kernel_physical: PhysAddr::new_truncate(address.physical_base()),
        kernel_virtual: VirtAddr::new_truncate(address.virtual_base()),
        sections: sections(),
        rsdp: requests::RSDP
            .get_response()
            .map(|response| physical(response.address() as u64)),
        command_line: command_line(),
        modules,
        framebuffer: framebuffer(physical),
        cpus: requests::PROCESSORS
            .get_response()
            .map_or(1, |response| response.cpus().len()),
        loader,
    }
}

fn module_name(file: &'static limine::file::File) -> &'static str {
    let string = file.string().to_str().unwrap_or("").trim();
    let path = file.path().to_str().unwrap_or("");
    if string.is_empty() {
        path.rsplit('/').next().unwrap_or(path)
    } else {
        string
    }
}

fn command_line() -> &'static str {
    let direct = requests::COMMAND_LINE
        .get_response()
        .map(|response| response.cmdline());
    let line = direct.or_else(|| {
        requests::EXECUTABLE_FILE
            .get_response()
            .map(|response| response.file().string())
    });
    line.and_then(|line| line.to_str().ok()).unwrap_or("")
}

/// The first frame buffer, if its pixels have red, green and blue in 2 to 4 bytes.
fn framebuffer(physical: impl Fn(u64) -> PhysAddr) -> Option<Framebuffer> {
    let screen = requests::FRAMEBUFFER.get_response()?.framebuffers().next()?;
    let pixel_size = usize::from(screen.bpp()).div_ceil(8);
    let fits = (2..=4).contains(&pixel_size)
        && screen.width() > 0
        && screen.height() > 0
        && screen.pitch() >= screen.width() * pixel_size as u64
        && screen.memory_model() == limine::framebuffer::MemoryModel::RGB;
    let field = |shift, size| ColorField { shift, size };
    fits.then(|| Framebuffer {
        physical: physical(screen.addr() as u64),
        width: screen.width() as usize,
        height: screen.height() as usize,
        pitch: screen.pitch() as usize,
        pixel_size,
        colors: [
            field(screen.red_mask_shift(), screen.red_mask_size()),
            field(screen.green_mask_shift(), screen.green_mask_size()),
            field(screen.blue_mask_shift(), screen.blue_mask_size()),
        ],
    })
}
