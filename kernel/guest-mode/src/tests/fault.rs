//! Faults that can be planted, to see that they are found. The code under test is not changed for them: they are in the fake hardware's
//! instructions, in operations on shared words, and in how the code is used.

use std::cell::Cell;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The gate is looked at before the bits are set.
    LookBeforeBit,
    /// The gate is not closed.
    NeverClose,
    /// The gate is not opened again.
    NeverOpen,
    /// The bits are cleared before the exit.
    LeaveBeforeExit,
    /// The bits are never cleared.
    KeepBits,
    /// Requests are served between the preparation of an entry and the entry.
    ServeBeforeEntry,
    /// A guest's page-table change is not told to its other CPUs.
    InvalidateHereOnly,
    /// What a guest has under its tag is not dropped before the entry.
    SkipGuestFlush,
    /// What comes from the nested table is not dropped before the entry.
    SkipNestedFlush,
    /// Work is looked at with interrupts on.
    LookWithInterruptsOn,
    /// A structure is loaded on a CPU and not released by the one it was on.
    SkipRelease,
    /// The host's state is not written when a structure comes to another CPU.
    KeepHostState,
    /// A launch is not noted.
    ForgetLaunch,
    /// The memory of a structure goes while it is active.
    FreeWhileActive,
    /// A member that ends keeps its place.
    KeepPlace,
    /// A CPU that waits for a lock does not serve.
    LockWithoutServing,
    /// CPUs that are told to turn the hardware off again do not.
    ForgetRollBack,
    /// Nobody learns that a CPU refused.
    HideRefusal,
    /// Several callers turn the hardware on at once.
    ChangeTogether,
}

const LEFT_INSIDE: &[&str] = &["alone", "taken away"];
const STUCK: &[&str] = &["max_steps"];

/// Faults that random programs find, and how: words of the complaint. They do not find [`Fault::LookWithInterruptsOn`]: their guests leave
/// soon by themselves.
pub const OF_PROGRAMS: &[(Fault, &[&str])] = &[
    (Fault::LookBeforeBit, LEFT_INSIDE),
    (Fault::NeverClose, LEFT_INSIDE),
    (Fault::NeverOpen, STUCK),
    (Fault::LeaveBeforeExit, LEFT_INSIDE),
    (Fault::KeepBits, &["active set"]),
    (Fault::ServeBeforeEntry, LEFT_INSIDE),
    (Fault::InvalidateHereOnly, LEFT_INSIDE),
    (Fault::SkipGuestFlush, &["linear translation", "same tag"]),
    (Fault::SkipNestedFlush, &["nested translation"]),
    (Fault::SkipRelease, &["is loaded on CPU"]),
    (Fault::KeepHostState, &["another one's state"]),
    (Fault::ForgetLaunch, &["VMLAUNCH"]),
    (Fault::FreeWhileActive, &["freed while it is active"]),
    (Fault::KeepPlace, &["nobody is left"]),
    (Fault::LockWithoutServing, STUCK),
];

/// Faults in turning the hardware on.
pub const OF_THE_SWITCH: &[Fault] = &[Fault::ForgetRollBack, Fault::HideRefusal, Fault::ChangeTogether];

thread_local! {
    // All CPUs of a run live on one thread.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Plants a fault, or none, for the runs that follow on this thread.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

pub fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}
