//! What families build their stages from: users that run until something happens, words that only grow, moments in which a page
//! may be missing.

use super::problem::{Outcome, doing};
use super::signature::Signature;
use super::team::INTERRUPT;
use crate::demand;
use crate::random::Random;
use crate::vm::{Guest, Ram, Seen, code, fixed, run_for};
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_TIMEOUT, RUN_VIRTUAL_INTERRUPT, RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle};
use dragonet_rt::syscall;

/// Runs a user until something happens that is its own doing: a run that is interrupted by the leader, or that is a short one, which every now
/// and then it is, goes on where it was.
pub fn run(vmspace: Handle, registers: RegisterFrame, random: &mut Random) -> Outcome<RunState> {
    run_with(
        |registers, timeout| run_for(vmspace, registers, timeout),
        registers,
        random,
    )
}

/// As [`run`], for users that `enter` runs for at most so many nanoseconds.
pub fn run_with(
    enter: impl Fn(RegisterFrame, u64) -> Result<RunState, Errno>,
    registers: RegisterFrame,
    random: &mut Random,
) -> Outcome<RunState> {
    let mut registers = registers;
    loop {
        let timeout = match random.below(4) {
            0 => 20_000 + random.below(200_000),
            _ => FOREVER,
        };
        let state = uninterrupted(&enter, registers, timeout).map_err(doing("running a user"))?;
        if state.reason != RUN_TIMEOUT {
            return Ok(state);
        }
        registers = state.registers;
    }
}

/// Runs a user for at most `timeout` nanoseconds, more if the leader interrupts it.
///
/// # Errors
/// Those of `vmspace_ctl`.
pub fn run_uninterrupted(vmspace: Handle, registers: RegisterFrame, timeout: u64) -> Result<RunState, Errno> {
    uninterrupted(
        |registers, timeout| run_for(vmspace, registers, timeout),
        registers,
        timeout,
    )
}

fn uninterrupted(
    enter: impl Fn(RegisterFrame, u64) -> Result<RunState, Errno>,
    registers: RegisterFrame,
    timeout: u64,
) -> Result<RunState, Errno> {
    let mut state = enter(registers, timeout)?;
    while state.reason == RUN_VIRTUAL_INTERRUPT {
        syscall::virq_take(INTERRUPT)?;
        state = enter(state.registers, timeout)?;
    }
    Ok(state)
}

/// Moments in which a page may be missing, or may not allow what it does at other times.
#[derive(Debug, Default)]
pub struct Holes(AtomicU64);

impl Holes {
    /// A hole begins.
    pub fn open(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// It ends.
    pub fn close(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// The present, to be taken before an access.
    pub fn stamp(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// True if a fault since `stamp` may be due to a hole.
    pub fn excuse(&self, stamp: u64) -> bool {
        stamp % 2 == 1 || self.stamp() != stamp
    }
}

/// What the watcher of a growing word saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It was within the limits at every look.
    Fine,
    /// A page fault with this error code.
    Fault(u64),
}

/// Limits of words that only ever grow. A word's owner *announces* a value before it can be seen anywhere and *publishes* it when
/// nobody can see an older one any more. So whoever reads the published value, then the word, then the announced value has
/// three numbers in ascending order, or has seen something that was to be gone.
pub struct Limits(Ram);

impl Limits {
    /// Where guests find the limits.
    pub const ADDRESS: u64 = 0x10_0000;

    /// Limits for up to 256 words.
    pub fn new() -> Outcome<Self> {
        Ram::new(PAGE_SIZE).map(Limits).map_err(doing("making an object"))
    }

    /// Where the program has the limits.
    pub const fn address(&self) -> u64 {
        self.0.address()
    }

    /// Lets users of a guest see the limits.
    pub fn show_to(&self, guest: &Guest) -> Outcome {
        let request = fixed(Self::ADDRESS, PAGE_SIZE, Protection::READ, self.0.object(), 0);
        guest.map(&request).map_err(doing("mapping the limits"))
    }

    /// From now on word `place` may show the value.
    pub fn announce(&self, place: u64, value: Signature) -> Outcome {
        self.0.store(16 * place + 8, value.0).map_err(doing("announcing"))
    }

    /// From now on word `place` must show the value.
    pub fn publish(&self, place: u64, value: Signature) -> Outcome {
        self.0.store(16 * place, value.0).map_err(doing("publishing"))
    }

    /// Has a user of `vmspace` watch word `place` at `address` for a while.
    pub fn watch(&self, vmspace: Handle, address: u64, place: u64, random: &mut Random) -> Outcome<Sight> {
        let enter = |registers, timeout| run_for(vmspace, registers, timeout);
        self.watch_with(enter, address, place, random)
    }

    /// Has a user that `enter` runs watch word `place` at `address` for a while.
    pub fn watch_with(
        &self,
        enter: impl Fn(RegisterFrame, u64) -> Result<RunState, Errno>,
        address: u64,
        place: u64,
        random: &mut Random,
    ) -> Outcome<Sight> {
        let looks = 1 + random.below(2000);
        let program = code::follow(address, Self::ADDRESS + 16 * place, looks);
        let state = run_with(enter, program, random)?;
        match Seen::of(&state) {
            Seen::Fault {
                error_code,
                address: at,
            } => {
                demand!(
                    at == address,
                    "a user that looks at {address:#x} faulted at {at:#x}"
                );
                Ok(Sight::Fault(error_code))
            }
            Seen::Value(_) => {
                let registers = state.registers;
                let all_fine = registers.rbx == 0;
                let (low, seen, high) = (registers.rax, registers.rdx, registers.r10);
                demand!(all_fine, "a user, {}", out_of_order(address, low, seen, high));
                Ok(Sight::Fine)
            }
            other => Err(super::problem::Problem::Wrong(alloc::format!(
                "a watching user saw {other:?}"
            ))),
        }
    }

    /// Looks at word `place` in this program.
    pub fn look(&self, place: u64, address: u64, load: impl Fn() -> Outcome<u64>) -> Outcome {
        let low = self.0.load(16 * place).map_err(doing("loading a limit"))?;
        let seen = load()?;
        let high = self.0.load(16 * place + 8).map_err(doing("loading a limit"))?;
        demand!(
            low <= seen && seen <= high,
            "the program, {}",
            out_of_order(address, low, seen, high)
        );
        Ok(())
    }
}

fn out_of_order(address: u64, low: u64, seen: u64, high: u64) -> alloc::string::String {
    alloc::format!(
        "at {address:#x}: {} was in place, then {} was seen, while the newest was {}",
        Signature(low),
        Signature(seen),
        Signature(high)
    )
}
