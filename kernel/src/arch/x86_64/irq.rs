//! Interrupts of this CPU on and off, with witnesses.

use core::marker::PhantomData;
use x86_64::instructions::interrupts;

/// Proof that interrupts are off on this CPU. Made only by guards and by the trap entry; it cannot go to another CPU.
#[derive(Debug)]
pub struct IrqsOff {
    not_send: PhantomData<*const ()>,
}

impl IrqsOff {
    /// Claims that interrupts are off.
    ///
    /// # Safety
    /// 1. Interrupts are off on this CPU now.
    /// 2. They stay off for as long as the value or a reference to it is used.
    pub(super) const unsafe fn assume() -> Self {
        IrqsOff {
            not_send: PhantomData,
        }
    }
}

/// Turns interrupts off while it lives and then puts them back as they were. Guards nest: drop them in reverse order.
#[must_use]
#[derive(Debug)]
pub struct IrqGuard {
    were_enabled: bool,
    off: IrqsOff,
}

impl IrqGuard {
    /// Turns interrupts off.
    #[inline]
    #[expect(clippy::new_without_default, reason = "making a guard has an effect")]
    pub fn new() -> Self {
        let were_enabled = interrupts::are_enabled();
        if were_enabled {
            interrupts::disable();
        }
        // SAFETY: they are off now, and only dropping the guard or an explicit `enable` turns them on.
        IrqGuard {
            were_enabled,
            off: unsafe { IrqsOff::assume() },
        }
    }

    /// Proof that interrupts are off, for as long as the guard lives.
    #[inline]
    pub fn witness(&self) -> &IrqsOff {
        &self.off
    }
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        if self.were_enabled {
            interrupts::enable();
        }
    }
}

/// True if this CPU takes interrupts now.
#[inline]
pub fn enabled() -> bool {
    interrupts::are_enabled()
}

/// Turns interrupts on. For code that begins with them off for good reason (a new thread); everything else uses a guard.
#[inline]
pub fn enable() {
    interrupts::enable();
}

/// Turns interrupts off until further notice. For code that never returns; everything else uses a guard.
#[inline]
pub fn disable() {
    interrupts::disable();
}

/// Sleeps until the next interrupt, with nothing lost between the caller's last check (made under `guard`) and the sleep: STI
/// takes effect only after the instruction that follows it (SDM 2B, STI). The guard is spent: on return interrupts are
/// as they were before it.
pub fn wait_for_interrupt(guard: IrqGuard) {
    let cpu = super::cpu::slot(guard.witness());
    cpu.note_idle(true);
    interrupts::enable_and_hlt();
    cpu.note_idle(false);
    if !guard.were_enabled {
        interrupts::disable();
    }
    core::mem::forget(guard);
}
