//! The protocol under a weak memory model: loom tries every order and every value that a load may see.
//!
//! Small cases only: one page, one space, two or three CPUs. Loom treats accesses that are sequentially consistent as if they
//! only acquired and released, so what needs a full barrier must have one: that is [`crate::Machine::barrier`], here a fence. Each
//! case is also run with one ordering weakened at a time, and must then fail.

mod activation;
mod interlock;
mod machine;
mod mailbox;
mod release;

use loom::model::Builder;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is weaker than the protocol wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    /// No barrier between the raised generation and the look at the active set, nor between the bit in the active set and the look
    /// at the generation.
    Barriers,
    /// The generation is raised without a release.
    Raise,
    /// It is looked at without an acquire.
    Look,
    /// Notes are put into an inbox without a release.
    Put,
    /// They are taken without an acquire.
    Take,
    /// Of several notes all but one get lost.
    LoseNotes,
    /// Answers do not release what was before.
    Answer,
    /// The invalidator does not acquire what was before the answers.
    Await,
}

thread_local! {
    // All threads of a model live on one thread.
    static WEAKNESS: Cell<Option<Weakness>> = const { Cell::new(None) };
}

fn is_weak(weakness: Weakness) -> bool {
    WEAKNESS.get() == Some(weakness)
}

/// Runs all executions of a case with at most so many preemptions.
fn explore(preemptions: usize, case: fn()) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 2_000;
    builder.log = std::env::var_os("LOOM_LOG").is_some();
    builder.check(case);
}

/// The case is right, and wrong with each of these weaknesses.
fn check(preemptions: usize, needed: &[Weakness], case: fn()) {
    WEAKNESS.set(None);
    explore(preemptions, case);
    for &weakness in needed {
        WEAKNESS.set(Some(weakness));
        let result = catch_unwind(AssertUnwindSafe(|| explore(preemptions, case)));
        WEAKNESS.set(None);
        assert!(result.is_err(), "{weakness:?} makes no difference");
    }
}
