//! The hardware on for all CPUs, or for none.
//!
//! Every CPU turns it on in a context of its own and then waits for the verdict, so that what turned it on is there to turn it off
//! again: a roll-back needs nothing that might be missing.

use core::sync::atomic::{AtomicU64, Ordering};
use invalidation::Word;

/// In `stage`: on everywhere, whatever else is set.
const ON: u64 = 1;
/// In `stage`: somebody is turning it on.
const CHANGING: u64 = 2;

/// No verdict yet.
const PENDING: u64 = 0;
/// It stays on.
const STAY: u64 = 1;
/// It is turned off again.
const BACK: u64 = 2;

/// What the caller of [`Switch::turn_on`] brings.
pub trait Cpus {
    /// Why it does not work.
    type Error;

    /// CPUs there are, at most 64.
    fn count(&self) -> usize;

    /// Makes everything ready that CPUs need.
    ///
    /// # Errors
    /// If that is not possible.
    fn prepare(&self) -> Result<(), Self::Error>;

    /// Has CPU number `cpu` call [`Switch::take_part`] soon, in a context that may wait there.
    ///
    /// # Errors
    /// If it will not.
    fn start(&self, cpu: usize) -> Result<(), Self::Error>;

    /// Passes some time.
    fn wait(&self);

    /// CPUs, a bit each, refuse; it is off everywhere.
    fn refused(&self, cpus: u64) -> Self::Error;
}

/// One CPU that takes part.
pub trait ThisCpu {
    /// Turns the hardware on here. False if the CPU refuses.
    fn turn_on(&self) -> bool;

    /// Turns it off again.
    fn turn_off(&self);

    /// Passes some time.
    fn wait(&self);
}

/// The state of the hardware on all CPUs together.
#[derive(Debug)]
pub struct Switch<W> {
    stage: W,
    /// CPUs that have done what they were asked for last, a bit each.
    done: W,
    /// CPUs that refused.
    refused: W,
    verdict: W,
}

impl Switch<AtomicU64> {
    /// Off. For constants.
    #[must_use]
    pub const fn new_const() -> Self {
        Switch {
            stage: AtomicU64::new(0),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            verdict: AtomicU64::new(PENDING),
        }
    }
}

impl<W: Word> Switch<W> {
    /// Off.
    #[must_use]
    pub fn new() -> Self {
        Switch {
            stage: W::new(0),
            done: W::new(0),
            refused: W::new(0),
            verdict: W::new(PENDING),
        }
    }

    /// Turns the hardware on on all CPUs, if it is not. Of several callers one does it and the others wait; if that fails, the next one tries
    /// again.
    ///
    /// # Errors
    /// Those of [`Cpus`]. It is off everywhere then.
    pub fn turn_on<C: Cpus>(&self, cpus: &C) -> Result<(), C::Error> {
        loop {
            if self.stage.load(Ordering::SeqCst) & ON != 0 {
                return Ok(());
            }
            match self.stage.fetch_or(CHANGING, Ordering::SeqCst) {
                0 => break,
                before if before & ON != 0 => return Ok(()),
                _ => cpus.wait(),
            }
        }
        let result = self.change(cpus);
        let stage = if result.is_ok() { ON } else { 0 };
        self.stage.store(stage, Ordering::SeqCst);
        result
    }

    fn change<C: Cpus>(&self, cpus: &C) -> Result<(), C::Error> {
        cpus.prepare()?;
        for (word, value) in [(&self.done, 0), (&self.refused, 0), (&self.verdict, PENDING)] {
            word.store(value, Ordering::SeqCst);
        }
        let mut asked = 0;
        let mut result = Ok(());
        for cpu in 0..cpus.count() {
            result = cpus.start(cpu);
            if result.is_err() {
                break;
            }
            asked |= 1 << cpu;
        }
        self.await_done(cpus, asked);
        let refused = self.refused.load(Ordering::SeqCst);
        if result.is_ok() && refused == 0 {
            self.verdict.store(STAY, Ordering::SeqCst);
            return Ok(());
        }
        // Nobody touches this before there is a verdict.
        self.done.store(0, Ordering::SeqCst);
        self.verdict.store(BACK, Ordering::SeqCst);
        self.await_done(cpus, asked);
        result.and_then(|()| Err(cpus.refused(refused)))
    }

    fn await_done<C: Cpus>(&self, cpus: &C, asked: u64) {
        while self.done.load(Ordering::SeqCst) != asked {
            cpus.wait();
        }
    }

    /// CPU number `index`'s part, as [`Cpus::start`] has asked for.
    pub fn take_part<H: ThisCpu>(&self, index: usize, cpu: &H) {
        let bit = 1 << index;
        let on = cpu.turn_on();
        if !on {
            self.refused.fetch_or(bit, Ordering::SeqCst);
        }
        self.done.fetch_or(bit, Ordering::SeqCst);
        let verdict = loop {
            match self.verdict.load(Ordering::SeqCst) {
                PENDING => cpu.wait(),
                verdict => break verdict,
            }
        };
        if verdict == BACK {
            if on {
                cpu.turn_off();
            }
            self.done.fetch_or(bit, Ordering::SeqCst);
        }
    }
}

impl<W: Word> Default for Switch<W> {
    fn default() -> Self {
        Self::new()
    }
}
