//! Which CPUs are started, and what they are given.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;
use dragonet_boot::acpi::{InterruptControllers, MOST_PROCESSORS};
use dragonet_boot::memory_map::{Kind, MemoryMap};
use dragonet_boot::responses::Arena;
use dragonet_boot::{PAGE_SIZE, REACHABLE_END};

use super::error::StageError;
use crate::machine::apic::LocalApic;
use crate::machine::clock::Clock;
use crate::machine::processors::Starter;
use crate::say;

/// Virtual addresses of the structures of the CPUs that run.
pub type Structures = ArrayVec<u64, { MOST_PROCESSORS + 1 }>;

/// What starting a CPU takes.
pub struct Starting<'clock> {
    /// The boot CPU's APIC.
    pub apic: LocalApic,
    /// For the pauses between the interrupts.
    pub clock: &'clock Clock,
    /// The final top-level table.
    pub page_table: u64,
    /// Bytes of each stack.
    pub stack: u64,
}

/// Starts every CPU that firmware lists, and collects the structures of those that run, in firmware's order.
pub fn start_processors(
    starting: &Starting<'_>,
    controllers: &InterruptControllers,
    map: &mut MemoryMap,
    arena: &mut Arena<'_>,
    structures: &mut Structures,
) -> Result<(), StageError> {
    const ONE_MIB: u64 = 1 << 20;
    let own = starting.apic.id();
    if controllers
        .processors
        .iter()
        .all(|processor| processor.apic_id != own)
    {
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
            say!(
                "dragonet: boot: CPU {} needs x2APIC mode, left out",
                processor.apic_id
            );
            continue;
        }
        if starter.is_none() {
            match map.allocate(PAGE_SIZE, PAGE_SIZE, ONE_MIB, Kind::BootloaderReclaimable) {
                Ok(page) => {
                    starter = Some(Starter::new(
                        starting.apic,
                        starting.clock,
                        page,
                        starting.page_table,
                    ));
                }
                Err(_) => {
                    say!("dragonet: boot: no memory below 1 MiB, the other CPUs are left out");
                    break;
                }
            }
        }
        let stack = map.allocate(
            starting.stack,
            PAGE_SIZE,
            REACHABLE_END,
            Kind::BootloaderReclaimable,
        )?;
        let started = starter
            .as_ref()
            .is_some_and(|s| s.start(processor.apic_id, stack + starting.stack, structure));
        match started {
            true => structures.push(structure),
            false => say!(
                "dragonet: boot: CPU {} does not answer, left out",
                processor.apic_id
            ),
        }
    }
    Ok(())
}
