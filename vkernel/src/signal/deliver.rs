//! Delivering a signal: the process ends, or the program continues in its handler on a frame that we put on its stack.
//!
//! The frame's layout is the ABI of Linux (`struct rt_sigframe`): return address, context, information; the FPU image above it.

use crate::linux::Errno;
use crate::linux::signal::{
    MINSIGSTKSZ, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SIGSEGV, SS_AUTODISARM,
    SS_DISABLE, SS_ONSTACK, UNSTOPPABLE, bit,
};
use crate::linux::structures::{
    FPU_MAGIC, FPU_MAGIC_END, FpuMark, SignalAction, SignalContext, SignalFrame, SignalRegisters, SignalStack,
};
use crate::process::{ExitStatus, Task};
use crate::sched::fpu::{FpuState, LEGACY_SIZE};
use crate::signal::actions::Disposition;
use crate::signal::pending::{Detail, Notice};
use alloc::vec;
use dragonet_abi::virtual_interrupt::RED_ZONE;
use zerocopy::IntoBytes;

/// User code selector of Linux, for the frame only.
const USER_CODE: u16 = 0x33;
/// User data selector of Linux, for the frame only.
const USER_DATA: u16 = 0x2b;
/// Direction, trap and resume flags, cleared for a handler.
const HANDLER_CLEARS: u64 = 0x400 | 0x100 | 0x1_0000;
/// Bytes of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// Bytes of the FPU image in a frame.
fn fpu_image_size() -> usize {
    match FpuState::size() {
        LEGACY_SIZE => LEGACY_SIZE,
        extended => extended + size_of_val(&FPU_MAGIC_END),
    }
}

/// Bytes of a stack that a frame takes at most: what programs are told by AT_MINSIGSTKSZ. CPUs with large registers need more
/// than the constant that older programs know.
pub fn largest_frame() -> u64 {
    const ALIGNMENT: usize = 64 + 16 + 8;
    (fpu_image_size() + size_of::<SignalFrame>() + ALIGNMENT) as u64
}

/// A thread's alternate stack for handlers.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 = there is none.
    pub size: u64,
    /// It is switched off while a handler runs on it.
    pub autodisarm: bool,
}

impl AlternateStack {
    /// True if a stack pointer is on it.
    pub fn holds(&self, pointer: u64) -> bool {
        self.size != 0 && !self.autodisarm && pointer > self.base && pointer - self.base <= self.size
    }

    /// As a program sees it.
    pub fn describe(&self, pointer: u64) -> SignalStack {
        let state = if self.size == 0 {
            SS_DISABLE
        } else if self.holds(pointer) {
            SS_ONSTACK
        } else {
            0
        };
        let flags = state | if self.autodisarm { SS_AUTODISARM } else { 0 };
        SignalStack {
            base: self.base,
            flags,
            padding: 0,
            size: self.size,
        }
    }

    /// What a program asks for, checked.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, `ENOMEM` for one that is too small.
    pub fn from_program(wish: &SignalStack) -> Result<Self, Errno> {
        match wish.flags & !SS_AUTODISARM {
            SS_DISABLE => Ok(AlternateStack::default()),
            0 | SS_ONSTACK if wish.size < MINSIGSTKSZ => Err(Errno::ENOMEM),
            0 | SS_ONSTACK => {
                let autodisarm = wish.flags & SS_AUTODISARM != 0;
                Ok(AlternateStack {
                    base: wish.base,
                    size: wish.size,
                    autodisarm,
                })
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Task {
    /// Delivers what is pending. `restart` is the number of the system call that a signal ended, to be made again if no handler objects.
    pub fn deliver_signals(&mut self, mut restart: Option<u64>) {
        while !self.must_end() {
            let Some(notice) = self.take_signal() else { break };
            match self.process.actions().disposition(notice.signal) {
                Disposition::Ignore => {}
                Disposition::Terminate => {
                    self.process.begin_exit(ExitStatus::Signal(notice.signal));
                }
                Disposition::Handle(action) => {
                    if let Some(number) = restart.take() {
                        self.finish_interrupted_call(number, action.flags & SA_RESTART != 0);
                    }
                    self.enter_handler(&notice, &action);
                }
            }
        }
        if let Some(number) = restart {
            self.finish_interrupted_call(number, true);
        }
        if let Some(mask) = self.saved_mask.take() {
            self.set_blocked(mask);
        }
    }

    fn finish_interrupted_call(&mut self, number: u64, again: bool) {
        let registers = &mut self.run_state.registers;
        if again {
            registers.rip = registers.rip.wrapping_sub(SYSCALL_LENGTH);
            registers.rax = number;
        } else {
            registers.rax = Errno::EINTR.to_result();
        }
    }

    /// A signal that the program's own instruction caused: it cannot be blocked or ignored.
    pub fn force_signal(&mut self, signal: u8, code: i32, detail: Detail) {
        let notice = Notice { signal, code, detail };
        let blocked = self.thread.blocked() & bit(signal) != 0;
        match self.process.actions().disposition(signal) {
            Disposition::Handle(action) if !blocked => self.enter_handler(&notice, &action),
            _ => {
                self.report_fatal(&notice);
                self.process.begin_exit(ExitStatus::Signal(signal));
            }
        }
    }

    fn enter_handler(&mut self, notice: &Notice, action: &SignalAction) {
        // Without a restorer the handler could not return; Linux on x86-64 refuses such an action as well.
        let delivered = action.flags & SA_RESTORER != 0 && self.push_frame(notice, action).is_ok();
        if !delivered {
            let no_stack = Notice {
                signal: SIGSEGV,
                ..*notice
            };
            self.report_fatal(&no_stack);
            self.process.begin_exit(ExitStatus::Signal(SIGSEGV));
            return;
        }
        if action.flags & SA_RESETHAND != 0 {
            self.process.actions().set(notice.signal, SignalAction::default());
        }
        let own = if action.flags & SA_NODEFER == 0 {
            bit(notice.signal)
        } else {
            0
        };
        self.thread
            .set_blocked((self.thread.blocked() | action.mask | own) & !UNSTOPPABLE);
    }

    fn push_frame(&mut self, notice: &Notice, action: &SignalAction) -> Result<(), Errno> {
        let registers = self.run_state.registers;
        let on_alternate = self.alternate_stack.holds(registers.rsp);
        let top = if action.flags & SA_ONSTACK != 0 && self.alternate_stack.size != 0 && !on_alternate {
            self.alternate_stack.base.wrapping_add(self.alternate_stack.size)
        } else {
            registers.rsp.wrapping_sub(RED_ZONE)
        };

        let fpu_size = FpuState::size();
        let extended = fpu_size > LEGACY_SIZE;
        let image_size = fpu_image_size();
        let fpu_address = top.wrapping_sub(image_size as u64) & !63;
        let frame_address = (fpu_address.wrapping_sub(size_of::<SignalFrame>() as u64) & !15).wrapping_sub(8);

        let mut image = vec![0; image_size];
        self.thread
            .store_fpu(|state| state.copy_to(&mut image[..fpu_size]));
        if extended {
            let mark = FpuMark {
                magic: FPU_MAGIC,
                extended_size: image_size as u32,
                components: crate::host::fpu_layout().components,
                size: fpu_size as u32,
                ..FpuMark::default()
            };
            image[LEGACY_SIZE - size_of::<FpuMark>()..LEGACY_SIZE].copy_from_slice(mark.as_bytes());
            image[fpu_size..].copy_from_slice(&FPU_MAGIC_END.to_le_bytes());
        }

        let fault_address = match notice.detail {
            Detail::Address(address) => address,
            _ => 0,
        };
        let context = SignalContext {
            flags: u64::from(extended),
            link: 0,
            stack: self.alternate_stack.describe(registers.rsp),
            registers: SignalRegisters {
                r8: registers.r8,
                r9: registers.r9,
                r10: registers.r10,
                r11: registers.r11,
                r12: registers.r12,
                r13: registers.r13,
                r14: registers.r14,
                r15: registers.r15,
                rdi: registers.rdi,
                rsi: registers.rsi,
                rbp: registers.rbp,
                rbx: registers.rbx,
                rdx: registers.rdx,
                rax: registers.rax,
                rcx: registers.rcx,
                rsp: registers.rsp,
                rip: registers.rip,
                rflags: registers.rflags,
                cs: USER_CODE,
                ss: USER_DATA,
                error_code: self.run_state.error_code,
                vector: u64::from(self.run_state.vector),
                old_mask: 0,
                fault_address,
                fpu_state: fpu_address,
                ..SignalRegisters::default()
            },
            mask: self.saved_mask.take().unwrap_or_else(|| self.thread.blocked()),
        };
        let frame = SignalFrame {
            return_address: action.restorer,
            context,
            information: notice.information(),
        };
        self.space.write_bytes(fpu_address, &image)?;
        self.space.write(frame_address, &frame)?;

        if self.alternate_stack.autodisarm {
            self.alternate_stack = AlternateStack::default();
        }
        let registers = &mut self.run_state.registers;
        registers.rip = action.handler;
        registers.rsp = frame_address;
        registers.rdi = u64::from(notice.signal);
        registers.rsi = frame_address + (size_of::<u64>() + size_of::<SignalContext>()) as u64;
        registers.rdx = frame_address + size_of::<u64>() as u64;
        registers.rax = 0;
        registers.rflags &= !HANDLER_CLEARS;
        Ok(())
    }
}
