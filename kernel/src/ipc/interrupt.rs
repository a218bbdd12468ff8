//! Interrupt lines of devices, for drivers in user space.
//!
//! A line belongs to one [`Interrupt`] object at a time. When it fires it posts a virtual interrupt to the bound thread. A
//! level-triggered line is masked by then; the driver serves the device and acknowledges, which unmasks it. An edge-triggered
//! line stays open, because an edge that comes while it is masked is lost.

use crate::arch::ioapic::{self, InterruptLine};
use crate::arch::irq::IrqsOff;
use crate::debug::counters;
use crate::proc::Thread;
use crate::sync::{Rank, SpinLock};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use dragonet_abi::counters::Counter;
use dragonet_abi::{Errno, Rights};

/// An interrupt line that a driver owns.
pub struct Interrupt {
    line: InterruptLine,
}

struct Owned {
    line: InterruptLine,
    /// Thread and bit that the line posts to.
    bound: Option<(Weak<Thread>, u8)>,
}

static LINES: SpinLock<Vec<Owned>> = SpinLock::new(Rank::Interrupt, Vec::new());

impl Interrupt {
    /// Takes a line, masked.
    ///
    /// # Errors
    /// EBUSY when it has an owner; ENODEV when the machine does not have it.
    pub fn claim(line: InterruptLine) -> Result<Arc<Self>, Errno> {
        let mut lines = LINES.lock();
        if lines.iter().any(|owned| owned.line == line) {
            return Err(Errno::EBUSY);
        }
        ioapic::route(line, 0)?;
        ioapic::mask(line);
        lines.push(Owned { line, bound: None });
        Ok(Arc::new(Interrupt { line }))
    }

    /// From now on the line posts `bit` to `thread`. Unmasks the line.
    pub fn bind(&self, thread: &Arc<Thread>, bit: u8) {
        let mut lines = LINES.lock();
        if let Some(owned) = lines.iter_mut().find(|owned| owned.line == self.line) {
            owned.bound = Some((Arc::downgrade(thread), bit));
        }
        drop(lines);
        ioapic::unmask(self.line);
    }

    /// Lets the line fire again.
    pub fn acknowledge(&self) {
        ioapic::unmask(self.line);
    }

    /// Rights of a new interrupt handle.
    pub const RIGHTS: Rights = Rights::INTERRUPT.union(Rights::DUPLICATE).union(Rights::TRANSFER);
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        ioapic::mask(self.line);
        LINES.lock().retain(|owned| owned.line != self.line);
    }
}

/// A line has fired on this CPU.
pub fn on_device_interrupt(line: InterruptLine, _irqs: &IrqsOff) {
    counters::count(Counter::DeviceInterrupt);
    let bound = {
        let lines = LINES.lock();
        let owned = lines.iter().find(|owned| owned.line == line);
        owned
            .and_then(|owned| owned.bound.as_ref())
            .and_then(|(thread, bit)| Some((thread.upgrade()?, *bit)))
    };
    if let Some((thread, bit)) = bound {
        thread.post(1 << bit);
    }
}
