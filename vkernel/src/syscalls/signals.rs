//! Signals: `rt_sigaction rt_sigprocmask rt_sigsuspend sigaltstack kill tgkill`.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::signal::{
    SI_TKILL, SI_USER, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGNALS, UNSTOPPABLE, bit,
};
use crate::linux::structures::{SignalAction, SignalStack};
use crate::process::{Process, Task};
use crate::signal::actions::Disposition;
use crate::signal::deliver::AlternateStack;
use crate::signal::{Detail, Notice};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use dragonet_abi::time::FOREVER;

/// Bytes of a signal mask.
const MASK_SIZE: u64 = 8;

impl Task {
    pub(super) fn sys_sigaction(&mut self, signal: u64, new: u64, old: u64, size: u64) -> Result<u64, Errno> {
        if size != MASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let signal = checked_signal(signal)?;
        let wish = if new == 0 {
            None
        } else {
            Some(self.space.read::<SignalAction>(new)?)
        };
        if wish.is_some() && UNSTOPPABLE & bit(signal) != 0 {
            return Err(Errno::EINVAL);
        }
        let actions = self.process.actions();
        if old != 0 {
            self.space.write(old, &actions.get(signal))?;
        }
        if let Some(wish) = wish {
            actions.set(signal, wish);
            if matches!(actions.disposition(signal), Disposition::Ignore) {
                self.process.pending.lock().discard(signal);
                self.thread.pending.lock().discard(signal);
            }
        }
        Ok(0)
    }

    pub(super) fn sys_sigprocmask(&mut self, how: u32, new: u64, old: u64, size: u64) -> Result<u64, Errno> {
        if size != MASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let blocked = self.thread.blocked();
        let wish = if new == 0 {
            None
        } else {
            Some(self.space.read::<u64>(new)?)
        };
        let next = match (wish, how) {
            (None, _) => None,
            (Some(mask), SIG_BLOCK) => Some(blocked | mask),
            (Some(mask), SIG_UNBLOCK) => Some(blocked & !mask),
            (Some(mask), SIG_SETMASK) => Some(mask),
            _ => return Err(Errno::EINVAL),
        };
        if old != 0 {
            self.space.write(old, &blocked)?;
        }
        if let Some(mask) = next {
            self.set_blocked(mask);
        }
        Ok(0)
    }

    pub(super) fn sys_sigpending(&mut self, address: u64, size: u64) -> Result<u64, Errno> {
        if size > MASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let pending = self.thread.pending.lock().mask() | self.process.pending.lock().mask();
        let mask = (pending & self.thread.blocked()).to_le_bytes();
        self.space
            .write_bytes(address, &mask[..size as usize])
            .map(|()| 0)
    }

    pub(super) async fn sys_sigsuspend(&mut self, address: u64, size: u64) -> Result<u64, Errno> {
        if size != MASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let mask = self.space.read::<u64>(address)?;
        self.saved_mask = Some(self.thread.blocked());
        self.set_blocked(mask);
        self.sys_pause().await
    }

    pub(super) async fn sys_pause(&mut self) -> Result<u64, Errno> {
        let woken: Result<(), Errno> = self.wait_registered(FOREVER, || None).await;
        // Never made again: the handler has run.
        Err(if woken == Err(Errno::ERESTARTSYS) {
            Errno::EINTR
        } else {
            Errno::EINVAL
        })
    }

    pub(super) fn sys_sigaltstack(&mut self, new: u64, old: u64) -> Result<u64, Errno> {
        let pointer = self.run_state.registers.rsp;
        let current = self.alternate_stack;
        let wish = if new == 0 {
            None
        } else {
            Some(self.space.read::<SignalStack>(new)?)
        };
        if wish.is_some() && current.holds(pointer) {
            return Err(Errno::EPERM);
        }
        let wish = wish.map(|wish| AlternateStack::from_program(&wish)).transpose()?;
        if old != 0 {
            self.space.write(old, &current.describe(pointer))?;
        }
        if let Some(stack) = wish {
            self.alternate_stack = stack;
        }
        Ok(0)
    }

    /// To a process (above 0), the caller's group (0), everybody else (-1), or a group (below -1). Signal 0 only looks.
    pub(super) fn sys_kill(&mut self, target: i32, signal: u64) -> Result<u64, Errno> {
        let all = kernel().processes().lock().all();
        let own_group = self.process.group.load(Ordering::Relaxed);
        let chosen: Vec<Arc<Process>> = all
            .into_iter()
            .filter(|process| match target {
                1.. => process.id == target.unsigned_abs(),
                0 => process.group.load(Ordering::Relaxed) == own_group,
                -1 => process.id != 1 && process.id != self.process.id,
                _ => process.group.load(Ordering::Relaxed) == target.unsigned_abs(),
            })
            .collect();
        if chosen.is_empty() {
            return Err(Errno::ESRCH);
        }
        if signal != 0 {
            let signal = checked_signal(signal)?;
            for process in chosen {
                process.send(Notice {
                    signal,
                    code: SI_USER,
                    detail: Detail::Sender(self.process.id),
                });
            }
        }
        Ok(0)
    }

    /// `tkill` and `tgkill`: to one thread, which must be of the process if one is given.
    pub(super) fn sys_tgkill(
        &mut self,
        process: Option<i32>,
        thread: i32,
        signal: u64,
    ) -> Result<u64, Errno> {
        if thread <= 0 || process.is_some_and(|process| process <= 0) {
            return Err(Errno::EINVAL);
        }
        let signal = if signal == 0 { 0 } else { checked_signal(signal)? };
        let found = kernel().processes().lock().thread(thread.unsigned_abs());
        let target = found
            .filter(|target| process.is_none_or(|process| target.process.id == process.unsigned_abs()))
            .ok_or(Errno::ESRCH)?;
        if signal != 0 {
            let detail = Detail::Sender(self.process.id);
            target.process.send_to_thread(
                &target,
                Notice {
                    signal,
                    code: SI_TKILL,
                    detail,
                },
            );
        }
        Ok(0)
    }
}

fn checked_signal(signal: u64) -> Result<u8, Errno> {
    match signal {
        1..=64 => Ok(signal as u8),
        _ => Err(Errno::EINVAL),
    }
}

const _: () = assert!(SIGNALS == 64);
