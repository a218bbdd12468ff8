//! The way back from a handler. The frame is the program's memory: nothing in it is believed.

use crate::linux::Errno;
use crate::linux::signal::SIGSEGV;
use crate::linux::signal::{SI_KERNEL, UNSTOPPABLE};
use crate::linux::structures::{FPU_MAGIC, FpuMark, SignalContext};
use crate::process::Task;
use crate::sched::fpu::{FpuState, LEGACY_SIZE};
use crate::signal::deliver::AlternateStack;
use crate::signal::pending::Detail;
use alloc::vec;
use dragonet_abi::vmspace::RegisterFrame;
use zerocopy::FromBytes;

impl Task {
    /// `rt_sigreturn`: registers, mask and stack as the frame below the stack pointer has them. A bad frame is a SIGSEGV.
    pub fn signal_return(&mut self) {
        if self.restore_context().is_err() {
            self.force_signal(SIGSEGV, SI_KERNEL, Detail::None);
        }
    }

    fn restore_context(&mut self) -> Result<(), Errno> {
        // The handler's `ret` took the return address, so the context is where the stack pointer is now.
        let context: SignalContext = self.space.read(self.run_state.registers.rsp)?;
        let saved = &context.registers;
        let current = &mut self.run_state.registers;
        *current = RegisterFrame {
            rax: saved.rax,
            rbx: saved.rbx,
            rcx: saved.rcx,
            rdx: saved.rdx,
            rsi: saved.rsi,
            rdi: saved.rdi,
            rbp: saved.rbp,
            r8: saved.r8,
            r9: saved.r9,
            r10: saved.r10,
            r11: saved.r11,
            r12: saved.r12,
            r13: saved.r13,
            r14: saved.r14,
            r15: saved.r15,
            rip: saved.rip,
            rflags: saved.rflags & RegisterFrame::USER_FLAGS | RegisterFrame::FORCED_FLAGS,
            rsp: saved.rsp,
            fs_base: current.fs_base,
            gs_base: current.gs_base,
        };
        self.restore_fpu(saved.fpu_state)?;
        self.set_blocked(context.mask & !UNSTOPPABLE);
        if let Ok(stack) = AlternateStack::from_program(&context.stack) {
            self.alternate_stack = stack;
        }
        Ok(())
    }

    fn restore_fpu(&mut self, address: u64) -> Result<(), Errno> {
        if address == 0 {
            self.thread.replace_fpu(&[]);
            return Ok(());
        }
        let mut image = vec![0; FpuState::size()];
        self.space.read_bytes(address, &mut image[..LEGACY_SIZE])?;
        let mark = FpuMark::read_from_bytes(&image[LEGACY_SIZE - size_of::<FpuMark>()..LEGACY_SIZE])
            .map_err(|_| Errno::EFAULT)?;
        let whole = mark.magic == FPU_MAGIC && mark.size as usize == image.len();
        if whole {
            self.space.read_bytes(address, &mut image)?;
            self.thread.replace_fpu(&image);
        } else {
            self.thread.replace_fpu(&image[..LEGACY_SIZE]);
        }
        Ok(())
    }
}
