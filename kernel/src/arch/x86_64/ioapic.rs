//! I/O APICs: interrupt lines of devices.

use super::irq::IrqsOff;
use super::{apic, cpu, interrupts};
use crate::sync::{Rank, SpinLock};
use arrayvec::ArrayVec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use dragonet_abi::Errno;
use volatile::VolatilePtr;
use x86_64::{PhysAddr, VirtAddr};

const MAX_CONTROLLERS: usize = 16;
/// Legacy lines, which MADT's overrides may move.
const ISA_LINES: usize = 16;
const DEVICE_VECTORS: usize = (interrupts::DEVICE_END - interrupts::DEVICE_BASE) as usize;

const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
/// Where the data register stands after the index register, in bytes.
const DATA_OFFSET: u64 = 0x10;

/// An interrupt line of the machine: global system interrupt number and how the device drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptLine {
    global: u32,
    active_low: bool,
    level: bool,
}

impl InterruptLine {
    /// Global system interrupt number.
    pub fn global(self) -> u32 {
        self.global
    }

    /// True if the line stays asserted until the device is served. It is masked at each interrupt then, and whoever
    /// serves the device unmasks it.
    pub fn is_level(self) -> bool {
        self.level
    }

    /// One number that [`InterruptLine::unpack`] takes; never 0.
    fn pack(self) -> u32 {
        self.global << 3 | u32::from(self.active_low) << 2 | u32::from(self.level) << 1 | 1
    }

    fn unpack(packed: u32) -> Option<Self> {
        (packed != 0).then_some(InterruptLine {
            global: packed >> 3,
            active_low: packed & 4 != 0,
            level: packed & 2 != 0,
        })
    }
}

struct Controller {
    base: VirtAddr,
    first_line: u32,
    lines: u32,
}

impl Controller {
    fn select(&self, index: u32) -> VolatilePtr<'static, u32> {
        // SAFETY: `base` is where the controller's registers are mapped for good.
        unsafe {
            let select = NonNull::new_unchecked(self.base.as_mut_ptr::<u32>());
            VolatilePtr::new(select).write(index);
            VolatilePtr::new(NonNull::new_unchecked(
                (self.base + DATA_OFFSET).as_mut_ptr::<u32>(),
            ))
        }
    }

    fn read(&self, index: u32) -> u32 {
        self.select(index).read()
    }

    fn write(&self, index: u32, value: u32) {
        self.select(index).write(value);
    }
}

static CONTROLLERS: SpinLock<ArrayVec<Controller, MAX_CONTROLLERS>> =
    SpinLock::new(Rank::InterruptController, ArrayVec::new_const());

/// The packed line of each device vector; 0 = free.
static VECTORS: [AtomicU32; DEVICE_VECTORS] = [const { AtomicU32::new(0) }; DEVICE_VECTORS];
/// Where each legacy line goes, packed.
static ISA: [AtomicU32; ISA_LINES] = [const { AtomicU32::new(0) }; ISA_LINES];
/// Interrupts of lines that nobody has routed.
static UNEXPECTED: AtomicUsize = AtomicUsize::new(0);

/// Adds a controller that MADT names, with all its lines masked.
pub(super) fn add(address: PhysAddr, first_line: u32) {
    let Ok(base) = crate::pmap::map_device(address, 4096) else {
        log::error!("no memory to map the I/O APIC at {address:?}");
        return;
    };
    let mut controllers = CONTROLLERS.lock();
    let mut controller = Controller {
        base,
        first_line,
        lines: 0,
    };
    controller.lines = (controller.read(VERSION) >> 16 & 0xff) + 1;
    for line in 0..controller.lines {
        controller.write(REDIRECTION + line * 2, MASKED);
    }
    let (first, last) = (first_line, first_line + controller.lines - 1);
    let full = controllers.try_push(controller).is_err();
    drop(controllers);
    if full {
        log::warn!("more than {MAX_CONTROLLERS} I/O APICs; lines {first}..={last} are not used");
    } else {
        log::debug!("I/O APIC at {address:?}: lines {first}..={last}");
    }
}

/// Sets where legacy line `irq` goes (MADT interrupt source override).
pub(super) fn set_isa_line(irq: u8, global: u32, active_low: bool, level: bool) {
    if let Some(slot) = ISA.get(usize::from(irq)) {
        slot.store(
            InterruptLine {
                global,
                active_low,
                level,
            }
            .pack(),
            Ordering::Relaxed,
        );
    }
}

/// Count of controllers in use.
pub fn controllers() -> usize {
    CONTROLLERS.lock().len()
}

/// The line of a legacy interrupt, overrides applied; none for numbers above 15 or lines that no controller has.
pub fn isa_line(irq: u8) -> Option<InterruptLine> {
    let slot = ISA.get(usize::from(irq))?;
    // Without an override: same number, edge, active high (ACPI 6.5, 5.2.12.5).
    let identity = InterruptLine {
        global: u32::from(irq),
        active_low: false,
        level: false,
    };
    let line = InterruptLine::unpack(slot.load(Ordering::Relaxed)).unwrap_or(identity);
    exists(line.global).then_some(line)
}

/// A line by global system interrupt number, as PCI devices use it: level, active low. None if no controller has it.
pub fn global_line(global: u32) -> Option<InterruptLine> {
    exists(global).then_some(InterruptLine {
        global,
        active_low: true,
        level: true,
    })
}

fn exists(global: u32) -> bool {
    with_entry(global, |_, _| ()).is_ok()
}

/// Calls `action` with the controller of a line and the index of the low word of its redirection entry.
fn with_entry<R>(global: u32, action: impl FnOnce(&Controller, u32) -> R) -> Result<R, Errno> {
    let controllers = CONTROLLERS.lock();
    let owner = controllers.iter().find(|controller| {
        global
            .checked_sub(controller.first_line)
            .is_some_and(|line| line < controller.lines)
    });
    let controller = owner.ok_or(Errno::ENODEV)?;
    Ok(action(
        controller,
        REDIRECTION + (global - controller.first_line) * 2,
    ))
}

/// Sends the interrupts of a line to a CPU from now on. The line stays, or becomes, masked.
///
/// # Errors
/// ENODEV: no controller has the line. EBUSY: no vector is free. EINVAL: the CPU's number does not fit a redirection entry.
pub fn route(line: InterruptLine, cpu_index: usize) -> Result<(), Errno> {
    let destination = u8::try_from(cpu::by_index(cpu_index).apic_id()).map_err(|_| Errno::EINVAL)?;
    if !exists(line.global) {
        return Err(Errno::ENODEV);
    }
    let vector = vector_for(line)?;
    let mut low = u32::from(vector) | MASKED;
    if line.level {
        low |= LEVEL;
    }
    if line.active_low {
        low |= ACTIVE_LOW;
    }
    with_entry(line.global, |controller, index| {
        controller.write(index, MASKED);
        controller.write(index + 1, u32::from(destination) << 24);
        controller.write(index, low);
    })
}

fn vector_for(line: InterruptLine) -> Result<u8, Errno> {
    let same_line = |packed| InterruptLine::unpack(packed).is_some_and(|other| other.global == line.global);
    let number = |position: usize| interrupts::DEVICE_BASE + position as u8;
    if let Some(position) = VECTORS
        .iter()
        .position(|slot| same_line(slot.load(Ordering::Acquire)))
    {
        VECTORS[position].store(line.pack(), Ordering::Release);
        return Ok(number(position));
    }
    let claim = |slot: &AtomicU32| {
        slot.compare_exchange(0, line.pack(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    VECTORS.iter().position(claim).map(number).ok_or(Errno::EBUSY)
}

/// Stops the interrupts of a line. An edge that comes meanwhile is lost.
pub fn mask(line: InterruptLine) {
    change(line, |low| low | MASKED);
}

/// Lets the interrupts of a line through.
pub fn unmask(line: InterruptLine) {
    change(line, |low| low & !MASKED);
}

fn change(line: InterruptLine, change: impl FnOnce(u32) -> u32) {
    let done = with_entry(line.global, |controller, index| {
        let low = controller.read(index);
        controller.write(index, change(low));
    });
    if done.is_err() {
        log::error!("interrupt line {} has gone", line.global);
    }
}

/// An interrupt with a device vector arrived at this CPU.
pub(super) fn on_interrupt(vector: u8, irqs: &IrqsOff) {
    let slot = VECTORS[usize::from(vector - interrupts::DEVICE_BASE)].load(Ordering::Acquire);
    let Some(line) = InterruptLine::unpack(slot) else {
        apic::end_of_interrupt();
        UNEXPECTED.fetch_add(1, Ordering::Relaxed);
        log::warn!("interrupt with vector {vector:#x}, which no line has");
        return;
    };
    if line.level {
        // Asserted until the device is served: masked before the end of interrupt, it does not come again at once.
        mask(line);
    }
    apic::end_of_interrupt();
    crate::trap::on_device_interrupt(line, irqs);
}
