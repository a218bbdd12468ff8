//! Signals: handlers and what they are told, masks, waits that end or go on, the alternate stack, repaired faults, and registers that
//! a handler must not change.
//!
//! Status 0 if everything came out right.

use std::process::ExitCode;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

static COUNT: AtomicU32 = AtomicU32::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static STACK: AtomicUsize = AtomicUsize::new(0);

fn check(what: &str, good: bool) -> bool {
    println!("signals: {what}: {}", if good { "ok" } else { "FAILED" });
    good
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(signal: i32, handler: Handler, flags: i32) {
    // SAFETY: the handlers of this program use atomics and system calls only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

extern "C" fn count(_: i32, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    COUNT.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel passes a valid structure.
    SENDER.store(unsafe { (*information).si_pid() }, Ordering::SeqCst);
}

/// Changes every vector register that the compiler lets it.
extern "C" fn spoil(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the registers are named as changed.
    unsafe {
        std::arch::asm!("pcmpeqd xmm0, xmm0", "movdqa xmm7, xmm0", "movdqa xmm15, xmm0",
            out("xmm0") _, out("xmm7") _, out("xmm15") _);
    }
    COUNT.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn note_stack(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let here = 0_u8;
    STACK.store(&raw const here as usize, Ordering::SeqCst);
}

/// Makes the page of a fault accessible.
extern "C" fn repair(_: i32, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    COUNT.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel passes a valid structure; the page is one of ours that nobody else uses.
    unsafe {
        let address = (*information).si_addr() as usize;
        ADDRESS.store(address, Ordering::SeqCst);
        let page = (address & !4095) as *mut libc::c_void;
        libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE);
    }
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

fn send(signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(own_pid(), signal) };
}

fn counted(body: impl FnOnce()) -> u32 {
    let before = COUNT.load(Ordering::SeqCst);
    body();
    COUNT.load(Ordering::SeqCst) - before
}

fn block(signal: i32, how: i32) {
    // SAFETY: the set is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, signal);
        assert_eq!(libc::sigprocmask(how, &set, null_mut()), 0);
    }
}

fn masks() -> bool {
    handle(libc::SIGUSR1, count, 0);
    let mut good = counted(|| send(libc::SIGUSR1)) == 1 && SENDER.load(Ordering::SeqCst) == own_pid();
    let held = counted(|| {
        block(libc::SIGUSR1, libc::SIG_BLOCK);
        send(libc::SIGUSR1);
        send(libc::SIGUSR1);
    });
    good &= held == 0;
    good &= counted(|| block(libc::SIGUSR1, libc::SIG_UNBLOCK)) == 1;
    block(libc::SIGUSR1, libc::SIG_BLOCK);
    send(libc::SIGUSR1);
    let suspended = counted(|| {
        // SAFETY: an empty set: everything ends the wait.
        unsafe {
            let set: libc::sigset_t = std::mem::zeroed();
            libc::sigsuspend(&set);
        }
    });
    block(libc::SIGUSR1, libc::SIG_UNBLOCK);
    good && suspended == 1
}

/// A child sends a signal while the parent waits.
fn from_a_child(signal: i32, delay: Duration, waits: impl FnOnce() -> bool) -> bool {
    // SAFETY: the program has one thread; the child only sleeps, sends and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        std::thread::sleep(delay);
        // SAFETY: no memory is involved.
        unsafe {
            libc::kill(libc::getppid(), signal);
            libc::_exit(0)
        }
    }
    let good = waits();
    // SAFETY: a child of ours.
    unsafe { libc::waitpid(child, null_mut(), 0) };
    good
}

fn ended_waits() -> bool {
    handle(libc::SIGUSR1, count, 0);
    let delay = Duration::from_millis(30);
    from_a_child(libc::SIGUSR1, delay, || {
        let begin = Instant::now();
        let request = libc::timespec {
            tv_sec: 100,
            tv_nsec: 0,
        };
        let mut rest = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both are ours.
        let slept = unsafe { libc::nanosleep(&request, &mut rest) };
        slept == -1 && begin.elapsed() < Duration::from_secs(50) && (90..100).contains(&rest.tv_sec)
    }) && from_a_child(libc::SIGUSR1, delay, || {
        // SAFETY: no memory is involved.
        unsafe { libc::poll(null_mut(), 0, 100_000) == -1 && *libc::__errno_location() == libc::EINTR }
    })
}

fn resumed_waits() -> bool {
    handle(libc::SIGUSR1, count, libc::SA_RESTART);
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    // SAFETY: the program has one thread; the child only sends, writes and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(10));
            // SAFETY: no memory is involved.
            unsafe { libc::kill(libc::getppid(), libc::SIGUSR1) };
        }
        std::thread::sleep(Duration::from_millis(10));
        // SAFETY: one byte of ours is written.
        unsafe {
            libc::write(ends[1], c"x".as_ptr().cast(), 1);
            libc::_exit(0)
        }
    }
    let mut byte = 0_u8;
    let mut read = 0;
    // SAFETY: one byte of ours is read into.
    let signals = counted(|| read = unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) });
    // SAFETY: a child of ours.
    unsafe { libc::waitpid(child, null_mut(), 0) };
    read == 1 && byte == b'x' && (1..=3).contains(&signals)
}

fn alternate_stack() -> bool {
    const SIZE: usize = 65536;
    let room = vec![0_u8; SIZE].leak();
    let start = room.as_ptr() as usize;
    handle(libc::SIGUSR2, note_stack, libc::SA_ONSTACK);
    // SAFETY: the room lives for ever.
    unsafe {
        let stack = libc::stack_t {
            ss_sp: room.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: SIZE,
        };
        libc::sigaltstack(&stack, null_mut());
    }
    send(libc::SIGUSR2);
    let inside = (start..start + SIZE).contains(&STACK.load(Ordering::SeqCst));
    // SAFETY: no handler runs on it.
    unsafe {
        let off = libc::stack_t {
            ss_sp: null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        };
        libc::sigaltstack(&off, null_mut());
    }
    send(libc::SIGUSR2);
    inside && !(start..start + SIZE).contains(&STACK.load(Ordering::SeqCst))
}

/// A handler runs on an alternate stack of just the size that programs are told to be enough for a frame, plus what the handler itself
/// takes; the frame stays inside.
fn told_frame_size() -> bool {
    const HANDLER: usize = 1024;
    /// getauxval(3); the crate does not name it.
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    // SAFETY: the call only looks a number up.
    let told = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
    let mut room = vec![0xa5_u8; 2 * (told + HANDLER)].into_boxed_slice();
    let (below, stack) = room.split_at_mut(told + HANDLER);
    handle(libc::SIGUSR2, note_stack, libc::SA_ONSTACK);
    // SAFETY: the stack outlives its use.
    unsafe {
        let wish = libc::stack_t {
            ss_sp: stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: stack.len(),
        };
        libc::sigaltstack(&wish, null_mut());
    }
    let start = stack.as_ptr() as usize;
    send(libc::SIGUSR2);
    // SAFETY: no handler runs on it.
    unsafe {
        let off = libc::stack_t {
            ss_sp: null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        };
        libc::sigaltstack(&off, null_mut());
    }
    let inside = (start..start + told + HANDLER).contains(&STACK.load(Ordering::SeqCst));
    told > 0 && inside && below.iter().all(|&byte| byte == 0xa5)
}

fn repaired_faults() -> bool {
    handle(libc::SIGSEGV, repair, 0);
    // SAFETY: pages of ours; the handler makes each accessible at its first access.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let pages = libc::mmap(null_mut(), 4 * 4096, libc::PROT_NONE, flags, -1, 0).cast::<u8>();
        let faults = counted(|| {
            for page in 0..4 {
                pages.add(page * 4096 + 5).write_volatile(page as u8);
            }
        });
        let last = ADDRESS.load(Ordering::SeqCst);
        let kept = (0..4).all(|page| pages.add(page * 4096 + 5).read_volatile() == page as u8);
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        faults == 4 && last == pages as usize + 3 * 4096 + 5 && kept
    }
}

fn kept_registers() -> bool {
    handle(libc::SIGUSR1, spoil, 0);
    let (pid, signal) = (own_pid() as u64, libc::SIGUSR1 as u64);
    let (mut low, mut high, mut kept): (u64, u64, u64);
    // SAFETY: a system call that changes rax, rcx and r11; the vector registers are the point.
    unsafe {
        std::arch::asm!(
            "movq xmm0, {a}", "movq xmm7, {b}", "movq xmm15, {a}", "mov r12, {b}",
            "syscall",
            "movq {a}, xmm0", "movq {b}, xmm7", "movq {c}, xmm15", "xor {c}, r12",
            a = inout(reg) 0x1111_2222_3333_4444_u64 => low,
            b = inout(reg) 0x5555_6666_7777_8888_u64 => high,
            c = out(reg) kept,
            inout("rax") libc::SYS_kill => _, in("rdi") pid, in("rsi") signal,
            out("rcx") _, out("r11") _, out("r12") _, out("xmm0") _, out("xmm7") _, out("xmm15") _,
        );
    }
    low == 0x1111_2222_3333_4444 && high == 0x5555_6666_7777_8888 && kept == low ^ high
}

fn between_threads() -> bool {
    handle(libc::SIGUSR1, count, 0);
    let received = counted(|| {
        let busy = std::thread::spawn(|| {
            let begin = COUNT.load(Ordering::SeqCst);
            // No system call: only an interrupt of its CPU can deliver the signal.
            while COUNT.load(Ordering::SeqCst) == begin {
                std::hint::spin_loop();
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        use std::os::unix::thread::JoinHandleExt;
        // SAFETY: the thread has not been joined.
        unsafe { libc::pthread_kill(busy.as_pthread_t(), libc::SIGUSR1) };
        busy.join().expect("join");
    });
    received == 1
}

fn children() -> bool {
    handle(libc::SIGCHLD, count, 0);
    let told = counted(|| {
        // SAFETY: the program has one thread; the child ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        // SAFETY: a child of ours.
        unsafe { while libc::waitpid(child, null_mut(), 0) == -1 {} }
    });
    // SAFETY: no handler is installed; ignoring means that children leave nothing.
    let gone = unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0)
        }
        libc::waitpid(child, null_mut(), 0) == -1 && *libc::__errno_location() == libc::ECHILD
    };
    told == 1 && gone
}

fn main() -> ExitCode {
    let mut good = check("masks", masks());
    good &= check("a signal ends waits", ended_waits());
    good &= check("waits that go on", resumed_waits());
    good &= check("the alternate stack", alternate_stack());
    good &= check("the size of a frame", told_frame_size());
    good &= check("repaired faults", repaired_faults());
    good &= check("registers", kept_registers());
    good &= check("a busy thread", between_threads());
    good &= check("children", children());
    ExitCode::from(u8::from(!good))
}
