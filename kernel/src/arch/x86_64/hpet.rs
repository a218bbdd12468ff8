//! The high precision event timer, used as a reference clock while the TSC is measured.

use core::ptr::NonNull;
use volatile::VolatilePtr;
use x86_64::{PhysAddr, VirtAddr};

const CAPABILITIES: u64 = 0x000;
const CONFIGURATION: u64 = 0x010;
const COUNTER: u64 = 0x0f0;
const ENABLE: u64 = 1 << 0;
/// A tick is at most 100 ns (HPET specification 1.0a, 2.3.4), given in femtoseconds.
const LONGEST_PERIOD: u64 = 100_000_000;

/// A running HPET.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hpet {
    base: VirtAddr,
    period: u64,
    is_64_bit: bool,
}

impl Hpet {
    /// Maps and starts the timer. None if it cannot be mapped or says nonsense about itself.
    pub(super) fn new(address: PhysAddr) -> Option<Self> {
        let base = crate::pmap::map_device(address, 4096).ok()?;
        let mut hpet = Hpet {
            base,
            period: 0,
            is_64_bit: false,
        };
        let capabilities = hpet.register(CAPABILITIES).read();
        hpet.period = capabilities >> 32;
        hpet.is_64_bit = capabilities & 1 << 13 != 0;
        if hpet.period == 0 || hpet.period > LONGEST_PERIOD {
            return None;
        }
        hpet.register(CONFIGURATION)
            .update(|configuration| configuration | ENABLE);
        Some(hpet)
    }

    fn register(&self, offset: u64) -> VolatilePtr<'static, u64> {
        // SAFETY: inside the timer's registers, which are mapped for good; aligned, not null.
        unsafe { VolatilePtr::new(NonNull::new_unchecked((self.base + offset).as_mut_ptr())) }
    }

    /// The counter.
    pub(super) fn counter(&self) -> u64 {
        self.register(COUNTER).read()
    }

    /// Nanoseconds between two readings that are less than a turn of the counter (minutes at least) apart.
    pub(super) fn nanoseconds(&self, from: u64, to: u64) -> u64 {
        let mut ticks = to.wrapping_sub(from);
        if !self.is_64_bit {
            ticks &= 0xffff_ffff;
        }
        (u128::from(ticks) * u128::from(self.period) / 1_000_000) as u64
    }
}
