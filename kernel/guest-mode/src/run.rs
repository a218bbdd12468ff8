//! The run loop of a thread in guest mode: what happens before each entry, and what follows from each exit.

use crate::{Exit, NestedFault};

const UNDEFINED_OPCODE: u8 = 6;
const PAGE_FAULT: u8 = 14;
/// Page-fault error code: a reserved bit in a page table, whose entry is present (SDM 3A 4.7).
const RESERVED: u64 = 1 << 3 | 1;

/// A guest on some vendor's hardware.
pub trait Backend {
    /// Interrupts are off while it lives.
    type Guard;
    /// The general registers of the thread.
    type Registers;
    /// What an access wants to do.
    type Access;

    /// Runs the guest with these registers until its next exit, which leaves them there.
    fn enter(&mut self, guard: &Self::Guard, registers: &mut Self::Registers) -> Exit<Self::Access>;

    /// True while the vkernel's user runs.
    fn is_user(&self) -> bool;
}

/// What a thread in guest mode has around it. All of it is called with interrupts on, but what has a guard.
pub trait Surroundings {
    /// The guest.
    type Guest: Backend;

    /// Does what the thread does before it goes on, if its CPU has work for it.
    fn work(&mut self, guest: &mut Self::Guest) -> Fate;

    /// Turns interrupts off.
    fn interrupts_off(&self) -> <Self::Guest as Backend>::Guard;

    /// True if this CPU has work, which [`Self::work`] would do.
    fn has_work(&self, guard: &<Self::Guest as Backend>::Guard) -> bool;

    /// The registers of what runs now, the vkernel or its user.
    fn registers(&mut self) -> &mut <Self::Guest as Backend>::Registers;

    /// Serves a call of the vkernel itself, by an instruction of so many bytes.
    fn host_call(&mut self, guest: &mut Self::Guest, length: u64) -> Mode;

    /// Has the process's memory provide what the guest wants to access.
    fn provide(
        &mut self,
        guest: &mut Self::Guest,
        fault: &NestedFault<<Self::Guest as Backend>::Access>,
    ) -> Provision;

    /// Ends RUN with an exception of the vkernel's user: from here on the vkernel runs.
    fn end_user(&mut self, guest: &mut Self::Guest, exception: Exception);

    /// Ends the process, which gives this CPU work, and then [`Self::work`] says that the thread goes.
    fn end_process(&mut self, ending: Ending);
}

/// Whether a thread goes on.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does.
    Stays,
    /// It ends instead.
    Goes,
}

/// How a thread goes on after a call.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the guest.
    Guest,
    /// As an ordinary thread.
    Ordinary,
}

/// What a process's memory says to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provision {
    /// It is possible now, or worth another try.
    Done,
    /// There is no memory for it.
    NoMemory,
    /// It is not allowed; the error code that a page fault would have.
    Refused(u64),
}

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// 0 to 31.
    pub vector: u8,
    /// 0 where the vector has none.
    pub error_code: u64,
    /// Page faults: the address, else 0.
    pub address: u64,
}

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An exception of the vkernel itself.
    Exception(Exception),
    /// There is no memory for the page at this address.
    NoMemory(u64),
    /// The guest cannot go on.
    Dead,
}

/// How a thread leaves guest mode.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It wanted to, and goes on as an ordinary thread.
    Ordinary,
    /// It ends.
    Ends,
}

/// Runs a thread in guest mode until it leaves it. What must be undone then is the caller's, who has the guest.
///
/// Work is looked at with interrupts off, and they stay off until the exit: an interrupt that brings work later ends the guest's run at
/// once. After each exit they are on before it is served, so that what is pending comes first.
pub fn run<S: Surroundings>(guest: &mut S::Guest, surroundings: &mut S) -> Departure {
    loop {
        let exit = {
            let guard = surroundings.interrupts_off();
            (!surroundings.has_work(&guard)).then(|| guest.enter(&guard, surroundings.registers()))
        };
        let Some(exit) = exit else {
            if surroundings.work(guest) == Fate::Goes {
                return Departure::Ends;
            }
            continue;
        };
        match exit {
            Exit::Resume => {}
            Exit::HostCall(length) if !guest.is_user() => {
                if surroundings.host_call(guest, length) == Mode::Ordinary {
                    return Departure::Ordinary;
                }
            }
            // For a user there is no such instruction.
            Exit::HostCall(_) => raise(guest, surroundings, UNDEFINED_OPCODE, 0, 0),
            Exit::Exception {
                vector,
                error_code,
                address,
            } => raise(guest, surroundings, vector, error_code, address),
            Exit::Nested(fault) => nested_fault(guest, surroundings, &fault),
            Exit::Dead => surroundings.end_process(Ending::Dead),
        }
    }
}

/// An exception: the vkernel's user's, which ends RUN, or the vkernel's own, which ends the process.
fn raise<S: Surroundings>(
    guest: &mut S::Guest,
    surroundings: &mut S,
    vector: u8,
    error_code: u64,
    address: u64,
) {
    let exception = Exception {
        vector,
        error_code,
        address,
    };
    if guest.is_user() {
        surroundings.end_user(guest, exception);
    } else {
        surroundings.end_process(Ending::Exception(exception));
    }
}

/// An access to guest-physical memory that the nested table does not allow: the process's address space decides.
fn nested_fault<S: Surroundings>(
    guest: &mut S::Guest,
    surroundings: &mut S,
    fault: &NestedFault<<S::Guest as Backend>::Access>,
) {
    match surroundings.provide(guest, fault) {
        Provision::Done => {}
        Provision::NoMemory => surroundings.end_process(Ending::NoMemory(fault.address)),
        // To a user it is as if its page table named a page that is not there.
        Provision::Refused(code) if guest.is_user() => {
            let address = fault.linear.unwrap_or(fault.address);
            raise(guest, surroundings, PAGE_FAULT, code | RESERVED, address);
        }
        Provision::Refused(code) => raise(guest, surroundings, PAGE_FAULT, code, fault.address),
    }
}
