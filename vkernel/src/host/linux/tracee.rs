//! A traced process: an address space that is empty but for one page of ours, in which system calls can be made by hand.

use super::interrupts::KICK;
use super::ram::RamFile;
use crate::linux::Errno;
use crate::sched::fpu::FpuState;
use core::ffi::c_void;
use dragonet_abi::layout::{PAGE_SIZE, USER_END};
use dragonet_abi::vmspace::RegisterFrame;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::vec;
use std::vec::Vec;

/// The page that stays mapped: the last of user space, which programs get only if they ask for it.
const STUB: u64 = USER_END - PAGE_SIZE;
/// `syscall`.
const STUB_CODE: [u8; 2] = [0x0f, 0x05];
/// `PTRACE_SYSEMU`: run, and stop at a system call without making it.
const SYSEMU: libc::c_uint = 31;
/// Register set with everything that XSAVE saves.
const XSTATE: usize = 0x202;
/// Flag of rseq(2).
const RSEQ_UNREGISTER: i32 = 1;
/// The number by which the C library's abort handlers are known.
const RSEQ_SIGNATURE: u32 = 0x5305_3053;
/// Bytes that the C library registers at least.
const RSEQ_LENGTH: u32 = 32;
/// More than any processor's image.
const IMAGE_ROOM: usize = 16 * 1024;

std::thread_local! {
    /// The "FPU registers" of the calling host thread.
    static REGISTERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Makes the saved registers the calling host thread's.
pub fn load_fpu(state: &FpuState) {
    REGISTERS.with_borrow_mut(|registers| {
        registers.resize(FpuState::size(), 0);
        state.copy_to(registers);
    });
}

/// Saves the calling host thread's registers.
pub fn store_fpu(state: &mut FpuState) {
    REGISTERS.with_borrow(|registers| state.set_from_program(registers));
}

/// Why a traced process stopped.
pub(super) enum Stop {
    /// It is about to make a system call.
    Syscall,
    /// It was told to stop.
    Kicked,
    /// A signal that its own instruction caused.
    Fault(libc::siginfo_t),
}

/// A stopped process. Used by the host thread that made it only.
pub(super) struct Tracee {
    /// Its id.
    pub process: i32,
}

impl Tracee {
    /// Makes one that has nothing mapped.
    pub fn new() -> Result<Self, Errno> {
        let stub = stub_file()?;
        let rseq = restartable_sequences();
        // SAFETY: the child makes system calls only, none of which needs a lock that another thread might hold.
        let process = unsafe { libc::fork() };
        if process < 0 {
            return Err(Errno::EAGAIN);
        }
        if process == 0 {
            // SAFETY: as above.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if let Some((area, length)) = rseq {
                    libc::syscall(libc::SYS_rseq, area, length, RSEQ_UNREGISTER, RSEQ_SIGNATURE);
                }
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
                libc::_exit(1);
            }
        }
        let tracee = Tracee { process };
        tracee.wait();
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        tracee.request(libc::PTRACE_SETOPTIONS, options as usize);

        // The process stopped behind a `syscall` instruction of the C library, which serves once more.
        let there = tracee.registers().rip - 2;
        let protection = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
        let mapped = tracee.syscall(
            there,
            libc::SYS_mmap,
            [STUB, PAGE_SIZE, protection, flags, stub as u64, 0],
        )?;
        assert_eq!(mapped, STUB);
        tracee.forget_pages()?;
        Ok(tracee)
    }

    /// Unmaps everything but the stub.
    pub fn forget_pages(&self) -> Result<(), Errno> {
        self.syscall(STUB, libc::SYS_munmap, [0, STUB, 0, 0, 0, 0])
            .map(drop)
    }

    /// Maps a frame of RAM.
    pub fn map_page(&self, address: u64, frame: u64, write: bool, execute: bool) -> Result<(), Errno> {
        let mut protection = libc::PROT_READ;
        protection |= if write { libc::PROT_WRITE } else { 0 };
        protection |= if execute { libc::PROT_EXEC } else { 0 };
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
        let file = RamFile::get().descriptor as u64;
        let arguments = [
            address,
            PAGE_SIZE,
            protection as u64,
            flags,
            file,
            frame * PAGE_SIZE,
        ];
        self.syscall(STUB, libc::SYS_mmap, arguments).map(drop)
    }

    /// Sets general registers.
    pub fn set_registers(&self, frame: &RegisterFrame) {
        let mut registers = self.registers();
        registers.rax = frame.rax;
        registers.rbx = frame.rbx;
        registers.rcx = frame.rcx;
        registers.rdx = frame.rdx;
        registers.rsi = frame.rsi;
        registers.rdi = frame.rdi;
        registers.rbp = frame.rbp;
        registers.r8 = frame.r8;
        registers.r9 = frame.r9;
        registers.r10 = frame.r10;
        registers.r11 = frame.r11;
        registers.r12 = frame.r12;
        registers.r13 = frame.r13;
        registers.r14 = frame.r14;
        registers.r15 = frame.r15;
        registers.rip = frame.rip;
        registers.eflags = frame.rflags & RegisterFrame::USER_FLAGS | RegisterFrame::FORCED_FLAGS;
        registers.rsp = frame.rsp;
        registers.fs_base = frame.fs_base;
        registers.gs_base = frame.gs_base;
        registers.orig_rax = u64::MAX;
        self.put_registers(&registers);
    }

    /// Reads general registers; `rax` is the number if it stopped at a system call.
    pub fn frame(&self, at_syscall: bool) -> RegisterFrame {
        let registers = self.registers();
        let (rax, rcx, r11) = if at_syscall {
            (registers.orig_rax, registers.rip, registers.eflags)
        } else {
            (registers.rax, registers.rcx, registers.r11)
        };
        RegisterFrame {
            rax,
            rbx: registers.rbx,
            rcx,
            rdx: registers.rdx,
            rsi: registers.rsi,
            rdi: registers.rdi,
            rbp: registers.rbp,
            r8: registers.r8,
            r9: registers.r9,
            r10: registers.r10,
            r11,
            r12: registers.r12,
            r13: registers.r13,
            r14: registers.r14,
            r15: registers.r15,
            rip: registers.rip,
            rflags: registers.eflags,
            rsp: registers.rsp,
            fs_base: registers.fs_base,
            gs_base: registers.gs_base,
        }
    }

    /// Gives it the calling host thread's FPU registers.
    pub fn set_fpu(&self) {
        REGISTERS.with_borrow(|registers| {
            let mut image = self.fpu_image();
            let length = image.len().min(registers.len());
            image[..length].copy_from_slice(&registers[..length]);
            image[length..].fill(0);
            let mut part = libc::iovec {
                iov_base: image.as_mut_ptr().cast(),
                iov_len: image.len(),
            };
            // SAFETY: the vector names our buffer, which is read only.
            let done = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, self.process, XSTATE, &raw mut part) };
            assert_eq!(done, 0, "PTRACE_SETREGSET: {}", std::io::Error::last_os_error());
        });
    }

    /// Takes its FPU registers as the calling host thread's.
    pub fn take_fpu(&self) {
        let image = self.fpu_image();
        REGISTERS.with_borrow_mut(|registers| {
            let length = image.len().min(FpuState::size());
            registers.resize(FpuState::size(), 0);
            registers[..length].copy_from_slice(&image[..length]);
        });
    }

    /// Lets it run until it stops.
    pub fn run(&self) -> Stop {
        self.request(SYSEMU, 0);
        let status = self.wait();
        match libc::WSTOPSIG(status) {
            signal if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            KICK => Stop::Kicked,
            _ => {
                // SAFETY: a structure of plain numbers, filled by the call.
                let mut information: libc::siginfo_t = unsafe { core::mem::zeroed() };
                self.request_with(libc::PTRACE_GETSIGINFO, &raw mut information);
                Stop::Fault(information)
            }
        }
    }

    fn fpu_image(&self) -> Vec<u8> {
        let mut image = vec![0; IMAGE_ROOM];
        let mut part = libc::iovec {
            iov_base: image.as_mut_ptr().cast(),
            iov_len: image.len(),
        };
        // SAFETY: the vector names our buffer, of which as much is filled as it has.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, self.process, XSTATE, &raw mut part) };
        assert_eq!(done, 0, "PTRACE_GETREGSET: {}", std::io::Error::last_os_error());
        image.truncate(part.iov_len);
        image
    }

    /// Makes a system call in the process with the `syscall` instruction at `place`.
    fn syscall(&self, place: u64, number: i64, arguments: [u64; 6]) -> Result<u64, Errno> {
        let saved = self.registers();
        let mut registers = saved;
        registers.rip = place;
        registers.rax = number as u64;
        registers.orig_rax = u64::MAX;
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ] = arguments;
        self.put_registers(&registers);
        loop {
            self.request(libc::PTRACE_SINGLESTEP, 0);
            let status = self.wait();
            match libc::WSTOPSIG(status) {
                // The end of the system call at which the process had stopped counts as a step, too.
                libc::SIGTRAP if self.registers().rip == place => {}
                libc::SIGTRAP => break,
                // A kick that came too late for the run that it was meant for.
                KICK => {}
                other => panic!("a traced process got signal {other} in a call made for it"),
            }
        }
        let result = self.registers().rax;
        self.put_registers(&saved);
        if result as i64 >= 0 {
            Ok(result)
        } else {
            Err(Errno::ENOMEM)
        }
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: a structure of plain numbers, filled by the call.
        let mut registers: libc::user_regs_struct = unsafe { core::mem::zeroed() };
        self.request_with(libc::PTRACE_GETREGS, &raw mut registers);
        registers
    }

    fn put_registers(&self, registers: &libc::user_regs_struct) {
        self.request_with(libc::PTRACE_SETREGS, core::ptr::from_ref(registers).cast_mut());
    }

    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: none of these requests names memory of ours.
        let done = unsafe { libc::ptrace(request, self.process, 0, data) };
        assert_eq!(
            done,
            0,
            "ptrace request {request}: {}",
            std::io::Error::last_os_error()
        );
    }

    fn request_with<T>(&self, request: libc::c_uint, data: *mut T) {
        // SAFETY: the callers pass a structure of the kind that the request reads or fills.
        let done = unsafe { libc::ptrace(request, self.process, 0, data.cast::<c_void>()) };
        assert_eq!(
            done,
            0,
            "ptrace request {request}: {}",
            std::io::Error::last_os_error()
        );
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is ours.
        let waited = unsafe { libc::waitpid(self.process, &mut status, libc::__WALL) };
        assert!(
            waited == self.process && libc::WIFSTOPPED(status),
            "a traced process ended: {status:#x}"
        );
        status
    }
}

/// The calling thread's area for rseq(2) and its size, if the C library has registered one. The kernel writes to it, so it must not
/// be registered where it is not mapped.
fn restartable_sequences() -> Option<(usize, u32)> {
    // SAFETY: the C library's symbols, if it has them, are two numbers; the first word of a thread's block is its address.
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if offset.is_null() || size.is_null() || *size == 0 {
            return None;
        }
        let thread: usize;
        core::arch::asm!("mov {}, fs:[0]", out(reg) thread, options(nostack, readonly));
        Some((thread.wrapping_add_signed(*offset), RSEQ_LENGTH.max(*size)))
    }
}

/// A memory file with the stub's code. Traced processes inherit its descriptor.
fn stub_file() -> Result<i32, Errno> {
    static FILE: OnceLock<i32> = OnceLock::new();
    let descriptor = *FILE.get_or_init(|| {
        // SAFETY: plain system calls on a new descriptor.
        unsafe {
            let descriptor = libc::memfd_create(c"stub".as_ptr(), 0);
            libc::ftruncate(descriptor, PAGE_SIZE as i64);
            libc::pwrite(descriptor, STUB_CODE.as_ptr().cast(), STUB_CODE.len(), 0);
            descriptor
        }
    });
    if descriptor < 0 {
        Err(Errno::ENOMEM)
    } else {
        Ok(descriptor)
    }
}
