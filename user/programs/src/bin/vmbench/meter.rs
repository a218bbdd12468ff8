//! Measuring: ticks and counters around a number of operations.

use core::hint::black_box;
use dragonet_abi::Errno;
use dragonet_abi::counters::{ALL_CPUS, COUNTERS, Counter};
use dragonet_programs::bench::Cost;
use dragonet_rt::{cycles, system};

/// Runs of each measurement; the one that took the least counts.
const RUNS: u32 = 8;
/// Runs where only events are counted, which are always the same.
const EVENT_RUNS: u32 = 2;
/// More ticks than a look at them takes, and less than any interrupt.
const INTERRUPTION: u64 = 64;

/// What is measured, and what measuring costs.
pub struct Meter {
    /// Ticks are instructions of one CPU.
    counts: bool,
    /// Events of reading the counters.
    reading: [u64; COUNTERS],
}

impl Meter {
    /// Finds out what can be measured here.
    pub fn new(cpus: u32) -> Result<Self, Errno> {
        let mut meter = Meter {
            counts: cpus == 1 && cycles::ticks_are_instructions(),
            reading: [0; COUNTERS],
        };
        let nothing = meter.measure(1, || Ok(()), |(), _| Ok(()))?;
        meter.reading = nothing.events;
        Ok(meter)
    }

    /// True if ticks are instructions.
    pub const fn counts(&self) -> bool {
        self.counts
    }

    /// Costs of `operation`, done `operations` times in each of several runs, less those of an empty loop. `prepare` comes before
    /// each run and is not measured.
    pub fn measure<P>(
        &self,
        operations: u64,
        mut prepare: impl FnMut() -> Result<P, Errno>,
        mut operation: impl FnMut(&mut P, u64) -> Result<(), Errno>,
    ) -> Result<Cost, Errno> {
        let mut best: Option<Cost> = None;
        let mut least_events = [u64::MAX; COUNTERS];
        let runs = if self.counts { RUNS } else { EVENT_RUNS };
        for _ in 0..runs {
            let mut prepared = prepare()?;
            let empty = ticks_of(operations, |_| Ok(()))?;
            let before = system::counters(ALL_CPUS)?;
            let ticks = ticks_of(operations, |index| operation(&mut prepared, index))?;
            let after = system::counters(ALL_CPUS)?;
            drop(prepared);
            for (least, (after, (before, reading))) in least_events
                .iter_mut()
                .zip(after.iter().zip(before.iter().zip(&self.reading)))
            {
                *least = (*least).min((after - before).saturating_sub(*reading));
            }
            let instructions = ticks.saturating_sub(empty);
            if best
                .as_ref()
                .is_none_or(|best| best.instructions > Some(instructions))
            {
                best = Some(Cost {
                    operations,
                    instructions: Some(instructions),
                    events: least_events,
                });
            }
        }
        let best = best.ok_or(Errno::EINVAL)?;
        Ok(Cost {
            instructions: best.instructions.filter(|_| self.counts),
            events: least_events,
            ..best
        })
    }

    /// Costs of what interrupts this thread, until it has done so `count` times: what passes between two looks at the ticks, less what
    /// passes when nothing interrupts.
    pub fn interruptions(&self, count: u64) -> Result<Cost, Errno> {
        let before = system::counters(ALL_CPUS)?;
        let (mut seen, mut total, mut usual) = (0, 0, u64::MAX);
        let mut last = cycles::ticks();
        while seen < count {
            let now = cycles::ticks();
            let gap = now - last;
            last = now;
            if gap < INTERRUPTION {
                usual = usual.min(gap);
            } else {
                (seen, total) = (seen + 1, total + gap);
            }
        }
        let after = system::counters(ALL_CPUS)?;
        let mut events = self.reading;
        for (event, (after, before)) in events.iter_mut().zip(after.iter().zip(&before)) {
            *event = (after - before).saturating_sub(*event);
        }
        Ok(Cost {
            operations: count,
            instructions: Some(total.saturating_sub(count * usual)).filter(|_| self.counts),
            events,
        })
    }
}

/// Ticks of a loop of operations.
fn ticks_of(operations: u64, mut operation: impl FnMut(u64) -> Result<(), Errno>) -> Result<u64, Errno> {
    let start = cycles::ticks();
    for index in 0..operations {
        operation(black_box(index))?;
    }
    Ok(cycles::ticks() - start)
}

/// `cost` as that of `factor` times as many operations.
pub const fn divided(mut cost: Cost, factor: u64) -> Cost {
    cost.operations *= factor;
    cost
}

/// `cost` less `part` of each operation, in instructions and in pages zeroed.
pub fn without(cost: &Cost, part: &Cost) -> Cost {
    let per_operation = part.instructions.map(|total| total / part.operations);
    let instructions = cost
        .instructions
        .zip(per_operation)
        .map(|(all, each)| all.saturating_sub(each * cost.operations));
    Cost {
        instructions,
        ..cost.clone()
    }
}

/// Counters of one CPU or all, and by how much they have grown since.
pub struct Window {
    cpu: u64,
    before: [u64; COUNTERS],
}

impl Window {
    /// From now on.
    pub fn open(cpu: u64) -> Result<Self, Errno> {
        let before = system::counters(cpu)?;
        Ok(Window { cpu, before })
    }

    /// Events of one kind until now.
    pub fn count(&self, counter: Counter) -> Result<u64, Errno> {
        let now = system::counters(self.cpu)?;
        Ok(now[counter as usize] - self.before[counter as usize])
    }
}
