//! System calls of programs: Linux's numbers, arguments and results on x86-64.
//!
//! Each family has its file. A call gets its raw arguments, checks them, copies from and to the program's memory through its address space, and
//! returns a value or an [`Errno`]; a number that is not served is `ENOSYS`. Calls that wait are `async`.

mod directories;
mod files;
mod futex;
mod memory;
mod numbers;
mod polling;
mod processes;
mod signals;
mod system;
mod time;
mod transfer;

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{AT_FDCWD, O_CREAT, O_TRUNC, O_WRONLY};
use crate::process::Task;
use crate::process::spawn::CloneRequest;
use numbers as n;

impl Task {
    /// Makes the call with this number and the arguments in the registers.
    pub async fn dispatch(&mut self, number: u64) -> Result<u64, Errno> {
        let registers = &self.run_state.registers;
        let (a, b, c) = (registers.rdi, registers.rsi, registers.rdx);
        let (d, e, f) = (registers.r10, registers.r8, registers.r9);
        let here = AT_FDCWD;
        // Linux looks at the low half only.
        let number = u64::from(number as u32);
        match number {
            n::READ => self.sys_read(a as i32, b, c, None).await,
            n::WRITE => self.sys_write(a as i32, b, c, None).await,
            n::PREAD64 => self.sys_read(a as i32, b, c, Some(d)).await,
            n::PWRITE64 => self.sys_write(a as i32, b, c, Some(d)).await,
            n::READV => self.sys_readv(a as i32, b, c).await,
            n::WRITEV => self.sys_writev(a as i32, b, c).await,
            n::OPEN => self.sys_open(here, a, b as u32, c as u32),
            n::OPENAT => self.sys_open(a as i32, b, c as u32, d as u32),
            n::CREAT => self.sys_open(here, a, O_CREAT | O_WRONLY | O_TRUNC, b as u32),
            n::CLOSE => self.sys_close(a as i32),
            n::CLOSE_RANGE => self.sys_close_range(a, b, c),
            n::LSEEK => self.sys_lseek(a as i32, b as i64, c as u32),
            n::FSTAT => self.sys_fstat(a as i32, b),
            n::STAT => self.sys_stat(here, a, b, 0),
            n::LSTAT => self.sys_stat(here, a, b, crate::linux::flags::AT_SYMLINK_NOFOLLOW),
            n::NEWFSTATAT => self.sys_stat(a as i32, b, c, d as u32),
            n::IOCTL => self.sys_ioctl(a as i32, b, c),
            n::FCNTL => self.sys_fcntl(a as i32, b as u32, c),
            n::DUP => self.sys_dup(a as i32),
            n::DUP2 => self.sys_dup_to(a as i32, b as i32, 0, true),
            n::DUP3 => self.sys_dup_to(a as i32, b as i32, c as u32, false),
            n::PIPE => self.sys_pipe(a, 0),
            n::PIPE2 => self.sys_pipe(a, b as u32),
            n::FTRUNCATE => self.sys_ftruncate(a as i32, b),
            n::FSYNC | n::FDATASYNC => self.files.get(a as i32).map(|_| 0),
            n::UMASK => Ok(u64::from(self.file_context().set_mask(a as u32))),

            n::ACCESS => self.sys_access(here, a, b as u32, 0),
            n::FACCESSAT => self.sys_access(a as i32, b, c as u32, 0),
            n::FACCESSAT2 => self.sys_access(a as i32, b, c as u32, d as u32),
            n::READLINK => self.sys_readlink(here, a, b, c),
            n::READLINKAT => self.sys_readlink(a as i32, b, c, d),
            n::GETDENTS64 => self.sys_getdents(a as i32, b, c),
            n::GETCWD => self.sys_getcwd(a, b),
            n::CHDIR => self.sys_chdir(a),
            n::FCHDIR => self.sys_fchdir(a as i32),
            n::MKDIR => self.sys_mkdir(here, a, b as u32),
            n::MKDIRAT => self.sys_mkdir(a as i32, b, c as u32),
            n::RMDIR => self.sys_unlink(here, a, crate::linux::flags::AT_REMOVEDIR),
            n::UNLINK => self.sys_unlink(here, a, 0),
            n::UNLINKAT => self.sys_unlink(a as i32, b, c as u32),
            n::CHMOD => self.sys_chmod(here, a, b as u32),
            n::FCHMODAT => self.sys_chmod(a as i32, b, c as u32),

            n::POLL => self.sys_poll(a, b, c as i32).await,
            n::PPOLL => self.sys_ppoll(a, b, c, d, e).await,

            n::MMAP => self.sys_mmap(a, b, c, d, e as i32, f),
            n::MUNMAP => self.space.unmap(a, b).map(|()| 0),
            n::MPROTECT => self.sys_mprotect(a, b, c),
            n::MADVISE => self.sys_madvise(a, b, c),
            n::BRK => Ok(self.space.set_break(a)),

            n::CLONE => {
                let request = CloneRequest {
                    flags: a,
                    stack: b,
                    parent_tid: c,
                    child_tid: d,
                    tls: e,
                };
                self.sys_clone(&request).await
            }
            n::FORK => {
                let flags = u64::from(crate::linux::signal::SIGCHLD);
                self.sys_clone(&CloneRequest {
                    flags,
                    ..CloneRequest::default()
                })
                .await
            }
            n::VFORK => {
                use crate::linux::flags::{CLONE_VFORK, CLONE_VM};
                let flags = CLONE_VM | CLONE_VFORK | u64::from(crate::linux::signal::SIGCHLD);
                self.sys_clone(&CloneRequest {
                    flags,
                    ..CloneRequest::default()
                })
                .await
            }
            n::EXECVE => self.sys_execve(a, b, c).await,
            n::EXIT => self.sys_exit(a),
            n::EXIT_GROUP => self.sys_exit_group(a),
            n::WAIT4 => self.sys_wait4(a as i32, b, c as u32, d).await,
            n::GETPID => Ok(u64::from(self.process.id)),
            n::GETTID => Ok(u64::from(self.thread.id())),
            n::GETPPID => self.sys_getppid(),
            n::GETUID | n::GETGID | n::GETEUID | n::GETEGID => Ok(0),
            n::GETPGRP => self.sys_getpgid(0),
            n::GETPGID => self.sys_getpgid(a as u32),
            n::SETPGID => self.sys_setpgid(a as u32, b as u32),
            n::GETSID => self.sys_getsid(a as u32),
            n::SETSID => self.sys_setsid(),
            n::SET_TID_ADDRESS => {
                self.clear_child_tid = a;
                Ok(u64::from(self.thread.id()))
            }
            n::SET_ROBUST_LIST => self.sys_set_robust_list(a, b),
            n::ARCH_PRCTL => self.sys_arch_prctl(a, b),
            n::PRCTL => self.sys_prctl(a, b),
            n::PRLIMIT64 => self.sys_prlimit(a as u32, b, c, d),
            n::GETRLIMIT => self.sys_prlimit(0, a, 0, b),

            n::FUTEX => self.sys_futex(a, b as u32, c as u32, d, e, f as u32).await,

            n::RT_SIGACTION => self.sys_sigaction(a, b, c, d),
            n::RT_SIGPROCMASK => self.sys_sigprocmask(a as u32, b, c, d),
            n::RT_SIGPENDING => self.sys_sigpending(a, b),
            n::RT_SIGSUSPEND => self.sys_sigsuspend(a, b).await,
            n::RT_SIGRETURN => {
                self.signal_return();
                Ok(self.run_state.registers.rax)
            }
            n::SIGALTSTACK => self.sys_sigaltstack(a, b),
            n::PAUSE => self.sys_pause().await,
            n::KILL => self.sys_kill(a as i32, b),
            n::TKILL => self.sys_tgkill(None, a as i32, b),
            n::TGKILL => self.sys_tgkill(Some(a as i32), b as i32, c),

            n::CLOCK_GETTIME => self.sys_clock_gettime(a as u32, b),
            n::CLOCK_GETRES => self.sys_clock_getres(a as u32, b),
            n::CLOCK_NANOSLEEP => self.sys_clock_nanosleep(a as u32, b as u32, c, d).await,
            n::NANOSLEEP => {
                self.sys_clock_nanosleep(crate::linux::flags::CLOCK_MONOTONIC, 0, a, b)
                    .await
            }
            n::GETTIMEOFDAY => self.sys_gettimeofday(a, b),
            n::TIME => self.sys_time(a),

            n::SCHED_YIELD => {
                self.yield_now().await;
                Ok(0)
            }
            n::SCHED_GETAFFINITY => self.sys_sched_getaffinity(a as u32, b, c),
            n::SCHED_SETAFFINITY => self.sys_sched_setaffinity(a as u32, b, c).await,
            n::GETCPU => self.sys_getcpu(a, b),
            n::UNAME => self.sys_uname(a),
            n::SYSINFO => self.sys_sysinfo(a),
            n::GETRANDOM => self.sys_getrandom(a, b, c),

            // glibc asks for these, and does without.
            n::RSEQ | n::CLONE3 => Err(Errno::ENOSYS),
            _ => {
                kernel().report_unknown_call(number);
                Err(Errno::ENOSYS)
            }
        }
    }
}
