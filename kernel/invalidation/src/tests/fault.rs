//! Faults that can be planted, to see that the oracle finds them.
//!
//! The protocol itself is not changed for them. What they break is an instruction ([`super::machine`]), an operation on a shared
//! word, known by its kind, its ordering and what its CPU is doing, or the kernel's use of the protocol ([`super::driver`]).

use super::program::Subject;
use std::cell::{Cell, RefCell};

/// Defines [`Fault`], and for each group the list of its faults with the subject of the programs that find them.
macro_rules! faults {
    ($($(#[$about:meta])* $group:ident { $($(#[$doc:meta])* $name:ident: $subject:ident,)* })*) => {
        /// One fault. Labels and hashes are those of DragonFly's bugs and commits that are like it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($($(#[$doc])* $name,)*)*
        }

        $($(#[$about])* pub const $group: &[(Fault, Subject)] = &[$((Fault::$name, Subject::$subject),)*];)*
    };
}

faults! {
    /// Faults in instructions.
    INSTRUCTIONS {
        /// INVLPG does nothing.
        SkipPageFlush: Memory,
        /// The flush of a whole tag does nothing.
        SkipTagFlush: Memory,
        /// Flushes that another CPU asks for do nothing.
        SkipRemoteFlush: Memory,
        /// INVLPG drops the translation but no paging-structure entries.
        KeepPagingStructures: Memory,
        /// A root is loaded with "keep" under a tag that was another's, or that missed an invalidation.
        KeepStaleTag: Virtual,
        /// INVEPT is left out (S5, 9563660691).
        SkipNestedFlush: Guests,
        /// INVLPG where INVEPT is needed (S5).
        InvlpgForInvept: Guests,
        /// INVVPID where INVEPT is needed.
        InvvpidForInvept: Guests,
        /// INVVPID of a tag is left out.
        SkipGuestFlush: Guests,
        /// INVVPID of an address is left out.
        SkipGuestPageFlush: Guests,
        /// INVLPG where INVVPID of an address is needed (S7).
        InvlpgForInvvpid: Guests,
        /// INVVPID that retains globals where a tag gets a new owner.
        RetainGuestGlobals: Guests,
        /// Interrupts to a CPU that runs a program get lost (4dd1b99459).
        LoseInterrupt: Memory,
    }
    /// Faults in operations on shared words.
    SHARED_WORDS {
        /// The bit in the active set is not set (685f4bf52c).
        SkipActivation: Memory,
        /// The bits in the active sets of a guest's spaces are not set (S8).
        SkipGuestActivation: Guests,
        /// The bit in the active set is never taken out.
        SkipDeactivation: Memory,
        /// The generation is not raised.
        SkipGeneration: Memory,
        /// One CPU of the active set is left out.
        MissOneTarget: Memory,
        /// No interrupt is sent, whatever was in the inbox (1b1e83e245).
        NeverKick: Memory,
        /// The invalidator does not wait for answers.
        DoNotWait: Memory,
        /// An invalidator that waits does not serve (58c45905b1).
        WaitWithoutServing: Memory,
        /// Of several notes in an inbox all but one get lost.
        LoseNotes: Guests,
        /// An answer gets lost.
        LoseAnswer: Memory,
    }
    /// Faults in the use of the protocol.
    USE {
        /// A CPU sets another CPU's bit (685f4bf52c).
        ActivateWrongCpu: Memory,
        /// Switching to the space that runs already clears the bit and loads no root (95270b7ecb).
        SwitchToSame: Memory,
        /// The bit in the old set is cleared before the new root is loaded.
        DeactivateBeforeLoad: Virtual,
        /// The answer comes before the flush although tables were detached.
        AnswerBeforeFlush: Memory,
        /// The answer comes before the flush although a large page was changed or removed.
        AnswerBeforeResize: Sizes,
        /// Pages are freed before the flush.
        FreePagesEarly: Memory,
        /// Detached tables are freed before the flush.
        FreeTablesEarly: Memory,
        /// The flush comes before the table is changed.
        FlushBeforeChange: Memory,
        /// The entries change after the translations are removed.
        ChangeTruthLate: Memory,
        /// Invalidations do without the map's lock, and so can refuse a fault that holds it.
        InvalidateBesideFaults: Virtual,
        /// A walk's result is entered although its address was invalidated since (fc531fbc3f).
        IgnoreInterlock: Memory,
        /// The same for what a fault maps beside its page.
        AdmitNeighbours: Memory,
        /// The stamp is taken after the look-up (fc531fbc3f).
        StampLate: Memory,
        /// A virtual page table is walked without a look at the interlock.
        WalkUnlocked: Virtual,
        /// An invalidation does not raise the interlock (fc531fbc3f).
        SkipInterlock: Memory,
        /// A private copy becomes known before the original is flushed.
        CopyBeforeFlush: Copies,
        /// A copy is put in the place of an original that has become this space's alone meanwhile, and was stored to.
        SkipSecondLook: Copies,
        /// A broken translation is not flushed before the next one is entered (57cbfb93d1).
        SkipBreakFlush: Virtual,
        /// `protect` narrows the table and flushes nothing.
        SkipNarrowFlush: Memory,
        /// A large page and the small ones that take its place, or the other way round, are there without a flush in between.
        SkipResizeFlush: Sizes,
        /// Dirty flags are collected and CPUs are not told.
        SkipHarvestFlush: Sizes,
        /// `fork` leaves the parent's translations writable.
        ForkWithoutNarrow: Copies,
        /// Translations of a virtual page table are writable before the entry is dirty (c50e690bc7).
        WritableWhileClean: Virtual,
        /// A new root of a virtual page table is set without an invalidation.
        SetRootWithoutFlush: Virtual,
        /// Removals forget the nested page table (S11).
        ForgetNested: Guests,
        /// A CPU that waits for a lock does not serve (33bb509e58).
        LockWithoutServing: Memory,
        /// A new space gets the id of one that is gone, with its root page (3627d1271d, c50e690bc7).
        ReuseId: Guests,
        /// Programs' pages are global.
        GlobalPages: Memory,
        /// Requests are served between the preparation of a guest's entry and the entry.
        ServeBeforeEntry: Guests,
        /// The bits of a guest's spaces are cleared before the exit.
        LeaveBeforeExit: Guests,
        /// Two guests' linear addresses share a tag.
        ShareGuestTag: Guests,
        /// A guest's page-table change is not told to its other CPUs.
        InvalidateGuestHereOnly: Guests,
    }
}

/// What a CPU does, for faults in shared words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Other,
    Switch,
    EnterGuest,
    Invalidate,
    Serve,
}

thread_local! {
    // All CPUs of a run live on one thread.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    static PHASES: RefCell<Vec<Phase>> = const { RefCell::new(Vec::new()) };
}

/// Plants a fault, or none, for the runs that follow on this thread.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

pub fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

fn task() -> usize {
    shuttle::current::me().into()
}

/// What the calling CPU does.
pub fn phase() -> Phase {
    PHASES.with_borrow(|phases| phases.get(task()).copied().unwrap_or_default())
}

/// Sets what the calling CPU does and returns what it did before.
pub fn set_phase(phase: Phase) -> Phase {
    let task = task();
    PHASES.with_borrow_mut(|phases| {
        if phases.len() <= task {
            phases.resize(task + 1, Phase::Other);
        }
        std::mem::replace(&mut phases[task], phase)
    })
}

/// All CPUs are about to be new ones.
pub fn forget_phases() {
    PHASES.with_borrow_mut(Vec::clear);
}
