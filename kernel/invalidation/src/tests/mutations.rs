//! Every planted fault is found.

use super::fault::{Fault, plant};
use super::program::Subject;
use super::random::numbered;
use super::run::run;

const ALL: &[Fault] = &[
    Fault::SkipPageFlush,
    Fault::SkipTagFlush,
    Fault::SkipRemoteFlush,
    Fault::KeepPagingStructures,
    Fault::KeepStaleTag,
    Fault::SkipNestedFlush,
    Fault::InvlpgForInvept,
    Fault::InvvpidForInvept,
    Fault::SkipGuestFlush,
    Fault::SkipGuestPageFlush,
    Fault::InvlpgForInvvpid,
    Fault::RetainGuestGlobals,
    Fault::LoseInterrupt,
    Fault::SkipActivation,
    Fault::SkipGuestActivation,
    Fault::SkipDeactivation,
    Fault::SkipGeneration,
    Fault::MissOneTarget,
    Fault::NeverKick,
    Fault::DoNotWait,
    Fault::WaitWithoutServing,
    Fault::LoseNotes,
    Fault::LoseAnswer,
    Fault::ActivateWrongCpu,
    Fault::SwitchToSame,
    Fault::DeactivateBeforeLoad,
    Fault::AnswerBeforeFlush,
    Fault::FreePagesEarly,
    Fault::FreeTablesEarly,
    Fault::FlushBeforeChange,
    Fault::ChangeTruthLate,
    Fault::IgnoreInterlock,
    Fault::AdmitNeighbours,
    Fault::StampLate,
    Fault::SkipInterlock,
    Fault::CopyBeforeFlush,
    Fault::SkipBreakFlush,
    Fault::SkipNarrowFlush,
    Fault::ForkWithoutNarrow,
    Fault::WritableWhileClean,
    Fault::SetRootWithoutFlush,
    Fault::ForgetNested,
    Fault::LockWithoutServing,
    Fault::ReuseId,
    Fault::GlobalPages,
    Fault::ServeBeforeEntry,
    Fault::LeaveBeforeExit,
    Fault::ShareGuestTag,
    Fault::InvalidateGuestHereOnly,
];

#[test]
fn every_planted_fault_is_found() {
    for &fault in ALL {
        plant(Some(fault));
        let mut line = format!("MUT {fault:?}");
        for subject in [Subject::Memory, Subject::Virtual, Subject::Guests] {
        let start = std::time::Instant::now();
        let mut found = None;
        for number in 0..500 {
            if let Err(text) = run(&numbered(subject, number), number * 4, 4) {
                found = Some((number, text));
                break;
            }
        }
        line += &format!("\n    {subject:?} {:?} {}", start.elapsed(), found.map_or("NOT FOUND".to_owned(), |(n, t)| format!("{n}: {}", t.replace('\n', " "))));
        }
        println!("{line}");
    }
}
