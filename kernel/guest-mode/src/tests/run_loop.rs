//! What the run loop makes of exits, without other CPUs.

use crate::{
    Backend, Departure, Ending, Exception, Exit, Fate, Mode, NestedFault, Provision, Surroundings, run,
};
use std::collections::VecDeque;

/// A guest that has these exits.
struct Scripted {
    exits: VecDeque<Exit<Provision>>,
    user: bool,
}

/// What happened, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    Worked,
    Entered,
    Called(u64),
    Provided(u64),
    UserEnded(Exception),
    ProcessEnded(Ending),
}
use Happened::*;

struct Recorder {
    happened: Vec<Happened>,
    /// Rounds at whose look, with interrupts off, work has come.
    late: u32,
    ended: bool,
}

impl Backend for Scripted {
    type Guard = ();
    type Registers = Vec<Happened>;
    type Access = Provision;

    fn enter(&mut self, (): &(), happened: &mut Vec<Happened>) -> Exit<Provision> {
        happened.push(Entered);
        // Where the script ends the vkernel leaves.
        self.exits.pop_front().unwrap_or_else(|| {
            self.user = false;
            Exit::HostCall(0)
        })
    }
    fn is_user(&self) -> bool {
        self.user
    }
}

impl Surroundings for Recorder {
    type Guest = Scripted;

    fn work(&mut self, _guest: &mut Scripted) -> Fate {
        self.happened.push(Worked);
        if self.ended { Fate::Goes } else { Fate::Stays }
    }
    fn interrupts_off(&self) {
        // There are none.
    }
    fn has_work(&self, (): &()) -> bool {
        // Work is looked at once more than it was done.
        let looks = self
            .happened
            .iter()
            .rev()
            .take_while(|&&what| what == Worked)
            .count();
        looks <= self.late as usize
    }
    fn registers(&mut self) -> &mut Vec<Happened> {
        &mut self.happened
    }
    fn host_call(&mut self, guest: &mut Scripted, length: u64) -> Mode {
        self.happened.push(Called(length));
        match length {
            0 => return Mode::Ordinary,
            9 => guest.user = true,
            _ => {}
        }
        Mode::Guest
    }
    fn provide(&mut self, _guest: &mut Scripted, fault: &NestedFault<Provision>) -> Provision {
        self.happened.push(Provided(fault.address));
        fault.access
    }
    fn end_user(&mut self, guest: &mut Scripted, exception: Exception) {
        self.happened.push(UserEnded(exception));
        guest.user = false;
    }
    fn end_process(&mut self, ending: Ending) {
        self.happened.push(ProcessEnded(ending));
        self.ended = true;
    }
}

/// What happens with these exits, without the rounds themselves, and how it ends.
fn outcome(exits: &[Exit<Provision>]) -> (Vec<Happened>, Departure) {
    let mut guest = Scripted {
        exits: exits.iter().copied().collect(),
        user: false,
    };
    let mut recorder = Recorder {
        happened: Vec::new(),
        late: 0,
        ended: false,
    };
    let departure = run(&mut guest, &mut recorder);
    let mut happened = recorder.happened;
    happened.retain(|what| !matches!(what, Worked | Entered));
    (happened, departure)
}

fn exception(vector: u8, error_code: u64, address: u64) -> Exception {
    Exception {
        vector,
        error_code,
        address,
    }
}

const CALL_USER: Exit<Provision> = Exit::HostCall(9);
const DIVIDE: Exit<Provision> = Exit::Exception {
    vector: 0,
    error_code: 0,
    address: 0,
};

fn nested(access: Provision) -> Exit<Provision> {
    Exit::Nested(NestedFault {
        address: 0x3000,
        access,
        linear: Some(0x8000),
    })
}

#[test]
fn the_vkernel_calls_until_it_leaves() {
    let expected = vec![Called(3), Called(2), Called(0)];
    let exits = [Exit::HostCall(3), Exit::Resume, Exit::HostCall(2)];
    assert_eq!(outcome(&exits), (expected, Departure::Ordinary));
}

#[test]
fn a_users_call_is_an_undefined_opcode() {
    let expected = vec![Called(9), UserEnded(exception(6, 0, 0)), Called(3), Called(0)];
    let exits = [CALL_USER, Exit::HostCall(3), Exit::HostCall(3)];
    assert_eq!(outcome(&exits), (expected, Departure::Ordinary));
}

#[test]
fn exceptions_end_the_user_or_the_process() {
    let divide = exception(0, 0, 0);
    let expected = vec![
        Called(9),
        UserEnded(divide),
        ProcessEnded(Ending::Exception(divide)),
    ];
    assert_eq!(outcome(&[CALL_USER, DIVIDE, DIVIDE]), (expected, Departure::Ends));
}

#[test]
fn a_refused_page_is_a_reserved_bit_to_the_user_and_a_page_fault_of_the_vkernel() {
    let refused = nested(Provision::Refused(6));
    let expected = vec![
        Called(9),
        Provided(0x3000),
        UserEnded(exception(14, 6 | 8 | 1, 0x8000)),
        Provided(0x3000),
        ProcessEnded(Ending::Exception(exception(14, 6, 0x3000))),
    ];
    assert_eq!(
        outcome(&[CALL_USER, refused, refused]),
        (expected, Departure::Ends)
    );
}

#[test]
fn a_page_without_memory_ends_the_process_whoever_runs() {
    let full = nested(Provision::NoMemory);
    let ended = ProcessEnded(Ending::NoMemory(0x3000));
    let expected = vec![Called(9), Provided(0x3000), ended];
    assert_eq!(outcome(&[CALL_USER, full]), (expected, Departure::Ends));
    let expected = vec![Provided(0x3000), ended];
    assert_eq!(outcome(&[full]), (expected, Departure::Ends));
}

#[test]
fn a_page_that_is_provided_is_tried_again() {
    let expected = vec![Provided(0x3000), Called(0)];
    let exits = [nested(Provision::Done)];
    assert_eq!(outcome(&exits), (expected, Departure::Ordinary));
}

#[test]
fn a_guest_that_cannot_go_on_ends_its_process_and_is_not_entered_again() {
    let expected = vec![ProcessEnded(Ending::Dead)];
    assert_eq!(outcome(&[Exit::Dead, DIVIDE]), (expected, Departure::Ends));
}

#[test]
fn work_that_comes_late_is_done_before_the_entry() {
    let mut guest = Scripted {
        exits: VecDeque::new(),
        user: false,
    };
    let mut recorder = Recorder {
        happened: Vec::new(),
        late: 2,
        ended: false,
    };
    assert_eq!(run(&mut guest, &mut recorder), Departure::Ordinary);
    assert_eq!(recorder.happened, [Worked, Worked, Worked, Entered, Called(0)]);
}
