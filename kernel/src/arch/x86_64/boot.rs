//! Kernel entry, and what the boot loader says about the machine.

pub use super::command_line::option;

use super::{boot_answers, clock, control, cpu, features, frame_memory, interrupt_table, segments, serial};
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ops::Range;
use spin::Once;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::{PhysAddr, VirtAddr};

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
    let info = INFO.call_once(boot_answers::read);
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
    if Cr4::read().contains(Cr4Flags::L5_PAGING) {
        crate::debug::panic::refuse("the boot loader turned five-level paging on");
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
    let mut names = arrayvec::ArrayString::<160>::new();
    for name in features.names() {
        // Names that do not fit are left out.
        let _ = names
            .try_push_str(name)
            .and_then(|()| names.try_push(' ').map_err(|_| arrayvec::CapacityError::new("")));
    }
    log::debug!("{} physical address bits; {names}", features.physical_bits);
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

/// Notes where the direct map is, first of all answers.
pub(super) fn set_hhdm_offset(offset: u64) {
    HHDM_OFFSET.call_once(|| offset);
}

/// Where physical address 0 stands in the direct map.
///
/// # Panics
/// Before the boot loader's answers are read.
pub fn hhdm_offset() -> u64 {
    *HHDM_OFFSET.get().expect("the direct map is known first")
}

/// The command line; none before it is read.
pub(super) fn command_line() -> Option<&'static str> {
    Some(INFO.get()?.command_line)
}

/// What the boot loader said.
///
/// # Panics
/// Before it is read, which is the first thing that happens at boot.
pub fn info() -> &'static BootInfo {
    INFO.get().expect("the boot loader's answers are read first")
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
