//! A thread in guest mode on the fake machine: the backend and the surroundings of the run loop.

use super::fault::{Fault, planted};
use super::machine::{BorderHere, Core, Off, SharedWord, SpinLock, StructureHere};
use super::program::Rig;
use crate::{
    Backend, Ending, Exception, Exit, Fate, GuestProcess, Members, Membership, Mode, NestedFault, Place,
    Provision, Surroundings, cross,
};
use invalidation::GuestEntry;
use shuttle::sync::atomic::AtomicU64;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub type Process = GuestProcess<SpinLock<Members>>;

/// What a guest's program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Uses its memory.
    Access,
    /// Calls the host, for nothing.
    Call,
    /// Goes on as a user under this root.
    User(u64),
    /// Leaves guest mode.
    Leave,
    /// Causes an exception.
    Exception,
    /// Uses memory for which the nested table has nothing.
    Nested(Provision),
    /// Cannot go on.
    Dead,
    /// Runs until something ends it.
    Spin,
}

/// The root of the vkernel itself.
const OWN_ROOT: u64 = 0x1000;
const NESTED_ROOT: u64 = 0x2000;

/// Numbers of host calls, in place of the instruction's length.
const CALL: u64 = 1;
const LEAVE: u64 = 2;
const RUN_USER: u64 = 3;

/// Bits of work.
pub const ATTENTION: u64 = 1;
pub const PREEMPT: u64 = 2;

/// A thread's guest.
pub struct Guest {
    rig: Arc<Rig>,
    id: u64,
    place: Place,
    membership: Option<Membership<SpinLock<Members>>>,
    user: Option<u64>,
}

impl Guest {
    pub fn new(rig: &Arc<Rig>, membership: Membership<SpinLock<Members>>) -> Self {
        Guest {
            rig: Arc::clone(rig),
            id: rig.machinery.hardware().allocate(),
            place: Place::new(),
            membership: Some(membership),
            user: None,
        }
    }

    /// From entry to exit.
    fn inside(core: &Core, steps: &mut VecDeque<Step>) -> Exit<Provision> {
        loop {
            core.step();
            let mut hardware = core.hardware();
            if hardware.is_interrupted(core.index) {
                return Exit::Resume;
            }
            let step = steps.front().copied().unwrap_or(Step::Leave);
            hardware.access(core.index);
            if step == Step::Spin {
                continue;
            }
            steps.pop_front();
            return match step {
                Step::Access | Step::Spin => continue,
                Step::Call => Exit::HostCall(CALL),
                Step::Leave => Exit::HostCall(LEAVE),
                Step::User(root) => {
                    steps.push_front(Step::Access);
                    Exit::HostCall(RUN_USER | root << 8)
                }
                Step::Exception => Exit::Exception {
                    vector: 0,
                    error_code: 0,
                    address: 0,
                },
                Step::Nested(access) => Exit::Nested(NestedFault {
                    address: 0x3000,
                    access,
                    linear: None,
                }),
                Step::Dead => Exit::Dead,
            };
        }
    }
}

impl Backend for Guest {
    type Guard = Off;
    type Registers = VecDeque<Step>;
    type Access = Provision;

    fn enter(&mut self, guard: &Off, steps: &mut VecDeque<Step>) -> Exit<Provision> {
        let core = &guard.0;
        let here = StructureHere { core, id: self.id };
        let ((), moved) = self.place.load(&here).expect("it loads");
        if moved && !planted(Fault::KeepHostState) {
            core.hardware().write_host(core.index);
        }
        let process = &self.rig.process;
        let root = self.user.unwrap_or(OWN_ROOT);
        let entry = GuestEntry {
            nested: &self.rig.nested,
            nested_root: NESTED_ROOT,
            linear: process.linear(),
            root,
        };
        let border = BorderHere {
            core,
            gate: process.gate(),
            identifiers: self.rig.identifiers,
        };
        let launch = !self.place.is_launched();
        let exit = cross(&border, &entry, process.gate(), |tag| {
            border.misbehave(&entry);
            core.step();
            core.hardware()
                .enter(core.index, launch, (tag.tag, tag.identifier), root);
            let exit = Self::inside(core, steps);
            core.hardware().leave(core.index);
            exit
        });
        if exit.is_some() && !planted(Fault::ForgetLaunch) {
            self.place.note_launched();
        }
        exit.unwrap_or(Exit::Resume)
    }

    fn is_user(&self) -> bool {
        self.user.is_some()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The run is over; what is left is nobody's.
            self.place.release(|_| ());
            std::mem::forget(self.membership.take());
            return;
        }
        // Dropped only if nothing panics in between.
        let mut place = ManuallyDrop::new(std::mem::take(&mut self.place));
        let membership = ManuallyDrop::new(self.membership.take());
        if planted(Fault::FreeWhileActive) {
            self.rig.machinery.hardware().free(self.id);
        }
        let core = Core::here();
        place.release(|cpu| {
            let off = core.interrupts_off();
            off.0.ask_to_release(cpu, self.id);
        });
        if !planted(Fault::FreeWhileActive) {
            self.rig.machinery.hardware().free(self.id);
        }
        drop(ManuallyDrop::into_inner(place));
        if !planted(Fault::KeepPlace) {
            drop(ManuallyDrop::into_inner(membership));
        }
    }
}

/// What the thread has around it while it runs on one CPU.
pub struct Around<'run> {
    pub core: &'run Rc<Core>,
    pub killed: &'run AtomicU64,
    pub steps: VecDeque<Step>,
    pub preempted: bool,
    /// Planted: what was seen of the work before interrupts were off.
    seen: std::cell::Cell<Option<bool>>,
}

impl<'run> Around<'run> {
    pub fn new(core: &'run Rc<Core>, killed: &'run AtomicU64, steps: &[Step]) -> Self {
        Around {
            core,
            killed,
            steps: steps.iter().copied().collect(),
            preempted: false,
            seen: std::cell::Cell::new(None),
        }
    }

    fn pending(&self) -> &AtomicU64 {
        &self.core.machinery.work[self.core.index]
    }
}

impl Surroundings for Around<'_> {
    type Guest = Guest;

    fn work(&mut self, _guest: &mut Guest) -> Fate {
        self.core.poll();
        if self.pending().load(Ordering::SeqCst) == 0 {
            return Fate::Stays;
        }
        let bits = self.pending().swap(0, Ordering::SeqCst);
        if self.killed.load(Ordering::SeqCst) != 0 {
            return Fate::Goes;
        }
        // Another thread runs here, and this one elsewhere: so it is for the guest as if this loop ended and began again.
        self.preempted = bits & PREEMPT != 0;
        if self.preempted { Fate::Goes } else { Fate::Stays }
    }

    fn interrupts_off(&self) -> Off {
        if planted(Fault::LookWithInterruptsOn) {
            self.seen.set(Some(self.pending().load(Ordering::SeqCst) != 0));
            self.core.poll();
        }
        self.core.interrupts_off()
    }

    fn has_work(&self, _guard: &Off) -> bool {
        self.seen
            .take()
            .unwrap_or_else(|| self.pending().load(Ordering::SeqCst) != 0)
    }

    fn registers(&mut self) -> &mut VecDeque<Step> {
        &mut self.steps
    }

    fn host_call(&mut self, guest: &mut Guest, length: u64) -> Mode {
        match length & 0xff {
            LEAVE => return Mode::Ordinary,
            RUN_USER => guest.user = Some(length >> 8),
            _ => {}
        }
        Mode::Guest
    }

    fn provide(&mut self, _guest: &mut Guest, fault: &NestedFault<Provision>) -> Provision {
        fault.access
    }

    fn end_user(&mut self, guest: &mut Guest, _exception: Exception) {
        guest.user = None;
    }

    fn end_process(&mut self, _ending: Ending) {
        self.killed.store(1, Ordering::SeqCst);
        self.pending().fetch_or(ATTENTION, Ordering::SeqCst);
    }
}

/// Shared words have no other use here.
pub type Nested = invalidation::Space<SharedWord>;
