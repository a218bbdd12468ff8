//! System calls with bad arguments: each has to give its error and change nothing. Also runs on Linux, whose answers are the same.

use std::process::ExitCode;

/// Nothing is ever mapped there.
const UNMAPPED: u64 = 0x6666_0000_0000;
/// The kernel's half of the address space.
const KERNEL: u64 = 0xffff_8000_0000_0000;
/// No address at all.
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;
/// Addresses that no program may touch.
const BAD: [u64; 6] = [0, 8, UNMAPPED, KERNEL, NON_CANONICAL, u64::MAX];

struct Report {
    made: u32,
    failed: u32,
}

impl Report {
    /// Makes a call and compares the error (0 = success).
    fn expect(&mut self, what: &str, number: i64, arguments: [u64; 6], expected: i32) {
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: the arguments are chosen so that the kernel has nothing to write to.
        let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        let error = if result == -1 {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
        } else {
            0
        };
        self.made += 1;
        if error != expected {
            self.failed += 1;
            println!("syscalls-bad: {what}{arguments:x?}: FAILED: error {error}, not {expected}");
        }
    }
}

fn arguments(list: &[u64]) -> [u64; 6] {
    let mut all = [0; 6];
    all[..list.len()].copy_from_slice(list);
    all
}

fn main() -> ExitCode {
    let mut report = Report { made: 0, failed: 0 };
    let text = c"/bin".as_ptr() as u64;
    let code = main as *const () as u64;
    let mut word = [0_u64; 64];
    let good = word.as_mut_ptr() as u64;
    // SAFETY: plain system calls that make descriptors.
    let (null, zero) = unsafe {
        let mut ends = [0; 2];
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK), 0);
        (ends[1] as u64, ends[0] as u64)
    };
    let here = libc::AT_FDCWD as u64;

    for bad in BAD {
        let fault = libc::EFAULT;
        for (what, number, list) in [
            ("write", libc::SYS_write, vec![null, bad, 8]),
            ("writev", libc::SYS_writev, vec![null, bad, 1]),
            ("open", libc::SYS_open, vec![bad, 0]),
            ("openat", libc::SYS_openat, vec![here, bad, 0]),
            ("stat", libc::SYS_stat, vec![text, bad]),
            ("stat path", libc::SYS_stat, vec![bad, good]),
            ("fstat", libc::SYS_fstat, vec![null, bad]),
            ("newfstatat", libc::SYS_newfstatat, vec![here, text, bad, 0]),
            ("access", libc::SYS_access, vec![bad, 0]),
            ("readlink", libc::SYS_readlink, vec![bad, good, 8]),
            ("chdir", libc::SYS_chdir, vec![bad]),
            ("getcwd", libc::SYS_getcwd, vec![bad, 100]),
            ("pipe2", libc::SYS_pipe2, vec![bad, 0]),
            ("poll", libc::SYS_poll, vec![bad, 1, 0]),
            ("uname", libc::SYS_uname, vec![bad]),
            ("sysinfo", libc::SYS_sysinfo, vec![bad]),
            ("clock_gettime", libc::SYS_clock_gettime, vec![1, bad]),
            ("getrandom", libc::SYS_getrandom, vec![bad, 8, 0]),
            ("execve", libc::SYS_execve, vec![bad, 0, 0]),
            (
                "sched_getaffinity",
                libc::SYS_sched_getaffinity,
                vec![0, 128, bad],
            ),
        ] {
            report.expect(what, number, arguments(&list), fault);
        }
        if bad != 0 {
            for (what, number, list) in [
                ("rt_sigaction", libc::SYS_rt_sigaction, vec![10, bad, 0, 8]),
                ("rt_sigprocmask", libc::SYS_rt_sigprocmask, vec![0, bad, 0, 8]),
                ("sigaltstack", libc::SYS_sigaltstack, vec![0, bad]),
                ("gettimeofday", libc::SYS_gettimeofday, vec![bad, 0]),
                ("prlimit64", libc::SYS_prlimit64, vec![0, 7, 0, bad]),
            ] {
                report.expect(what, number, arguments(&list), fault);
            }
        }
        let (nanosleep, futex) = (libc::SYS_nanosleep, libc::SYS_futex);
        report.expect("nanosleep", nanosleep, arguments(&[bad, 0]), fault);
        let misaligned = bad % 4 != 0;
        report.expect(
            "futex wait",
            futex,
            arguments(&[bad, 0, 0, 0]),
            if misaligned { libc::EINVAL } else { fault },
        );
    }

    report.expect(
        "write past the end",
        libc::SYS_write,
        arguments(&[null, u64::MAX - 3, 8]),
        libc::EFAULT,
    );
    report.expect(
        "futex unaligned",
        libc::SYS_futex,
        arguments(&[good + 1, 1, 1]),
        libc::EINVAL,
    );
    report.expect(
        "futex value",
        libc::SYS_futex,
        arguments(&[good, 0, 7]),
        libc::EAGAIN,
    );
    report.expect(
        "futex operation",
        libc::SYS_futex,
        arguments(&[good, 99]),
        libc::ENOSYS,
    );
    report.expect(
        "fstat into code",
        libc::SYS_fstat,
        arguments(&[null, code]),
        libc::EFAULT,
    );
    report.expect(
        "uname into code",
        libc::SYS_uname,
        arguments(&[code]),
        libc::EFAULT,
    );

    for bad in [-1_i64, 77, 1023, i64::from(i32::MAX), i64::from(i32::MIN)] {
        let bad = bad as u64;
        for (what, number, list) in [
            ("read", libc::SYS_read, vec![bad, good, 8]),
            ("write", libc::SYS_write, vec![bad, good, 8]),
            ("close", libc::SYS_close, vec![bad]),
            ("fstat", libc::SYS_fstat, vec![bad, good]),
            ("lseek", libc::SYS_lseek, vec![bad, 0, 0]),
            ("dup", libc::SYS_dup, vec![bad]),
            ("dup2", libc::SYS_dup2, vec![bad, 5]),
            (
                "dup2 to",
                libc::SYS_dup2,
                vec![0, if bad == 77 || bad == 1023 { u64::MAX } else { bad }],
            ),
            ("fcntl", libc::SYS_fcntl, vec![bad, 1, 0]),
            ("ioctl", libc::SYS_ioctl, vec![bad, 0x5401, good]),
            ("fchdir", libc::SYS_fchdir, vec![bad]),
            ("getdents64", libc::SYS_getdents64, vec![bad, good, 100]),
            ("mmap", libc::SYS_mmap, vec![0, 4096, 1, 2, bad, 0]),
        ] {
            report.expect(what, number, arguments(&list), libc::EBADF);
        }
    }

    let inval = libc::EINVAL;
    for (what, number, list, error) in [
        ("no such call", 1000, vec![], libc::ENOSYS),
        ("no such call", i64::from(u32::MAX), vec![], libc::ENOSYS),
        (
            "mmap nothing",
            libc::SYS_mmap,
            vec![0, 0, 3, 0x22, u64::MAX, 0],
            inval,
        ),
        (
            "mmap too much",
            libc::SYS_mmap,
            vec![0, 1 << 62, 3, 0x22, u64::MAX, 0],
            libc::ENOMEM,
        ),
        (
            "mmap wrapping",
            libc::SYS_mmap,
            vec![0, u64::MAX, 3, 0x22, u64::MAX, 0],
            libc::ENOMEM,
        ),
        (
            "mmap neither",
            libc::SYS_mmap,
            vec![0, 4096, 3, 0x20, u64::MAX, 0],
            inval,
        ),
        (
            "mmap fixed unaligned",
            libc::SYS_mmap,
            vec![0x1001, 4096, 3, 0x32, u64::MAX, 0],
            inval,
        ),
        (
            "mmap fixed kernel",
            libc::SYS_mmap,
            vec![KERNEL, 4096, 3, 0x32, u64::MAX, 0],
            libc::ENOMEM,
        ),
        ("mmap offset", libc::SYS_mmap, vec![0, 4096, 1, 2, 0, 100], inval),
        ("munmap unaligned", libc::SYS_munmap, vec![good | 1, 4096], inval),
        ("munmap nothing", libc::SYS_munmap, vec![0x10000, 0], inval),
        ("munmap kernel", libc::SYS_munmap, vec![KERNEL, 4096], inval),
        (
            "munmap wrapping",
            libc::SYS_munmap,
            vec![0x10000, u64::MAX - 0x8000],
            inval,
        ),
        (
            "mprotect unaligned",
            libc::SYS_mprotect,
            vec![good | 1, 4096, 1],
            inval,
        ),
        (
            "mprotect hole",
            libc::SYS_mprotect,
            vec![UNMAPPED, 4096, 1],
            libc::ENOMEM,
        ),
        (
            "mprotect kernel",
            libc::SYS_mprotect,
            vec![KERNEL, 4096, 1],
            libc::ENOMEM,
        ),
        (
            "madvise advice",
            libc::SYS_madvise,
            vec![0x10000, 4096, 9999],
            inval,
        ),
        (
            "madvise hole",
            libc::SYS_madvise,
            vec![UNMAPPED, 4096, 4],
            libc::ENOMEM,
        ),
        ("lseek pipe", libc::SYS_lseek, vec![null, 0, 0], libc::ESPIPE),
        ("read write end", libc::SYS_read, vec![null, good, 8], libc::EBADF),
        (
            "write read end",
            libc::SYS_write,
            vec![zero, good, 8],
            libc::EBADF,
        ),
        ("read empty", libc::SYS_read, vec![zero, good, 8], libc::EAGAIN),
        (
            "pread pipe",
            libc::SYS_pread64,
            vec![zero, good, 8, 0],
            libc::ESPIPE,
        ),
        (
            "open missing",
            libc::SYS_open,
            vec![c"/no/such".as_ptr() as u64, 0],
            libc::ENOENT,
        ),
        (
            "open empty",
            libc::SYS_open,
            vec![c"".as_ptr() as u64, 0],
            libc::ENOENT,
        ),
        ("open directory", libc::SYS_open, vec![text, 1], libc::EISDIR),
        (
            "rt_sigaction kill",
            libc::SYS_rt_sigaction,
            vec![9, good, 0, 8],
            inval,
        ),
        (
            "rt_sigaction 0",
            libc::SYS_rt_sigaction,
            vec![0, good, 0, 8],
            inval,
        ),
        (
            "rt_sigaction 65",
            libc::SYS_rt_sigaction,
            vec![65, good, 0, 8],
            inval,
        ),
        (
            "rt_sigaction size",
            libc::SYS_rt_sigaction,
            vec![10, good, 0, 4],
            inval,
        ),
        (
            "rt_sigprocmask how",
            libc::SYS_rt_sigprocmask,
            vec![9, good, 0, 8],
            inval,
        ),
        ("kill missing", libc::SYS_kill, vec![4_000_000, 0], libc::ESRCH),
        ("kill signal", libc::SYS_kill, vec![1, 65], inval),
        ("tgkill", libc::SYS_tgkill, vec![0, 1, 0], inval),
        (
            "wait4 no child",
            libc::SYS_wait4,
            vec![u64::MAX, 0, 0, 0],
            libc::ECHILD,
        ),
        (
            "wait4 options",
            libc::SYS_wait4,
            vec![u64::MAX, 0, 0x1000, 0],
            inval,
        ),
        ("clone flags", libc::SYS_clone, vec![0x1_0000, 0, 0, 0, 0], inval),
        ("clock", libc::SYS_clock_gettime, vec![99, good], inval),
        (
            "nanosleep",
            libc::SYS_nanosleep,
            vec![[0_u64, 1 << 40].as_ptr() as u64, 0],
            inval,
        ),
        ("getcwd", libc::SYS_getcwd, vec![good, 1], libc::ERANGE),
        ("arch_prctl", libc::SYS_arch_prctl, vec![0x9999, good], inval),
        (
            "arch_prctl kernel",
            libc::SYS_arch_prctl,
            vec![0x1001, KERNEL],
            libc::EPERM,
        ),
        ("set_robust_list", libc::SYS_set_robust_list, vec![good, 7], inval),
        ("getrandom flags", libc::SYS_getrandom, vec![good, 8, 0xff], inval),
        (
            "execve missing",
            libc::SYS_execve,
            vec![c"/no".as_ptr() as u64, 0, 0],
            libc::ENOENT,
        ),
        (
            "execve directory",
            libc::SYS_execve,
            vec![text, 0, 0],
            libc::EACCES,
        ),
        ("pipe2 flags", libc::SYS_pipe2, vec![good, 0x7777], inval),
        ("dup3 same", libc::SYS_dup3, vec![0, 0, 0], inval),
        ("readv count", libc::SYS_readv, vec![zero, good, 5000], inval),
    ] {
        report.expect(what, number, arguments(&list), error);
    }
    println!("syscalls-bad: {} calls, {} failed", report.made, report.failed);
    ExitCode::from(u8::from(report.failed > 0))
}
