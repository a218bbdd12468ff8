//! A channel call as the caller's thread keeps it, and the token by which its server answers.

use crate::proc::{Entry, Thread};
use crate::sched::{self, Schedulable};
use crate::sync::{Rank, SpinLock};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use dragonet_abi::Errno;
use dragonet_abi::channel::{Message, WORDS};

/// A message on its way, with the objects that it moves in place of the last words.
pub struct Parcel {
    /// Label and words.
    pub message: Message,
    /// The objects, in order of their words.
    pub entries: ArrayVec<Entry, WORDS>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one for each thread, kept in place so that a call allocates nothing"
)]
enum State {
    Idle,
    Waiting,
    Done(Result<Parcel, Errno>),
}

struct Slot {
    /// Number of the thread's latest call: a reply to an earlier one finds nobody.
    sequence: u64,
    state: State,
}

/// The one call that a thread can have outstanding.
pub struct CallSlot {
    slot: SpinLock<Slot>,
}

impl CallSlot {
    /// No call.
    pub const fn new() -> Self {
        CallSlot {
            slot: SpinLock::new(
                Rank::Call,
                Slot {
                    sequence: 0,
                    state: State::Idle,
                },
            ),
        }
    }

    /// Begins a call; returns its number.
    pub(super) fn begin(&self) -> u64 {
        let mut slot = self.slot.lock();
        slot.sequence += 1;
        slot.state = State::Waiting;
        slot.sequence
    }

    /// Completes call number `sequence` with the outcome, which it takes, if its caller still waits. False: it is left to be
    /// dropped by the caller of this function, who holds no lock.
    pub(super) fn complete(&self, sequence: u64, outcome: &mut Option<Result<Parcel, Errno>>) -> bool {
        let mut slot = self.slot.lock();
        if slot.sequence != sequence || !matches!(slot.state, State::Waiting) {
            return false;
        }
        if let Some(outcome) = outcome.take() {
            slot.state = State::Done(outcome);
        }
        true
    }

    /// The outcome, if it is there.
    pub(super) fn take(&self) -> Option<Result<Parcel, Errno>> {
        let mut slot = self.slot.lock();
        match core::mem::replace(&mut slot.state, State::Idle) {
            State::Done(outcome) => Some(outcome),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Gives up on the call: a later reply fails. The outcome, if it came just now.
    pub(super) fn abandon(&self) -> Option<Result<Parcel, Errno>> {
        let mut slot = self.slot.lock();
        match core::mem::replace(&mut slot.state, State::Idle) {
            State::Done(outcome) => Some(outcome),
            State::Idle | State::Waiting => None,
        }
    }
}

/// A call that a server has received and not yet answered. Dropped without an answer, the caller gets EPIPE.
pub struct Reply {
    caller: Arc<Thread>,
    sequence: u64,
}

impl Reply {
    pub(super) fn new(caller: Arc<Thread>, sequence: u64) -> Self {
        Reply { caller, sequence }
    }

    /// Answers.
    ///
    /// # Errors
    /// EPIPE when the caller no longer waits; the parcel is dropped.
    pub fn answer(&self, outcome: Result<Parcel, Errno>) -> Result<(), Errno> {
        if self
            .caller
            .call_slot()
            .complete(self.sequence, &mut Some(outcome))
        {
            let caller: Arc<dyn Schedulable> = self.caller.clone();
            sched::unpark(&caller);
            Ok(())
        } else {
            Err(Errno::EPIPE)
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // After an answer this finds nobody waiting for this call number.
        let _unanswered = self.answer(Err(Errno::EPIPE));
    }
}
