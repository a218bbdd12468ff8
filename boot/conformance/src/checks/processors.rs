//! The other CPUs.

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use limine::mp::{Cpu, ResponseFlags};
use x86_64::instructions::segmentation::{CS, SS, Segment};
use x86_64::instructions::tables::sgdt;
use x86_64::registers::model_specific::Msr;

use super::machine;
use crate::check::{Outcome, Why, present};
use crate::entry::{self, RDI, RSP, Registers, processor_entry};
use crate::requests::*;
use crate::require;
use crate::walk;

const MOST: usize = 256;

/// What each CPU found in its registers.
static SAVED: [Registers; MOST] = [const { [const { AtomicU64::new(0) }; 17] }; MOST];

/// CPUs that have arrived, and those among them that found something wrong.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);

/// The boot CPU's page tables.
static ROOT: AtomicU64 = AtomicU64::new(0);

/// The local APIC's id.
fn apic_id() -> u32 {
    // SAFETY: every x86-64 CPU has the register that says in which mode the APIC is.
    let base = unsafe { Msr::new(0x1b).read() };
    if base & (1 << 10) != 0 {
        // SAFETY: the APIC is in x2APIC mode.
        return unsafe { Msr::new(0x802).read() as u32 };
    }
    __cpuid(1).ebx >> 24
}

/// The list has this CPU in it, all ids are different, and no CPU has been sent anywhere.
pub fn list() -> Outcome {
    let answer = present(PROCESSORS.get_response(), "answer")?;
    let cpus = answer.cpus();
    for wanted in words("cpus") {
        require!(
            wanted.parse() == Ok(cpus.len()),
            "{} CPUs, not {wanted}",
            cpus.len()
        );
    }
    require!(
        answer.bsp_lapic_id() == apic_id(),
        "the boot CPU is {}, not {}",
        apic_id(),
        answer.bsp_lapic_id()
    );
    let boot = cpus
        .iter()
        .filter(|cpu| cpu.lapic_id == answer.bsp_lapic_id())
        .count();
    require!(boot == 1, "the boot CPU is {boot} times in the list");
    for (index, cpu) in cpus.iter().enumerate() {
        let again = cpus[..index].iter().any(|other| other.lapic_id == cpu.lapic_id);
        require!(!again, "CPU {} is there twice", cpu.lapic_id);
        // SAFETY: the word is part of the structure; it is read as the waiting CPU reads it.
        let address = unsafe { (&raw const cpu.goto_address).cast::<u64>().read_volatile() };
        require!(address == 0, "CPU {} has the address {address:#x}", cpu.lapic_id);
    }
    let x2apic = answer.flags().contains(ResponseFlags::X2APIC);
    let available = __cpuid(1).ecx & (1 << 21) != 0;
    // SAFETY: as in `apic_id`.
    let active = unsafe { Msr::new(0x1b).read() } & (1 << 10) != 0;
    require!(
        x2apic == active,
        "x2APIC mode: answered {x2apic}, in fact {active}"
    );
    require!(
        !cfg!(feature = "x2apic") || x2apic == available,
        "x2APIC mode is there: {available}, on: {x2apic}"
    );
    Ok(())
}

/// Every CPU arrives, all at the same time, with the state that the protocol promises.
pub fn run() -> Outcome {
    let answer = present(PROCESSORS.get_response(), "answer")?;
    let others = || {
        answer
            .cpus()
            .iter()
            .filter(|cpu| cpu.lapic_id != answer.bsp_lapic_id())
    };
    ROOT.store(walk::root(), Ordering::SeqCst);
    for (saved, cpu) in SAVED.iter().zip(others()) {
        cpu.extra.store((&raw const *saved) as u64, Ordering::SeqCst);
        cpu.goto_address.write(processor_entry);
    }
    const PATIENCE: u64 = 2_000_000_000;
    let wanted = others().count();
    for _ in 0..PATIENCE {
        if ARRIVED.load(Ordering::SeqCst) == wanted {
            break;
        }
        core::hint::spin_loop();
    }
    let arrived = ARRIVED.load(Ordering::SeqCst);
    require!(arrived == wanted, "{arrived} of {wanted} CPUs arrived");
    require!(
        WRONG.load(Ordering::SeqCst) == 0,
        "a CPU is not in the promised state"
    );
    for (index, (saved, cpu)) in SAVED.iter().zip(others()).enumerate() {
        machine::zero(saved, RDI)?;
        machine::flags(saved)?;
        machine::stack_of(saved)?;
        require!(
            entry::read(saved, RDI) == (&raw const **cpu) as u64,
            "RDI of CPU {}",
            cpu.lapic_id
        );
        let top = entry::read(saved, RSP);
        let earlier = SAVED[..index].iter().map(|other| entry::read(other, RSP));
        for other in earlier.chain([entry::read(&entry::BOOT, RSP)]) {
            require!(
                other.abs_diff(top) >= STACK,
                "CPU {} shares a stack",
                cpu.lapic_id
            );
        }
    }
    Ok(())
}

/// The state of a CPU that only it can see.
fn own_state(cpu: &Cpu) -> Result<(), Why> {
    machine::control_registers()?;
    machine::page_attributes()?;
    require!(apic_id() == cpu.lapic_id, "CPU {} is {}", cpu.lapic_id, apic_id());
    require!(
        CS::get_reg().0 == 5 * 8 && SS::get_reg().0 == 6 * 8,
        "segments of CPU {}",
        cpu.lapic_id
    );
    let table = sgdt();
    require!(
        usize::from(table.limit) + 1 >= 7 * 8,
        "segment table of CPU {}",
        cpu.lapic_id
    );
    require!(
        table.base.as_u64() >= direct_map(),
        "segment table of CPU {}",
        cpu.lapic_id
    );
    require!(
        walk::root() == ROOT.load(Ordering::SeqCst),
        "page tables of CPU {}",
        cpu.lapic_id
    );
    Ok(())
}

/// Called by the entry code of the other CPUs.
pub extern "C" fn arrived(cpu: &Cpu, _saved: &Registers) -> ! {
    if own_state(cpu).is_err() {
        WRONG.fetch_add(1, Ordering::SeqCst);
    }
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
