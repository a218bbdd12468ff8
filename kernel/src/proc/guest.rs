//! `vmspace_ctl(RUN)`: a thread of a vkernel becomes its user and comes back.
//!
//! Entering saves the caller's frame and address-space choice in the thread, loads the user's registers into the trap frame
//! and switches the address space: nothing else. Every event of the user goes through [`Thread::leave_guest`], which undoes it and
//! then writes the outcome to the caller's memory. There is no state in which the user's address space is current
//! and the kernel copies to or from user memory.

use super::{GuestVmspace, Thread};
use crate::arch::irq::IrqGuard;
use crate::arch::segments;
use crate::arch::trap::TrapFrame;
use crate::arch::{clock, cpu};
use crate::debug::counters;
use crate::pmap;
use crate::sched::{self, TimerKey};
use crate::vm::{Vmspace, copy};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::USER_END;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace as abi;
use dragonet_abi::vmspace::{RegisterFrame, RunState};

/// What a thread remembers while it is its vkernel's user.
pub struct GuestContext {
    pub(super) active: Option<Arc<GuestVmspace>>,
    saved: TrapFrame,
    saved_bases: (u64, u64),
    state_address: u64,
    timer: Option<TimerKey>,
}

impl GuestContext {
    /// Not a user.
    pub fn new() -> Self {
        GuestContext {
            active: None,
            saved: TrapFrame::new_user(0, 0, 0),
            saved_bases: (0, 0),
            state_address: 0,
            timer: None,
        }
    }
}

/// Kind of the timer that ends a RUN.
pub(super) const TIMER_RUN: u8 = 1;

/// Refuses registers that no user may have: IRET or SYSRET would fault on them in the kernel.
///
/// # Errors
/// EINVAL.
pub(super) fn check_registers(registers: &RegisterFrame) -> Result<(), Errno> {
    let RegisterFrame {
        rip,
        rsp,
        fs_base,
        gs_base,
        ..
    } = *registers;
    let canonical_user = |address: u64| address < 1 << 47;
    if rip < USER_END && canonical_user(rsp) && canonical_user(fs_base) && canonical_user(gs_base) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// The general registers in a trap frame, with the segment bases.
pub(super) fn registers_of(frame: &TrapFrame, (fs_base, gs_base): (u64, u64)) -> RegisterFrame {
    RegisterFrame {
        rax: frame.rax,
        rbx: frame.rbx,
        rcx: frame.rcx,
        rdx: frame.rdx,
        rsi: frame.rsi,
        rdi: frame.rdi,
        rbp: frame.rbp,
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rip: frame.rip,
        rflags: frame.rflags,
        rsp: frame.rsp,
        fs_base,
        gs_base,
    }
}

/// Loads checked registers into a trap frame; flags that are not the user's are forced.
pub(super) fn load_registers(frame: &mut TrapFrame, registers: &RegisterFrame) {
    frame.rax = registers.rax;
    frame.rbx = registers.rbx;
    frame.rcx = registers.rcx;
    frame.rdx = registers.rdx;
    frame.rsi = registers.rsi;
    frame.rdi = registers.rdi;
    frame.rbp = registers.rbp;
    frame.r8 = registers.r8;
    frame.r9 = registers.r9;
    frame.r10 = registers.r10;
    frame.r11 = registers.r11;
    frame.r12 = registers.r12;
    frame.r13 = registers.r13;
    frame.r14 = registers.r14;
    frame.r15 = registers.r15;
    frame.rip = registers.rip;
    frame.rsp = registers.rsp;
    frame.rflags = registers.rflags & RegisterFrame::USER_FLAGS | RegisterFrame::FORCED_FLAGS;
}

/// Why a user stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEvent {
    /// A `RUN_*` constant.
    pub reason: u32,
    /// Vector of an exception.
    pub vector: u32,
    /// Its error code.
    pub error_code: u64,
    /// Address of a page fault.
    pub fault_address: u64,
}

impl RunEvent {
    /// An event that has only a reason.
    pub const fn plain(reason: u32) -> Self {
        RunEvent {
            reason,
            vector: 0,
            error_code: 0,
            fault_address: 0,
        }
    }

    const fn counter(self) -> Counter {
        match self.reason {
            abi::RUN_SYSCALL => Counter::RunSyscall,
            abi::RUN_EXCEPTION => Counter::RunException,
            abi::RUN_VIRTUAL_INTERRUPT => Counter::RunVirtualInterrupt,
            abi::RUN_DESTROYED => Counter::RunDestroyed,
            _ => Counter::RunTimeout,
        }
    }

    fn write_to(self, state: &mut RunState) {
        state.reason = self.reason;
        state.vector = self.vector;
        state.error_code = self.error_code;
        state.fault_address = self.fault_address;
    }
}

impl Thread {
    /// True while the thread runs as its vkernel's user.
    pub fn is_guest(&self) -> bool {
        self.in_guest.load(Ordering::Relaxed)
    }

    /// The address space that the thread runs in as a user; None while it is the vkernel itself.
    pub fn guest_vmspace(&self) -> Option<Arc<Vmspace>> {
        if !self.is_guest() {
            return None;
        }
        self.guest
            .lock()
            .active
            .as_ref()
            .map(|guest| guest.entered().clone())
    }

    /// Enters the vmspace with the registers at `address`. True: `frame` is now the user's; false: an event was due already,
    /// its outcome is written and the call returns 0.
    ///
    /// # Errors
    /// EFAULT or EINVAL for the state, EBADF for a destroyed vmspace.
    pub fn run_guest(
        self: &Arc<Self>,
        frame: &mut TrapFrame,
        guest: Arc<GuestVmspace>,
        address: u64,
    ) -> Result<bool, Errno> {
        let mut state: RunState = copy::read(address)?;
        check_registers(&state.registers)?;
        counters::count(Counter::VmspaceRun);
        let due_now = if self.virtual_interrupts().due() != 0 {
            Some(RunEvent::plain(abi::RUN_VIRTUAL_INTERRUPT))
        } else if state.timeout == 0 {
            Some(RunEvent::plain(abi::RUN_TIMEOUT))
        } else {
            None
        };
        if let Some(event) = due_now {
            guest.vmspace()?;
            counters::count(event.counter());
            event.write_to(&mut state);
            copy::write(address, &state)?;
            return Ok(false);
        }
        guest.enter()?;
        let deadline = if state.timeout == FOREVER {
            FOREVER
        } else {
            clock::now().saturating_add(state.timeout)
        };
        self.run_deadline.store(deadline, Ordering::Relaxed);
        let timer = (deadline != FOREVER).then(|| sched::start_timer(deadline, self.clone(), TIMER_RUN));
        let mut context = self.guest.lock();
        context.saved = *frame;
        context.saved_bases = segments::user_bases();
        context.state_address = address;
        context.timer = timer;
        pmap::switch_to(context.irqs(), Some(guest.entered()));
        // Only now, when whoever destroys it finds this CPU in the active set: either he does, or this sees it.
        if guest.is_destroyed() {
            sched::reschedule_request(&**self);
        }
        context.active = Some(guest);
        self.in_guest.store(true, Ordering::Relaxed);
        segments::set_user_bases(state.registers.fs_base, state.registers.gs_base);
        drop(context);
        load_registers(frame, &state.registers);
        Ok(true)
    }

    /// Ends RUN: `frame` becomes the vkernel's again, with the call's result, and the outcome is written to its memory. If the vmspace
    /// was destroyed, that is the outcome, whatever else has happened.
    pub fn leave_guest(&self, frame: &mut TrapFrame, mut event: RunEvent) {
        let bases = segments::user_bases();
        let mut state = RunState {
            registers: registers_of(frame, bases),
            ..RunState::default()
        };
        let (guest, address, timer) = {
            let mut context = self.guest.lock();
            pmap::switch_to(context.irqs(), Some(self.process().vmspace()));
            self.in_guest.store(false, Ordering::Relaxed);
            *frame = context.saved;
            let (fs, gs) = context.saved_bases;
            segments::set_user_bases(fs, gs);
            (context.active.take(), context.state_address, context.timer.take())
        };
        if let Some(guest) = guest
            && guest.leave()
        {
            event = RunEvent::plain(abi::RUN_DESTROYED);
        }
        if let Some(timer) = timer {
            sched::stop_timer(timer);
        }
        event.write_to(&mut state);
        counters::count(event.counter());
        frame.rax = match copy::write(address, &state) {
            Ok(()) => 0,
            Err(errno) => errno.to_result() as u64,
        };
    }

    /// True if the thread runs in a vmspace that has been destroyed.
    pub(super) fn guest_is_destroyed(&self) -> bool {
        let context = self.guest.lock();
        context.active.as_ref().is_some_and(|guest| guest.is_destroyed())
    }

    /// Ends RUN because the vmspace was destroyed, or a virtual interrupt or the time-out is due.
    pub(super) fn leave_guest_if_due(&self, frame: &mut TrapFrame) {
        if !self.is_guest() {
            return;
        }
        if self.guest_is_destroyed() {
            self.leave_guest(frame, RunEvent::plain(abi::RUN_DESTROYED));
        } else if self.virtual_interrupts().due() != 0 {
            self.leave_guest(frame, RunEvent::plain(abi::RUN_VIRTUAL_INTERRUPT));
        } else if self.run_timed_out() {
            self.leave_guest(frame, RunEvent::plain(abi::RUN_TIMEOUT));
        }
    }

    /// Gives the guest context back when the thread ends.
    pub(super) fn abandon_guest(&self) {
        let (guest, timer) = {
            let mut context = self.guest.lock();
            if context.active.is_some() {
                pmap::switch_to(context.irqs(), Some(self.process().vmspace()));
            }
            self.in_guest.store(false, Ordering::Relaxed);
            (context.active.take(), context.timer.take())
        };
        if let Some(guest) = guest {
            guest.leave();
        }
        if let Some(timer) = timer {
            sched::stop_timer(timer);
        }
    }
}

/// The CPU that runs this code, for `GetCpu`.
pub fn current_cpu() -> u64 {
    let _guard = IrqGuard::new();
    cpu::index() as u64
}
