//! The order of events from the loader's information to the kernel's entry point.
//!
//! Memory is claimed before anything is allocated, everything is allocated before the memory map is reported, and
//! the other CPUs are started after the final page tables are complete, since they wait in them.

use core::convert::Infallible;

use arrayvec::ArrayVec;
use dragonet_boot::acpi::{FixedDescription, InterruptControllers, MOST_PROCESSORS, find_root_pointer, find_table};
use dragonet_boot::direct_map::{identity_ranges, ranges};
use dragonet_boot::efi::{self, ConfigurationTables};
use dragonet_boot::elf_plan::{LoadPlan, PlanError};
use dragonet_boot::memory_map::{Kind, MapError, MemoryMap, Region, page_ceiling, page_floor};
use dragonet_boot::multiboot::{BootInformation, MOST_MODULES, Module};
use dragonet_boot::page_table::{Access, PageTables, TableError};
use dragonet_boot::requests::{Feature, Requests, ScanError};
use dragonet_boot::responses::{Arena, ArenaFull, Facts, File, Processors, answer, arena_size};
use dragonet_boot::{DIRECT_MAP_BASE, PAGE_SIZE, PhysicalMemory, REACHABLE_END, smbios};

use crate::machine::apic::LocalApic;
use crate::machine::clock::Clock;
use crate::machine::memory::{IdentityMapped, TableFrames, owned};
use crate::machine::processors::Starter;
use crate::machine::{cpu, handoff, interrupts, stage_range};
use crate::say;

/// The name of the module that is the kernel.
const KERNEL: &str = "kernel";

/// The smallest stack, and the one a kernel gets that does not ask for another, in bytes.
const SMALLEST_STACK: u64 = 64 << 10;

/// The largest stack that is taken for a sensible wish.
const LARGEST_STACK: u64 = 64 << 20;

/// Why the kernel cannot be entered.
#[derive(Clone, Copy, Debug)]
pub enum StageError {
    /// No module is named `kernel`; this many have other names.
    NoKernel(usize),
    /// The kernel module is empty or out of reach.
    Unreadable,
    /// The kernel's file.
    Plan(PlanError),
    /// The kernel's requests.
    Scan(ScanError),
    /// The memory map.
    Map(MapError),
    /// The page tables.
    Table(TableError),
    /// The answers did not fit.
    Answers,
    /// The kernel asks for this entry point, which is not executable.
    EntryPoint(u64),
    /// The kernel asks for a stack of this many bytes.
    Stack(u64),
    /// The kernel wants more than four levels of page tables.
    PagingMode,
}

impl core::fmt::Display for StageError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StageError::NoKernel(0) => write!(formatter, "the loader passed no module, so no kernel"),
            StageError::NoKernel(others) => {
                write!(formatter, "none of the {others} modules is named `kernel`")
            }
            StageError::Unreadable => write!(formatter, "the module `kernel` is empty"),
            StageError::Plan(error) => error.fmt(formatter),
            StageError::Scan(error) => error.fmt(formatter),
            StageError::Map(error) => error.fmt(formatter),
            StageError::Table(TableError::OutOfMemory) => {
                write!(formatter, "too little memory for page tables")
            }
            StageError::Table(TableError::Occupied(address)) => {
                write!(formatter, "the kernel's page at {address:#x} is in the way of the direct map")
            }
            StageError::Answers => write!(formatter, "the answers to the kernel's requests need more room"),
            StageError::EntryPoint(address) => {
                write!(formatter, "the requested entry point {address:#x} is in no executable segment")
            }
            StageError::Stack(size) => write!(formatter, "the kernel asks for a stack of {size} bytes"),
            StageError::PagingMode => write!(formatter, "the kernel needs five levels of page tables"),
        }
    }
}

impl From<MapError> for StageError {
    fn from(error: MapError) -> Self {
        StageError::Map(error)
    }
}

impl From<TableError> for StageError {
    fn from(error: TableError) -> Self {
        StageError::Table(error)
    }
}

impl From<ArenaFull> for StageError {
    fn from(_: ArenaFull) -> Self {
        StageError::Answers
    }
}

/// Loads and enters the kernel. Returns only if that is impossible.
///
/// # Errors
/// See [`StageError`].
pub fn run(information: &BootInformation<'_>) -> Result<Infallible, StageError> {
    interrupts::mask_legacy_controllers();
    cpu::prepare();
    let tables = firmware_tables(information);

    let mut map = claimed_map(information)?;
    let modules = settle_modules(information, &mut map)?;
    let position = information.modules.iter().position(|module| module.name() == KERNEL);
    let position = position.ok_or(StageError::NoKernel(modules.len()))?;
    let mut others = modules.clone();
    let mut kernel = others.remove(position);
    kernel.string = information.command_line;

    let file = IdentityMapped.bytes(kernel.start, kernel.size).ok_or(StageError::Unreadable)?;
    let plan = LoadPlan::new(file).map_err(StageError::Plan)?;
    let image_start = map.allocate(plan.size, PAGE_SIZE, REACHABLE_END, Kind::ExecutableAndModules)?;
    // SAFETY: just allocated, used through this reference only.
    let image = unsafe { owned(image_start, plan.size) };
    plan.load(file, image);
    let requests = Requests::scan(image).map_err(StageError::Scan)?;
    let wishes = Wishes::new(&requests, &plan)?;

    let fixed = tables.rsdp.and_then(|root| find_table(&IdentityMapped, root, b"FACP"));
    let clock = Clock::new(&fixed.map(FixedDescription::new).unwrap_or_default());
    let controllers = tables.rsdp.and_then(|root| find_table(&IdentityMapped, root, b"APIC"));
    let controllers = controllers.map(InterruptControllers::new).unwrap_or_default();
    interrupts::mask_io_apics(&controllers);

    let stack = map.allocate(wishes.stack, PAGE_SIZE, REACHABLE_END, Kind::BootloaderReclaimable)?;
    let texts = information.command_line.len()
        + information.modules.iter().map(|module| module.string.len() + 2).sum::<usize>();
    let size = arena_size(controllers.processors.len() + 1, modules.len(), texts);
    let arena_start = map.allocate(size, PAGE_SIZE, REACHABLE_END, Kind::BootloaderReclaimable)?;
    // SAFETY: just allocated, used through this reference only.
    let mut arena = Arena::new(unsafe { owned(arena_start, size) }, DIRECT_MAP_BASE + arena_start);

    let page_table = build_address_space(&mut map, &plan, image_start, requests.revision)?;
    let mut structures: ArrayVec<u64, { MOST_PROCESSORS + 1 }> = ArrayVec::new();
    let mut processors = None;
    if let Some(request) = requests.get(Feature::Multiprocessor)
        && let Some(mut apic) = LocalApic::new()
    {
        if request.parameters[0] & 1 != 0 && LocalApic::x2apic_available() {
            apic.enable_x2apic();
        }
        apic.prepare();
        let starting = Starting { apic, clock: &clock, page_table, stack: wishes.stack };
        start_processors(&starting, &controllers, &mut map, &mut arena, &mut structures)?;
        processors =
            Some(Processors { x2apic: apic.is_x2apic(), boot_apic_id: apic.id(), structures: &structures });
    }

    let facts = Facts {
        loader: ("Dragonet boot stage", env!("CARGO_PKG_VERSION")),
        kernel,
        modules: &others,
        framebuffer: information.framebuffer,
        rsdp: tables.rsdp,
        smbios: (tables.smbios_32, tables.smbios_64),
        efi_system_table: information.efi_system_table,
        efi_memory_map: information
            .efi_memory_map
            .map(|efi_map| (efi_map.descriptors.as_ptr() as u64, efi_map)),
        time: clock.unix_time(),
        image: (image_start, plan.base),
        processors,
        regions: map.regions(),
    };
    answer(&requests, image, &mut arena, &facts)?;
    requests.acknowledge_revision(image);
    say!(
        "dragonet: boot: {}, kernel at {:#x}, {} CPUs, {} modules, {} MiB free",
        information.loader,
        image_start,
        structures.len().max(1),
        others.len(),
        map.total(Kind::Usable) >> 20
    );
    // SAFETY: the tables are complete and map the stage, the stack and the image; the entry point is executable.
    unsafe { handoff::enter_kernel(page_table, wishes.entry, DIRECT_MAP_BASE + stack + wishes.stack) }
}

/// The parameters of the kernel's requests that decide how it is entered.
struct Wishes {
    entry: u64,
    stack: u64,
}

impl Wishes {
    fn new(requests: &Requests, plan: &LoadPlan) -> Result<Self, StageError> {
        let entry = requests.get(Feature::EntryPoint).map_or(plan.entry, |request| request.parameters[0]);
        if !plan.may_execute(entry) {
            return Err(StageError::EntryPoint(entry));
        }
        let stack = requests.get(Feature::StackSize).map_or(0, |request| request.parameters[0]);
        if stack > LARGEST_STACK {
            return Err(StageError::Stack(stack));
        }
        let least_levels = requests.get(Feature::PagingMode).map_or(0, |request| match request.revision {
            0 => 0,
            _ => request.parameters[2],
        });
        match least_levels {
            0 => Ok(Wishes { entry, stack: page_ceiling(stack.max(SMALLEST_STACK)) }),
            _ => Err(StageError::PagingMode),
        }
    }
}

/// Where the firmware's tables are, by the best source there is.
fn firmware_tables(information: &BootInformation<'_>) -> ConfigurationTables {
    let memory = &IdentityMapped;
    let mut tables = match information.efi_system_table {
        Some(system_table) => efi::configuration_tables(memory, system_table),
        None => {
            let (smbios_32, smbios_64) = smbios::find_entry_points(memory);
            ConfigurationTables { rsdp: find_root_pointer(memory), smbios_32, smbios_64 }
        }
    };
    tables.rsdp = tables.rsdp.or(information.rsdp_copy);
    tables
}

/// The memory map with everything claimed that is in use already.
fn claimed_map(information: &BootInformation<'_>) -> Result<MemoryMap, StageError> {
    let efi = information.efi_memory_map.as_ref().and_then(efi::regions);
    let mut firmware = efi.unwrap_or_else(|| information.memory.clone());
    if let Some(framebuffer) = &information.framebuffer {
        let (start, end) = (framebuffer.address, framebuffer.address.saturating_add(framebuffer.size()));
        let region = Region { start, end, kind: Kind::Framebuffer };
        firmware.try_push(region).map_err(|_| MapError::TooManyRegions)?;
    }
    let mut map = MemoryMap::from_firmware(&firmware)?;
    let (start, end) = stage_range();
    map.claim(start, end, Kind::BootloaderReclaimable)?;
    for &(start, end) in &information.ranges {
        map.claim(start, end, Kind::BootloaderReclaimable)?;
    }
    for module in &information.modules {
        map.claim(module.start, module.end, Kind::BootloaderReclaimable)?;
    }
    Ok(map)
}

/// The modules in memory of their own. One that is not on page boundaries, or shares a page with something else, is
/// copied.
fn settle_modules<'text>(
    information: &BootInformation<'text>,
    map: &mut MemoryMap,
) -> Result<ArrayVec<File<'text>, MOST_MODULES>, StageError> {
    let mut files = ArrayVec::new();
    for (index, module) in information.modules.iter().enumerate() {
        let size = module.end.saturating_sub(module.start);
        let start = if size == 0 || has_own_pages(information, index, module) {
            map.claim(module.start, module.end, Kind::ExecutableAndModules)?;
            module.start
        } else {
            let copy = map.allocate(size, PAGE_SIZE, REACHABLE_END, Kind::ExecutableAndModules)?;
            let original = IdentityMapped.bytes(module.start, size).ok_or(StageError::Unreadable)?;
            // SAFETY: just allocated, used through this reference only.
            unsafe { owned(copy, size) }.copy_from_slice(original);
            copy
        };
        let path = if module.path() == module.string { module.name() } else { module.path() };
        files.push(File { start, size, path, string: module.name() });
    }
    Ok(files)
}

/// Whether nothing else is in the pages of a module.
fn has_own_pages(information: &BootInformation<'_>, index: usize, module: &Module<'_>) -> bool {
    let (start, end) = (page_floor(module.start), page_ceiling(module.end));
    let apart = |other: (u64, u64)| other.1 <= start || end <= other.0;
    let others = information.modules.iter().enumerate().filter(|(other, _)| *other != index);
    module.start == start
        && others.map(|(_, other)| (other.start, other.end)).all(apart)
        && information.ranges.iter().copied().all(apart)
        && apart(stage_range())
}

/// Builds the address space in which the kernel is entered; returns its top-level table.
fn build_address_space(
    map: &mut MemoryMap,
    plan: &LoadPlan,
    image_start: u64,
    revision: u64,
) -> Result<u64, StageError> {
    let regions = map.clone();
    let mut frames = TableFrames::new(map);
    let mut tables = PageTables::new(&mut frames, cpu::has_no_execute())?;
    let mut mapped = plan.base;
    for segment in &plan.segments {
        // Neighbours with the same permissions may share a page.
        let (start, end) = (segment.pages().0.max(mapped), segment.pages().1);
        let access =
            Access { writable: segment.writable, executable: segment.executable, write_combining: false };
        tables.map(start, image_start + (start - plan.base), end.saturating_sub(start), access)?;
        mapped = mapped.max(end);
    }
    let everything = |write_combining| Access { writable: true, executable: true, write_combining };
    for range in ranges(regions.regions(), revision) {
        let (address, size) = (DIRECT_MAP_BASE + range.start, range.end - range.start);
        tables.map(address, range.start, size, everything(range.write_combining))?;
    }
    for range in identity_ranges(regions.regions(), revision) {
        tables.map(range.start, range.start, range.end - range.start, everything(range.write_combining))?;
    }
    Ok(tables.root())
}

/// What starting a CPU takes.
struct Starting<'clock> {
    apic: LocalApic,
    clock: &'clock Clock,
    page_table: u64,
    stack: u64,
}

/// Starts every CPU that firmware lists, and collects the structures of those that run, in firmware's order.
fn start_processors(
    starting: &Starting<'_>,
    controllers: &InterruptControllers,
    map: &mut MemoryMap,
    arena: &mut Arena<'_>,
    structures: &mut ArrayVec<u64, { MOST_PROCESSORS + 1 }>,
) -> Result<(), StageError> {
    const ONE_MIB: u64 = 1 << 20;
    let own = starting.apic.id();
    if controllers.processors.iter().all(|processor| processor.apic_id != own) {
        structures.push(arena.processor(0, own)?);
    }
    let mut starter = None;
    for processor in &controllers.processors {
        let structure = arena.processor(processor.uid, processor.apic_id)?;
        if processor.apic_id == own {
            structures.push(structure);
            continue;
        }
        if processor.apic_id > 255 && !starting.apic.is_x2apic() {
            say!("dragonet: boot: CPU {} needs x2APIC mode, left out", processor.apic_id);
            continue;
        }
        if starter.is_none() {
            match map.allocate(PAGE_SIZE, PAGE_SIZE, ONE_MIB, Kind::BootloaderReclaimable) {
                Ok(page) => {
                    starter = Some(Starter::new(starting.apic, starting.clock, page, starting.page_table));
                }
                Err(_) => {
                    say!("dragonet: boot: no memory below 1 MiB, the other CPUs are left out");
                    break;
                }
            }
        }
        let stack = map.allocate(starting.stack, PAGE_SIZE, REACHABLE_END, Kind::BootloaderReclaimable)?;
        let started =
            starter.as_ref().is_some_and(|s| s.start(processor.apic_id, stack + starting.stack, structure));
        match started {
            true => structures.push(structure),
            false => say!("dragonet: boot: CPU {} does not answer, left out", processor.apic_id),
        }
    }
    Ok(())
}
