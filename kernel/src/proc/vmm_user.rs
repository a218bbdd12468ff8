//! `vmspace_ctl(RUN)` in guest mode: the vkernel's user is another page table of the same guest.
//!
//! Entering saves the vkernel's registers in the guest, loads the user's into the frame and names the user's root; the next entry
//! writes what differs. No address space is looked up or switched, so the way back needs nothing but the registers.

use super::Thread;
use super::guest::{RunEvent, load_registers, registers_of};
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::sched;
use crate::vm::copy;
use crate::vmm::{Guest, User, check_root};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::vmspace::RunState;

impl Thread {
    /// Goes on as the user whose page table is at `root`, with the registers at `address`. True: `frame` is now the user's; false: an
    /// event was due already, its outcome is written and the call returns 0.
    ///
    /// # Errors
    /// EINVAL for the root; EFAULT or EINVAL for the state.
    pub fn run_user(
        self: &Arc<Self>,
        frame: &mut TrapFrame,
        guest: &mut Guest,
        root: u64,
        address: u64,
    ) -> Result<bool, Errno> {
        check_root(root)?;
        let Some(run) = self.prepare_run(address, || Ok(()))? else {
            return Ok(false);
        };
        let timer = self.start_run(&run);
        guest.begin_user(User {
            root,
            bases: (run.registers.fs_base, run.registers.gs_base),
            saved: *frame,
            state_address: address,
            timer,
        });
        self.in_guest.store(true, Ordering::Relaxed);
        load_registers(frame, &run.registers);
        Ok(true)
    }

    /// Ends RUN: `frame` becomes the vkernel's again, with the call's result, and the outcome is written to its memory.
    pub fn end_user(&self, frame: &mut TrapFrame, guest: &mut Guest, event: RunEvent) {
        let Some(user) = guest.end_user() else { return };
        self.in_guest.store(false, Ordering::Relaxed);
        if let Some(timer) = user.timer {
            sched::stop_timer(timer);
        }
        counters::count(event.counter());
        let mut state = RunState {
            registers: registers_of(frame, user.bases),
            ..RunState::default()
        };
        event.write_to(&mut state);
        *frame = user.saved;
        frame.rax = match copy::write(user.state_address, &state) {
            Ok(()) => 0,
            Err(errno) => errno.to_result() as u64,
        };
    }

    /// Forgets the user of a guest that ends.
    pub fn abandon_user(&self, guest: &mut Guest) {
        if let Some(user) = guest.abandon_user() {
            self.in_guest.store(false, Ordering::Relaxed);
            if let Some(timer) = user.timer {
                sched::stop_timer(timer);
            }
        }
    }
}
