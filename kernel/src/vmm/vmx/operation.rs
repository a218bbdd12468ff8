//! VMX on and off: on for every CPU before the first guest, off before the machine stops.
//!
//! A CPU turns it on in a thread that may run only there. If one refuses, those that did not turn it off again the same way, and
//! guest mode stays off until the next attempt.

use super::capability::{self, Machine};
use crate::arch::irq::IrqGuard;
use crate::arch::vmx::{self, recorded};
use crate::arch::{clock, cpu};
use crate::mm::frame::{self, Frame};
use crate::pmap::NestedKind;
use crate::sched;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use dragonet_abi::Errno;
use spin::Once;

/// Off everywhere.
const OFF: u8 = 0;
/// Somebody is turning it on.
const CHANGING: u8 = 1;
/// On everywhere.
const ON: u8 = 2;

static STAGE: AtomicU8 = AtomicU8::new(OFF);
/// CPUs that have done what they were asked, a bit each.
static DONE: AtomicU64 = AtomicU64::new(0);
/// CPUs that refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Each CPU's region; it stays, since VMX stays on.
static REGIONS: [Once<Frame>; cpu::MAX_CPUS] = [const { Once::new() }; cpu::MAX_CPUS];

/// How often a waiting thread looks, in nanoseconds.
const INTERVAL: u64 = 200_000;
/// Priority of the threads that change CPUs: above all programs, so that they come soon.
const PRIORITY: u8 = 31;

/// Turns guest mode on, if it is not, and says what nested tables can be.
///
/// # Errors
/// ENODEV if the machine has none; ENOMEM.
pub fn turn_on() -> Result<NestedKind, Errno> {
    turn_on_everywhere().map(|machine| NestedKind {
        accessed_dirty: machine.support.accessed_dirty,
        large_pages: machine.support.pages_2m,
    })
}

/// Turns VMX on on every CPU, if it is not.
///
/// # Errors
/// ENODEV if the machine has no guest mode or a CPU refuses; ENOMEM.
pub(super) fn turn_on_everywhere() -> Result<&'static Machine, Errno> {
    let machine = capability::support().map_err(|why| {
        log::debug!("no guest mode: {why}");
        Errno::ENODEV
    })?;
    loop {
        match STAGE.compare_exchange(OFF, CHANGING, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => break,
            Err(ON) => return Ok(machine),
            Err(_) => sched::park(clock::now() + INTERVAL),
        }
    }
    let result = change_all(machine);
    STAGE.store(if result.is_ok() { ON } else { OFF }, Ordering::SeqCst);
    result.map(|()| machine)
}

fn change_all(machine: &'static Machine) -> Result<(), Errno> {
    for region in &REGIONS[..cpu::count()] {
        if region.get().is_none() {
            let mut page = frame::allocate()?;
            page.zero();
            page.bytes()[..4].copy_from_slice(&machine.support.revision.to_le_bytes());
            region.call_once(|| page);
        }
    }
    REFUSED.store(0, Ordering::SeqCst);
    let asked = run_on_all(turn_on_here);
    let refused = REFUSED.load(Ordering::SeqCst);
    if asked.is_ok() && refused == 0 {
        return Ok(());
    }
    log::warn!("VMX cannot be turned on everywhere: CPUs {refused:#b} refuse");
    // Without memory for these threads VMX stays on where it is, which harms nobody.
    let _ = run_on_all(turn_off_here);
    asked.and(Err(Errno::ENODEV))
}

/// Runs `action` in a thread on every CPU and waits until all have.
fn run_on_all(action: fn()) -> Result<(), Errno> {
    DONE.store(0, Ordering::SeqCst);
    let mut asked = 0;
    let mut result = Ok(());
    for index in 0..cpu::count() {
        match sched::spawn_kernel_thread(action, PRIORITY, 1 << index) {
            Ok(()) => asked |= 1 << index,
            Err(error) => result = Err(error),
        }
    }
    while DONE.load(Ordering::SeqCst) != asked {
        sched::park(clock::now() + INTERVAL);
    }
    result
}

fn turn_on_here() {
    let guard = IrqGuard::new();
    let index = cpu::index();
    let on = match (recorded::recorded(index), REGIONS[index].get()) {
        (Some(Ok(capabilities)), Some(region)) => {
            recorded::allow(capabilities.feature_control());
            // SAFETY: the CPU supports VMX and was just allowed to use it; the region has the revision, is this CPU's alone and stays.
            unsafe { vmx::turn_on(guard.witness(), region.address()) }
        }
        _ => false,
    };
    if !on {
        REFUSED.fetch_or(1 << index, Ordering::SeqCst);
    }
    DONE.fetch_or(1 << index, Ordering::SeqCst);
}

fn turn_off_here() {
    let guard = IrqGuard::new();
    vmx::turn_off(guard.witness());
    DONE.fetch_or(1 << cpu::index(), Ordering::SeqCst);
}
