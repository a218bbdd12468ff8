//! The order of events from the loader's information to the kernel's entry point.
//!
//! Memory is claimed before anything is allocated, everything is allocated before the memory map is reported, and
//! the other CPUs are started after the final page tables are complete, since they wait in them.

mod error;
mod memory;
mod processors;

use core::convert::Infallible;

use dragonet_boot::acpi::{FixedDescription, InterruptControllers, find_root_pointer, find_table};
use dragonet_boot::efi::{self, ConfigurationTables};
use dragonet_boot::elf_plan::LoadPlan;
use dragonet_boot::memory_map::{Kind, page_ceiling};
use dragonet_boot::multiboot::BootInformation;
use dragonet_boot::requests::{Feature, Requests};
use dragonet_boot::responses::{Arena, Facts, Processors, answer, arena_size};
use dragonet_boot::{DIRECT_MAP_BASE, PAGE_SIZE, PhysicalMemory, REACHABLE_END, smbios};

use crate::machine::apic::LocalApic;
use crate::machine::clock::Clock;
use crate::machine::memory::{IdentityMapped, owned};
use crate::machine::{cpu, handoff, interrupts};
use crate::say;
use error::StageError;
use memory::{build_address_space, claimed_map, settle_modules};
use processors::{Starting, Structures, start_processors};

/// The name of the module that is the kernel.
const KERNEL: &str = "kernel";

/// The smallest stack, and the one a kernel gets that does not ask for another, in bytes.
const SMALLEST_STACK: u64 = 64 << 10;

/// The largest stack that is taken for a sensible wish.
const LARGEST_STACK: u64 = 64 << 20;

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
    let position = information
        .modules
        .iter()
        .position(|module| module.name() == KERNEL);
    let position = position.ok_or(StageError::NoKernel(modules.len()))?;
    let mut others = modules.clone();
    let mut kernel = others.remove(position);
    kernel.string = information.command_line;

    let file = IdentityMapped
        .bytes(kernel.start, kernel.size)
        .ok_or(StageError::Unreadable)?;
    let plan = LoadPlan::new(file).map_err(StageError::Plan)?;
    let image_start = map.allocate(plan.size, PAGE_SIZE, REACHABLE_END, Kind::ExecutableAndModules)?;
    // SAFETY: just allocated, used through this reference only.
    let image = unsafe { owned(image_start, plan.size) };
    plan.load(file, image);
    let requests = Requests::scan(image).map_err(StageError::Scan)?;
    let wishes = Wishes::new(&requests, &plan)?;

    let fixed = tables
        .rsdp
        .and_then(|root| find_table(&IdentityMapped, root, b"FACP"));
    let clock = Clock::new(&fixed.map(FixedDescription::new).unwrap_or_default());
    let controllers = tables
        .rsdp
        .and_then(|root| find_table(&IdentityMapped, root, b"APIC"));
    let controllers = controllers.map(InterruptControllers::new).unwrap_or_default();
    interrupts::mask_io_apics(&controllers);

    let stack = map.allocate(
        wishes.stack,
        PAGE_SIZE,
        REACHABLE_END,
        Kind::BootloaderReclaimable,
    )?;
    let texts = information.command_line.len()
        + information
            .modules
            .iter()
            .map(|module| module.string.len() + 2)
            .sum::<usize>();
    let size = arena_size(controllers.processors.len() + 1, modules.len(), texts);
    let arena_start = map.allocate(size, PAGE_SIZE, REACHABLE_END, Kind::BootloaderReclaimable)?;
    // SAFETY: just allocated, used through this reference only.
    let mut arena = Arena::new(unsafe { owned(arena_start, size) }, DIRECT_MAP_BASE + arena_start);

    let page_table = build_address_space(&mut map, &plan, image_start, requests.revision)?;
    let mut structures = Structures::new();
    let mut processors = None;
    if let Some(request) = requests.get(Feature::Multiprocessor)
        && let Some(mut apic) = LocalApic::new()
    {
        if request.parameters[0] & 1 != 0 && LocalApic::x2apic_available() {
            apic.enable_x2apic();
        }
        apic.prepare();
        let starting = Starting {
            apic,
            clock: &clock,
            page_table,
            stack: wishes.stack,
        };
        start_processors(&starting, &controllers, &mut map, &mut arena, &mut structures)?;
        processors = Some(Processors {
            x2apic: apic.is_x2apic(),
            boot_apic_id: apic.id(),
            structures: &structures,
        });
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
        let entry = requests
            .get(Feature::EntryPoint)
            .map_or(plan.entry, |request| request.parameters[0]);
        if !plan.may_execute(entry) {
            return Err(StageError::EntryPoint(entry));
        }
        let stack = requests
            .get(Feature::StackSize)
            .map_or(0, |request| request.parameters[0]);
        if stack > LARGEST_STACK {
            return Err(StageError::Stack(stack));
        }
        let least_levels = requests
            .get(Feature::PagingMode)
            .map_or(0, |request| match request.revision {
                0 => 0,
                _ => request.parameters[2],
            });
        match least_levels {
            0 => Ok(Wishes {
                entry,
                stack: page_ceiling(stack.max(SMALLEST_STACK)),
            }),
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
            ConfigurationTables {
                rsdp: find_root_pointer(memory),
                smbios_32,
                smbios_64,
            }
        }
    };
    tables.rsdp = tables.rsdp.or(information.rsdp_copy);
    tables
}
