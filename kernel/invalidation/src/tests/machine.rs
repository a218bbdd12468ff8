//! The protocol's machine: instructions that act on the model, and words that shuttle watches.

use super::driver::Rig;
use super::fault::{Fault, Phase, phase, planted};
use super::model::Mode;
use super::model::cache::{Invpcid, Invvpid};
use crate::mailbox::{EARLY, RELEASE};
use crate::{Event, GuestMachine, Machine, Word};
use shuttle::rand::Rng;
use shuttle::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A word of shuttle's: every operation is a point at which another CPU may go on.
#[derive(Debug)]
pub struct SharedWord(AtomicU64);

impl Word for SharedWord {
    fn new(value: u64) -> Self {
        SharedWord(AtomicU64::new(value))
    }

    fn load(&self, order: Ordering) -> u64 {
        let value = self.0.load(order);
        match (phase(), order) {
            // `has_notes`
            (Phase::Invalidate, Ordering::Relaxed) if planted(Fault::WaitWithoutServing) => 0,
            // `is_answered`
            (_, Ordering::Acquire) if planted(Fault::DoNotWait) => 0,
            // The active set
            (Phase::Invalidate, Ordering::SeqCst) if planted(Fault::MissOneTarget) => {
                value & value.wrapping_sub(1)
            }
            _ => value,
        }
    }

    fn store(&self, value: u64, order: Ordering) {
        let early = value == RELEASE && planted(Fault::AnswerBeforeRelease);
        self.0.store(if early { RELEASE | EARLY } else { value }, order);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        let all = self.0.swap(value, order);
        if planted(Fault::LoseNotes) {
            all & all.wrapping_neg()
        } else {
            all
        }
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        if planted(Fault::SkipGeneration) {
            return self.0.load(order);
        }
        self.0.fetch_add(value, order)
    }

    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        match phase() {
            Phase::Switch if planted(Fault::SkipActivation) => self.0.load(order),
            Phase::EnterGuest if planted(Fault::SkipGuestActivation) => self.0.load(order),
            Phase::Invalidate if planted(Fault::NeverKick) => {
                self.0.fetch_or(bits, order);
                bits
            }
            _ => self.0.fetch_or(bits, order),
        }
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        let skipped = match order {
            // `answer`
            Ordering::AcqRel => planted(Fault::LoseAnswer),
            // `deactivate`
            _ => planted(Fault::SkipDeactivation),
        };
        if skipped {
            self.0.load(Ordering::SeqCst)
        } else {
            self.0.fetch_and(bits, order)
        }
    }
}

/// One CPU of the rig.
pub struct SimulatedCpu<'rig> {
    pub rig: &'rig Rig,
    pub cpu: usize,
}

impl SimulatedCpu<'_> {
    /// True for an instruction that a planted fault leaves out.
    fn is_skipped(&self, fault: Fault) -> bool {
        planted(fault) || phase() == Phase::Serve && planted(Fault::SkipRemoteFlush)
    }
}

impl Machine for SimulatedCpu<'_> {
    type Word = SharedWord;

    fn load_root(&self, root: u64, tag: u16, keep: bool) {
        self.rig.step();
        let keep = keep || planted(Fault::KeepStaleTag);
        self.rig.hardware().load_root(self.cpu, root, tag, keep);
    }

    fn flush_page(&self, address: u64) {
        self.rig.step();
        if self.is_skipped(Fault::SkipPageFlush) {
            return;
        }
        let mut hardware = self.rig.hardware();
        if planted(Fault::KeepPagingStructures) {
            hardware.forget_translation(self.cpu, address);
        } else {
            hardware.flush_page(self.cpu, address);
        }
    }

    fn flush_tag(&self, root: u64, tag: u16) {
        self.rig.step();
        if self.is_skipped(Fault::SkipTagFlush) {
            return;
        }
        let mut hardware = self.rig.hardware();
        if hardware.features.pcids {
            hardware.invpcid(self.cpu, Invpcid::Single(tag));
        } else {
            hardware.load_root(self.cpu, root, tag, false);
        }
    }

    fn interrupt(&self, target: usize) {
        self.rig.step();
        let mut hardware = self.rig.hardware();
        hardware.check_target(self.cpu, target);
        let lost = planted(Fault::LoseInterrupt) && hardware.cpus[target].mode == Mode::User;
        if !lost {
            // Most are fast, some are not.
            let random: u64 = shuttle::rand::thread_rng().r#gen();
            let delay = if random.is_multiple_of(4) {
                random >> 32 & 63
            } else {
                random >> 32 & 3
            };
            hardware.send_interrupt(target, delay);
        }
    }

    fn release(&self, object: u64) {
        self.rig.step();
        if planted(Fault::SkipRelease) {
            return;
        }
        self.rig.hardware().release_structure(self.cpu, object);
    }

    fn barrier(&self) {
        // Shuttle's words are sequentially consistent.
    }

    fn relax(&self) {
        shuttle::thread::yield_now();
    }

    fn note(&self, event: Event) {
        self.rig.count(event);
    }
}

impl GuestMachine for SimulatedCpu<'_> {
    fn flush_nested(&self, root: u64) {
        self.rig.step();
        if planted(Fault::SkipNestedFlush) {
            return;
        }
        let mut hardware = self.rig.hardware();
        if planted(Fault::InvlpgForInvept) {
            super::universe::all_pages().for_each(|page| hardware.flush_page(self.cpu, page));
        } else if planted(Fault::InvvpidForInvept) {
            hardware.invvpid(self.cpu, Invvpid::All);
        } else {
            hardware.invept(self.cpu, root);
        }
    }

    fn flush_guest(&self, tag: u16) {
        self.rig.step();
        if planted(Fault::SkipGuestFlush) {
            return;
        }
        let mut hardware = self.rig.hardware();
        let first = u16::from(hardware.features.guest_pcids);
        if planted(Fault::RetainGuestGlobals) {
            hardware.invvpid(self.cpu, Invvpid::SingleRetainingGlobals(tag));
        } else if planted(Fault::FlushGuestPageOnly) {
            hardware.invvpid(self.cpu, Invvpid::Address(tag, super::universe::address(0)));
        } else if planted(Fault::FlushOneIdentifier) {
            hardware.invpcid_in_guest(self.cpu, tag, Invpcid::Single(first));
        } else {
            hardware.invvpid(self.cpu, Invvpid::Single(tag));
        }
    }

    fn flush_guest_page(&self, tag: u16, address: u64) {
        self.rig.step();
        if planted(Fault::SkipGuestPageFlush) {
            return;
        }
        let mut hardware = self.rig.hardware();
        let first = u16::from(hardware.features.guest_pcids);
        if planted(Fault::InvlpgForInvvpid) {
            hardware.flush_page(self.cpu, address);
        } else if planted(Fault::FlushPageOfOneIdentifier) {
            hardware.invpcid_in_guest(self.cpu, tag, Invpcid::Address(first, address));
        } else {
            hardware.invvpid(self.cpu, Invvpid::Address(tag, address));
        }
    }
}
