//! How fast the TSC and the APIC timer count, measured against a clock whose rate is known.
//!
//! Every loop is bounded: an emulator's clocks may stand still against each other, and a wrong answer with a warning is better
//! than a boot that hangs. What CPUID claims is a last resort, because emulators pass on a model's figures.

use super::acpi::PowerTimer;
use super::hpet::Hpet;
use super::{apic, clock, cpu, pit};
use x86_64::instructions::port::Port;

/// Length of a measurement in nanoseconds.
const DURATION: u64 = 20_000_000;
const ROUNDS: usize = 3;
/// Readings of a reference clock, which take a microsecond or so each on real hardware, until the measurement is given up, ...
const PATIENCE: u32 = 5_000_000;
/// ... and until a clock that has not moved at all is.
const STILL: u32 = 20_000;
/// Believable frequencies. Emulators go down to a few MHz.
const PLAUSIBLE: core::ops::RangeInclusive<u64> = 1_000_000..=20_000_000_000;
/// What is assumed when nothing can be measured or read.
const ASSUMED: u64 = 1_000_000_000;
/// Ticks of ACPI's power management timer a second (ACPI 6.5, 4.8.3.3).
const POWER_TIMER_FREQUENCY: u64 = 3_579_545;

/// A clock of known rate.
#[derive(Clone, Copy, Debug)]
enum Reference {
    Hpet(Hpet),
    Power(PowerTimer),
    Pit,
}

impl Reference {
    fn name(self) -> &'static str {
        match self {
            Reference::Hpet(_) => "HPET",
            Reference::Power(_) => "ACPI timer",
            Reference::Pit => "PIT",
        }
    }

    fn counter(self) -> u64 {
        match self {
            Reference::Hpet(hpet) => hpet.counter(),
            // SAFETY: FADT says that the timer is at this port; reading it has no effect.
            Reference::Power(timer) => u64::from(unsafe { Port::<u32>::new(timer.port).read() }),
            Reference::Pit => pit::counter(),
        }
    }

    fn nanoseconds(self, from: u64, to: u64) -> u64 {
        match self {
            Reference::Hpet(hpet) => hpet.nanoseconds(from, to),
            Reference::Power(timer) => {
                let mask = if timer.is_32_bit { 0xffff_ffff } else { 0x00ff_ffff };
                (to.wrapping_sub(from) & mask) * 1_000_000_000 / POWER_TIMER_FREQUENCY
            }
            Reference::Pit => (to.wrapping_sub(from) & 0xffff) * 1_000_000_000 / pit::FREQUENCY,
        }
    }

    /// TSC and counter at the same moment: the tightest of a few readings, since an emulator may be held up in between.
    fn pair(self) -> (u64, u64) {
        let mut best = (u64::MAX, 0, 0);
        for _ in 0..5 {
            let before = clock::tsc();
            let counter = self.counter();
            let after = clock::tsc();
            let width = after.wrapping_sub(before);
            if width < best.0 {
                best = (width, before.wrapping_add(width / 2), counter);
            }
        }
        (best.1, best.2)
    }

    /// Ticks of the TSC a second; none if the counter stands still.
    fn measure(self) -> Option<u64> {
        let (start_tsc, start) = self.pair();
        for reading in 0..PATIENCE {
            let now = self.counter();
            if self.nanoseconds(start, now) >= DURATION {
                let (end_tsc, end) = self.pair();
                return frequency(end_tsc.wrapping_sub(start_tsc), self.nanoseconds(start, end));
            }
            if now == start && reading >= STILL {
                break;
            }
        }
        None
    }
}

fn frequency(ticks: u64, nanoseconds: u64) -> Option<u64> {
    let frequency = u128::from(ticks) * 1_000_000_000 / u128::from(nanoseconds.max(1));
    u64::try_from(frequency)
        .ok()
        .filter(|frequency| PLAUSIBLE.contains(frequency))
}

/// The middle of a few measurements; one that was disturbed does not count.
fn median(mut measure: impl FnMut() -> Option<u64>) -> Option<u64> {
    let mut results = [0; ROUNDS];
    for result in &mut results {
        *result = measure()?;
    }
    results.sort_unstable();
    Some(results[ROUNDS / 2])
}

/// Measures the TSC and sets the clock's rate.
pub(super) fn calibrate_tsc(hpet: Option<Hpet>, power_timer: Option<PowerTimer>) {
    pit::start();
    let references = [
        hpet.map(Reference::Hpet),
        power_timer.map(Reference::Power),
        Some(Reference::Pit),
    ];
    for reference in references.into_iter().flatten() {
        match median(|| reference.measure()) {
            Some(frequency) => return accept(frequency, reference.name()),
            None => log::warn!("{} does not run against the TSC", reference.name()),
        }
    }
    match cpu::features()
        .claimed_tsc_frequency
        .filter(|frequency| PLAUSIBLE.contains(frequency))
    {
        Some(frequency) => {
            log::warn!("no clock to measure the TSC with; taking what CPUID claims");
            accept(frequency, "CPUID");
        }
        None => {
            log::warn!("no clock to measure the TSC with; times are a guess");
            accept(ASSUMED, "nothing");
        }
    }
}

fn accept(frequency: u64, by: &str) {
    clock::set_frequency(frequency);
    let invariant = if cpu::features().invariant_tsc {
        ", invariant"
    } else {
        ""
    };
    log::info!(
        "TSC {}.{:03} MHz by {by}{invariant}",
        frequency / 1_000_000,
        frequency / 1000 % 1000
    );
}

/// Measures the APIC timer against the TSC, where it is needed.
pub(super) fn calibrate_apic_timer() {
    if cpu::features().tsc_deadline {
        log::info!("{} timer takes TSC deadlines", apic::mode());
        return;
    }
    let measure = || {
        let start = clock::now();
        let counts = apic::count_during(|| {
            for _ in 0..PATIENCE {
                if clock::now() - start >= DURATION {
                    break;
                }
            }
        });
        let elapsed = clock::now() - start;
        let frequency = u128::from(counts) * 1_000_000_000 / u128::from(elapsed.max(1));
        u64::try_from(frequency).ok().filter(|&frequency| frequency > 0)
    };
    let frequency = median(measure).unwrap_or_else(|| {
        log::warn!("the APIC timer does not count; assuming that it counts like the TSC");
        clock::tsc_frequency()
    });
    apic::set_timer_frequency(frequency);
    log::info!(
        "{} timer {}.{:03} MHz",
        apic::mode(),
        frequency / 1_000_000,
        frequency / 1000 % 1000
    );
}
