//! VMX on and off: on for every CPU before the first guest, off before the machine stops.
//!
//! The crate `guest-mode` decides who turns it on, when, and what happens if a CPU refuses, see [`Switch`]. A CPU takes part in a thread that
//! may run only there.

use super::capability::{self, Machine};
use crate::arch::irq::IrqGuard;
use crate::arch::vmx::{self, recorded};
use crate::arch::{clock, cpu};
use crate::mm::frame::{self, Frame};
use crate::pmap::NestedKind;
use crate::sched;
use core::sync::atomic::AtomicU64;
use dragonet_abi::Errno;
use guest_mode::{Cpus, Switch, ThisCpu};
use spin::Once;

static SWITCH: Switch<AtomicU64> = Switch::new_const();
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
    SWITCH.turn_on(&AllCpus(machine)).map(|()| machine)
}

/// Lets others run while it waits.
fn wait() {
    sched::park(clock::now() + INTERVAL);
}

struct AllCpus(&'static Machine);

impl Cpus for AllCpus {
    type Error = Errno;

    fn count(&self) -> usize {
        cpu::count()
    }

    fn prepare(&self) -> Result<(), Errno> {
        for region in &REGIONS[..cpu::count()] {
            if region.get().is_none() {
                let mut page = frame::allocate()?;
                page.zero();
                page.bytes()[..4].copy_from_slice(&self.0.support.revision.to_le_bytes());
                region.call_once(|| page);
            }
        }
        Ok(())
    }

    fn start(&self, cpu: usize) -> Result<(), Errno> {
        sched::spawn_kernel_thread(take_part, PRIORITY, 1 << cpu)
    }

    fn wait(&self) {
        wait();
    }

    fn refused(&self, cpus: u64) -> Errno {
        log::warn!("VMX cannot be turned on everywhere: CPUs {cpus:#b} refuse");
        Errno::ENODEV
    }
}

/// A CPU's part, in a thread that may run only there.
fn take_part() {
    SWITCH.take_part(cpu::index(), &Here);
}

struct Here;

impl ThisCpu for Here {
    fn turn_on(&self) -> bool {
        let guard = IrqGuard::new();
        let index = cpu::index();
        match (recorded::recorded(index), REGIONS[index].get()) {
            (Some(Ok(capabilities)), Some(region)) => {
                recorded::allow(capabilities.feature_control());
                // SAFETY: the CPU supports VMX and was just allowed to use it; the region has the revision, is this CPU's alone and stays.
                unsafe { vmx::turn_on(guard.witness(), region.address()) }
            }
            _ => false,
        }
    }

    fn turn_off(&self) {
        let guard = IrqGuard::new();
        vmx::turn_off(guard.witness());
    }

    fn wait(&self) {
        wait();
    }
}
