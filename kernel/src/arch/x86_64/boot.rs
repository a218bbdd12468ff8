//! Kernel entry, and what the boot loader says about the machine.

use super::limine_requests as requests;
use super::{clock, control, cpu, features, frame_memory, interrupt_table, segments, serial};
use arrayvec::ArrayVec;
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ops::Range;
use limine::memory_map::EntryType;
use spin::Once;
use x86_64::{PhysAddr, VirtAddr};

const MAX_REGIONS: usize = 512;
const MAX_MODULES: usize = 32;
const BOOT_STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(4096))]
struct BootStack(UnsafeCell<[u8; BOOT_STACK_SIZE]>);

// SAFETY: used only as the boot CPU's stack; nothing refers to the bytes by name.
unsafe impl Sync for BootStack {}

static BOOT_STACK: BootStack = BootStack(UnsafeCell::new([0; BOOT_STACK_SIZE]));

/// What a region of physical memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// RAM, free.
    Usable,
    /// Not RAM, or not ours.
    Reserved,
    /// RAM with ACPI tables.
    AcpiReclaimable,
    /// RAM that the firmware uses.
    AcpiNvs,
    /// Broken RAM.
    Bad,
    /// RAM with the boot loader's answers, page tables and the stacks on which other CPUs wait.
    BootloaderReclaimable,
    /// RAM with the kernel and the boot modules.
    KernelAndModules,
    /// The frame buffer.
    Framebuffer,
}

/// A region of physical memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRegion {
    /// First byte.
    pub base: PhysAddr,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// A file that the boot loader brought along.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its name: the module's string, or the last part of its path.
    pub name: &'static str,
    /// Page-aligned physical address.
    pub physical: PhysAddr,
    /// Bytes.
    pub size: u64,
}

/// Where a colour stands in a pixel.
#[derive(Clone, Copy, Debug)]
pub struct ColorField {
    /// Lowest bit.
    pub shift: u8,
    /// Bits.
    pub size: u8,
}

/// The frame buffer that the firmware set up.
#[derive(Clone, Copy, Debug)]
pub struct Framebuffer {
    /// Physical address of the first pixel.
    pub physical: PhysAddr,
    /// Pixels in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Bytes from one line to the next.
    pub pitch: usize,
    /// Bytes of a pixel, 2 to 4.
    pub pixel_size: usize,
    /// Red, green, blue.
    pub colors: [ColorField; 3],
}

impl Framebuffer {
    /// Bytes from the first pixel to the end of the last line.
    pub fn length(&self) -> u64 {
        (self.pitch * self.height) as u64
    }
}

/// Virtual address ranges of the kernel's image, page-aligned.
#[derive(Clone, Debug)]
pub struct Sections {
    /// Code: readable, executable.
    pub text: Range<VirtAddr>,
    /// Constants: readable.
    pub rodata: Range<VirtAddr>,
    /// Variables: readable, writable.
    pub data: Range<VirtAddr>,
}

/// What the boot loader said.
#[derive(Debug)]
pub struct BootInfo {
    /// Where physical address 0 stands in the direct map.
    pub hhdm_offset: u64,
    /// Physical memory, in ascending order.
    pub memory_map: &'static [MemoryRegion],
    /// Physical address of the kernel's image, which is contiguous.
    pub kernel_physical: PhysAddr,
    /// Virtual address of the kernel's image.
    pub kernel_virtual: VirtAddr,
    /// The parts of the image.
    pub sections: Sections,
    /// ACPI's root.
    pub rsdp: Option<PhysAddr>,
    /// The kernel's command line.
    pub command_line: &'static str,
    /// Boot modules.
    pub modules: &'static [Module],
    /// The screen, if there is one.
    pub framebuffer: Option<Framebuffer>,
    /// CPUs that the loader found.
    pub cpus: usize,
    /// The loader's name.
    pub loader: &'static str,
}

/// How an emulator is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitDoor {
    /// QEMU's isa-debug-exit at this port.
    IsaDebugExit(u16),
    /// Bochs's shutdown port.
    Bochs,
}

static MEMORY_MAP: Once<ArrayVec<MemoryRegion, MAX_REGIONS>> = Once::new();
static MODULES: Once<ArrayVec<Module, MAX_MODULES>> = Once::new();
static INFO: Once<BootInfo> = Once::new();

/// Where the boot loader enters, on the boot CPU, with interrupts off and the protocol's page tables.
///
/// # Safety
/// 1. Entered by the boot loader, once.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "cli",
        "cld",
        "lea rsp, [{stack} + {size}]",
        "xor ebp, ebp",
        "call {enter}",
        "ud2",
        stack = sym BOOT_STACK,
        size = const BOOT_STACK_SIZE,
        enter = sym enter,
    );
}

extern "C" fn enter() -> ! {
    // SAFETY: the boot CPU is number 0, and this is the first thing that it does.
    unsafe { cpu::adopt(0) };
    clock::start();
    serial::init();
    crate::debug::log::init_early();
    let info = INFO.call_once(read_answers);
    crate::debug::log::set_serial_level(option("log"));
    if let Some(framebuffer) = &info.framebuffer {
        // SAFETY: the loader's direct map includes the frame buffer it set up (base revisions up to 2 map all of the first 4 GiB and
        // every region of the memory map).
        unsafe { frame_memory::set(direct(framebuffer.physical), framebuffer.length()) };
        crate::debug::framebuffer::init(framebuffer);
    }
    if let Some(missing) = features::missing() {
        crate::debug::panic::refuse(format_args!("this CPU lacks {missing}"));
    }
    let features = features::detect();
    // SAFETY: the boot CPU, once, interrupts off; its interrupt stacks are static. The loader's page tables use bit 63 as the
    // no-execute bit, as the protocol says. The descriptor table comes before the interrupt table, whose gates name its code segment.
    unsafe {
        segments::init(0, segments::boot_interrupt_stacks());
        interrupt_table::init();
        control::init(0, features);
    }
    describe(info);
    crate::kernel_main(info)
}

fn direct(address: PhysAddr) -> VirtAddr {
    VirtAddr::new(hhdm_offset() + address.as_u64())
}

fn describe(info: &BootInfo) {
    log::info!(
        "Dragonet {}, entered by {}",
        env!("CARGO_PKG_VERSION"),
        info.loader
    );
    features::with_name(|name| log::info!("CPU: {name}"));
    let features = cpu::features();
    log::debug!("{features:?}");
    for region in info.memory_map {
        let end = region.base.as_u64() + region.length;
        log::debug!(
            "memory {:#014x}..{end:#014x} {:?}",
            region.base.as_u64(),
            region.kind
        );
    }
    for module in info.modules {
        log::debug!(
            "module {:?}: {} bytes at {:?}",
            module.name,
            module.size,
            module.physical
        );
    }
    if let Some(screen) = &info.framebuffer {
        log::debug!(
            "screen {}x{}, {} bytes a pixel, {} a line",
            screen.width,
            screen.height,
            screen.pixel_size,
            screen.pitch
        );
    }
}

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
fn read_answers() -> BootInfo {
    if requests::BASE_REVISION.is_valid() && !requests::BASE_REVISION.is_supported() {
        log::warn!("the boot loader does not know base revision 2 of the Limine protocol");
    }
    let hhdm_offset = requests::DIRECT_MAP
        .get_response()
        .expect("a boot loader with a direct map")
        .offset();
    HHDM_OFFSET.call_once(|| hhdm_offset);
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

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __entry_start: u8;
    static __entry_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
}

/// The parts of the kernel's image, from the linker script.
pub fn sections() -> Sections {
    let range = |start: *const u8, end: *const u8| VirtAddr::from_ptr(start)..VirtAddr::from_ptr(end);
    Sections {
        text: range(&raw const __text_start, &raw const __text_end),
        rodata: range(&raw const __rodata_start, &raw const __rodata_end),
        data: range(&raw const __data_start, &raw const __data_end),
    }
}

/// True if an instruction belongs to the entry paths.
pub(super) fn entry_section_contains(instruction: u64) -> bool {
    (&raw const __entry_start as u64..&raw const __entry_end as u64).contains(&instruction)
}

static HHDM_OFFSET: Once<u64> = Once::new();

/// Where physical address 0 stands in the direct map.
///
/// # Panics
/// Before the boot loader's answers are read.
pub fn hhdm_offset() -> u64 {
    *HHDM_OFFSET.get().expect("the direct map is known first")
}

/// What the boot loader said.
///
/// # Panics
/// Before it is read, which is the first thing that happens at boot.
pub fn info() -> &'static BootInfo {
    INFO.get().expect("the boot loader's answers are read first")
}

/// The value of `key=value` on the command line; "" for a key without value.
pub fn option(key: &str) -> Option<&'static str> {
    find_option(INFO.get()?.command_line, key)
}

fn find_option<'line>(line: &'line str, key: &str) -> Option<&'line str> {
    line.split_ascii_whitespace().find_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name == key).then_some(value)
    })
}

/// The door that the command line names: `exit=isa:0xf4` or `exit=bochs`.
pub fn exit_door() -> Option<ExitDoor> {
    parse_door(option("exit")?)
}

fn parse_door(value: &str) -> Option<ExitDoor> {
    if value == "bochs" {
        return Some(ExitDoor::Bochs);
    }
    let number = value.strip_prefix("isa:")?;
    let digits = number.strip_prefix("0x")?;
    u16::from_str_radix(digits, 16).ok().map(ExitDoor::IsaDebugExit)
}

/// True if a physical address is RAM of whatever use, not a device.
pub(super) fn is_ram(address: PhysAddr) -> bool {
    let ram = |kind| {
        !matches!(
            kind,
            MemoryKind::Reserved | MemoryKind::Bad | MemoryKind::Framebuffer
        )
    };
    INFO.get().is_some_and(|info| {
        info.memory_map.iter().any(|region| {
            ram(region.kind)
                && address
                    .as_u64()
                    .checked_sub(region.base.as_u64())
                    .is_some_and(|offset| offset < region.length)
        })
    })
}

/// The command line's decoding, on lines whose meaning is known.
pub(super) fn check_options() -> Result<(), &'static str> {
    let line = "log=debug  exit=isa:0xf4 quiet test=";
    if find_option(line, "log") != Some("debug") || find_option(line, "quiet") != Some("") {
        return Err("a key was not found");
    }
    if find_option(line, "test") != Some("") || find_option(line, "exi").is_some() {
        return Err("an empty value, or a prefix of a key");
    }
    if parse_door("isa:0xf4") != Some(ExitDoor::IsaDebugExit(0xf4))
        || parse_door("bochs") != Some(ExitDoor::Bochs)
    {
        return Err("a door was not found");
    }
    if parse_door("isa:f4").is_some() || parse_door("isa:0x1ffff").is_some() || parse_door("").is_some() {
        return Err("a broken door was taken");
    }
    Ok(())
}
