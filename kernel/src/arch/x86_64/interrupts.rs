//! Interrupt vectors and where each goes.

use super::irq::IrqsOff;
use super::trap::TrapFrame;
use super::{apic, cpu, ioapic};
use crate::debug::counters;
use core::sync::atomic::Ordering;
use dragonet_abi::counters::Counter;

/// The PICs are masked, but a spurious interrupt cannot be: these vectors are theirs.
pub(super) const PIC_BASE: u8 = 0x20;
const PIC_END: u8 = 0x30;
/// First vector for interrupt lines of devices.
pub(super) const DEVICE_BASE: u8 = 0x30;
/// First vector above them. A higher vector has the higher priority (SDM 3A 11.8.3.1).
pub(super) const DEVICE_END: u8 = 0xe0;

/// Vectors with a fixed use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Vector {
    /// This CPU's timer.
    Timer = 0xe8,
    /// Another CPU asks this one to look at its work bits.
    Reschedule = 0xf0,
    /// Another CPU wants translations dropped.
    Shootdown = 0xf1,
    /// The watchdog asks whether this CPU takes interrupts.
    Ping = 0xf2,
    /// The local APIC saw an error.
    ApicError = 0xfe,
    /// An interrupt that went away before it was delivered.
    Spurious = 0xff,
}

const TIMER: u8 = Vector::Timer as u8;
const RESCHEDULE: u8 = Vector::Reschedule as u8;
const SHOOTDOWN: u8 = Vector::Shootdown as u8;
const PING: u8 = Vector::Ping as u8;
const APIC_ERROR: u8 = Vector::ApicError as u8;
const SPURIOUS: u8 = Vector::Spurious as u8;

/// Handles the interrupt of `frame`. Interrupts are off and stay off.
///
/// The end of interrupt is signalled before the handler runs, so that a handler may switch threads: with interrupts
/// off, nothing of the same or lower priority can come in between. A level-triggered line is masked first
/// (`ioapic::on_interrupt`), else it would come again at once.
pub(super) fn dispatch(frame: &mut TrapFrame) {
    // SAFETY: an interrupt gate turned interrupts off, and nothing below turns them on.
    let irqs = unsafe { IrqsOff::assume() };
    let local = cpu::slot(&irqs);
    local.interrupt_depth.fetch_add(1, Ordering::Relaxed);
    local.beat();
    match frame.vector as u8 {
        TIMER => {
            apic::end_of_interrupt();
            apic::on_timer(&irqs);
        }
        RESCHEDULE => {
            apic::end_of_interrupt();
            counters::count(Counter::IpiReceived);
            crate::trap::on_reschedule(&irqs);
        }
        SHOOTDOWN => {
            apic::end_of_interrupt();
            counters::count(Counter::IpiReceived);
            crate::pmap::on_shootdown(&irqs);
        }
        PING => apic::end_of_interrupt(),
        APIC_ERROR => {
            apic::end_of_interrupt();
            apic::on_error();
        }
        // Neither of the two was accepted by the local APIC, so neither ends there (SDM 3A 11.9).
        SPURIOUS | PIC_BASE..PIC_END => {}
        vector @ DEVICE_BASE..DEVICE_END => ioapic::on_interrupt(vector, &irqs),
        vector => {
            apic::end_of_interrupt();
            log::warn!("interrupt with unused vector {vector:#x}");
        }
    }
    local.interrupt_depth.fetch_sub(1, Ordering::Relaxed);
}
