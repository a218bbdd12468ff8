//! Trap frames and what becomes of each exception.

use super::interrupts;
use super::registers;
use super::segments::{USER_CODE, USER_DATA};
use super::{cpu, nmi, user_copy};
use crate::debug;
use x86_64::registers::rflags::RFlags;

/// `vector` of a frame that came by SYSCALL: above every vector of the CPU.
pub const SYSCALL_VECTOR: u64 = 0x100;

/// Debug exception.
pub const DEBUG: u64 = 1;
/// Non-maskable interrupt.
pub const NON_MASKABLE: u64 = 2;
/// General protection.
pub const GENERAL_PROTECTION: u64 = 13;
/// Page fault.
pub const PAGE_FAULT: u64 = 14;
/// Machine check.
pub const MACHINE_CHECK: u64 = 18;
/// First vector that is not an exception.
pub const FIRST_INTERRUPT: u64 = 32;

/// First address that is not in the lower half.
const LOWER_HALF_END: u64 = 1 << 47;

/// Flags that a program may have. IOPL stays 0, IF stays 1, and virtual-8086 mode does not exist.
const USER_FLAGS: RFlags = RFlags::CARRY_FLAG
    .union(RFlags::PARITY_FLAG)
    .union(RFlags::AUXILIARY_CARRY_FLAG)
    .union(RFlags::ZERO_FLAG)
    .union(RFlags::SIGN_FLAG)
    .union(RFlags::TRAP_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::OVERFLOW_FLAG)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::ID);
/// Bit 1 reads as one; interrupts are on in every program.
const ALWAYS_SET: u64 = 1 << 1 | 1 << 9;

/// All registers at an entry into the kernel, in the order in which the entry code pushes them. A program's frame is at the top
/// of its thread's kernel stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "register names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Exception or interrupt vector, or [`SYSCALL_VECTOR`].
    pub vector: u64,
    /// What the CPU said about the exception; 0 where it says nothing.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(
    size_of::<TrapFrame>() == 176,
    "the stack stays 16-byte aligned below a frame"
);

impl TrapFrame {
    /// The frame with which a program begins at `entry`: `argument` in RDI, every other register zero.
    pub fn new_user(entry: u64, stack: u64, argument: u64) -> Self {
        TrapFrame {
            rip: entry,
            rsp: stack,
            rdi: argument,
            cs: u64::from(USER_CODE),
            ss: u64::from(USER_DATA),
            rflags: ALWAYS_SET,
            ..TrapFrame::default()
        }
    }

    /// True if a program was interrupted, not the kernel.
    pub fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// Leaves only what a program may have in RFLAGS, and interrupts on.
    pub fn sanitize_flags(&mut self) {
        self.rflags = self.rflags & USER_FLAGS.bits() | ALWAYS_SET;
    }

    /// True if SYSRET restores this frame exactly: it takes RIP from RCX and RFLAGS from R11. A trap flag or resume flag needs IRETQ,
    /// because SYSRET clears the one and the other would trap one instruction late.
    fn sysret_restores(&self) -> bool {
        const NEEDS_IRET: u64 = RFlags::TRAP_FLAG.union(RFlags::RESUME_FLAG).bits();
        self.vector == SYSCALL_VECTOR
            && self.rcx == self.rip
            && self.r11 == self.rflags
            && self.rflags & NEEDS_IRET == 0
    }
}

/// A system call.
pub(super) extern "C" fn syscall_from_user(frame: &mut TrapFrame) {
    super::irq::enable();
    crate::trap::on_syscall(frame);
}

/// An exception or interrupt while a program ran.
pub(super) extern "C" fn trap_from_user(frame: &mut TrapFrame) {
    if frame.vector >= FIRST_INTERRUPT {
        interrupts::dispatch(frame);
        return;
    }
    let fault_address = match frame.vector {
        PAGE_FAULT => registers::fault_address(),
        DEBUG => {
            registers::take_debug_status();
            0
        }
        _ => 0,
    };
    super::irq::enable();
    crate::trap::on_user_exception(frame, fault_address);
}

/// An exception or interrupt while the kernel ran.
pub(super) extern "C" fn trap_from_kernel(frame: &mut TrapFrame) {
    if frame.vector >= FIRST_INTERRUPT {
        interrupts::dispatch(frame);
        return;
    }
    let address = if frame.vector == PAGE_FAULT {
        registers::fault_address()
    } else {
        0
    };
    if let Some(fixup) = user_copy::fixup(frame.rip) {
        if frame.vector == PAGE_FAULT && address < LOWER_HALF_END {
            if !resolve_copy_fault(frame, address) {
                frame.rip = fixup;
            }
            return;
        }
        if frame.vector == GENERAL_PROTECTION {
            // A non-canonical address that a caller's range check let through.
            frame.rip = fixup;
            return;
        }
    }
    debug::panic::on_exception(frame, address);
}

fn resolve_copy_fault(frame: &TrapFrame, address: u64) -> bool {
    let interrupts_were_on = frame.rflags & RFlags::INTERRUPT_FLAG.bits() != 0;
    if interrupts_were_on {
        super::irq::enable();
    }
    let resolved = crate::trap::on_copy_fault(address, frame.error_code);
    super::irq::disable();
    resolved
}

/// NMI, #DF, #MC anywhere, #DB in the kernel. Takes no lock: whatever it interrupted may hold it.
pub(super) extern "C" fn trap_paranoid(frame: &mut TrapFrame) {
    match frame.vector {
        NON_MASKABLE => nmi::handle(frame),
        DEBUG if super::boot::entry_section_contains(frame.rip) => {
            // Held back by MOV SS until after the entry's first instruction. The program will not miss it: it is told of
            // single steps, and that one ended in the kernel.
            registers::take_debug_status();
            frame.rflags &= !RFlags::TRAP_FLAG.bits();
        }
        _ => debug::panic::on_exception(frame, registers::fault_address()),
    }
}

/// Does everything that must be done before a program runs on, and leaves interrupts off. True if SYSRET may be used.
pub(super) extern "C" fn prepare_user_return(frame: &mut TrapFrame) -> bool {
    super::irq::disable();
    if cpu::has_work() || frame.rip >= LOWER_HALF_END {
        work_before_user(frame);
    }
    frame.cs = u64::from(USER_CODE);
    frame.ss = u64::from(USER_DATA);
    frame.sanitize_flags();
    frame.sysret_restores()
}

/// The rare part of [`prepare_user_return`]: does this CPU's work, and gives a program that went astray to itself. Interrupts are
/// off before and after.
#[cold]
#[inline(never)]
fn work_before_user(frame: &mut TrapFrame) {
    loop {
        if cpu::has_work() {
            super::irq::enable();
            crate::trap::before_user(frame);
            super::irq::disable();
            continue;
        }
        if frame.rip < LOWER_HALF_END {
            return;
        }
        // IRETQ and SYSRET would both fault in ring 0 (SDM 2A, IRET). It is the program's fault: give it to the program.
        super::irq::enable();
        let address = frame.rip;
        frame.vector = GENERAL_PROTECTION;
        frame.error_code = 0;
        log::debug!("return to {address:#x} refused");
        crate::trap::on_user_exception(frame, 0);
        super::irq::disable();
    }
}
