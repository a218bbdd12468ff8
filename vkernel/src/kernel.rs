//! The one virtual kernel of this process: everything global, made once at the start.

use crate::clock;
use crate::host;
use crate::memory::PhysicalMemory;
use crate::options::Options;
use crate::process::futex::FutexTable;
use crate::process::{ProcessTable, Thread};
use crate::random::Random;
use crate::sched::Cpu;
use crate::sched::run_queue::{Kick, RunQueues};
use crate::sync::Lock;
use crate::vfs::console::Console;
use crate::vfs::inode::{Content, Inode};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

static KERNEL: spin::Once<Kernel> = spin::Once::new();

/// Global state.
pub struct Kernel {
    options: Options,
    memory: &'static PhysicalMemory,
    queues: RunQueues<Arc<Thread>>,
    cpus: Vec<Cpu>,
    processes: Lock<ProcessTable>,
    futexes: FutexTable,
    console: Console,
    root: Arc<Inode>,
    random: Lock<Random>,
    start_time: u64,
    unknown_calls: Lock<BTreeSet<u64>>,
    shutting_down: AtomicBool,
}

/// The kernel, once [`Kernel::install`] has run.
///
/// # Panics
/// Before that.
pub fn kernel() -> &'static Kernel {
    KERNEL.get().expect("the kernel is installed before any CPU runs")
}

impl Kernel {
    /// Makes the kernel. Nothing runs yet.
    pub fn install(options: Options, memory: &'static PhysicalMemory, root: Arc<Inode>) -> &'static Kernel {
        KERNEL.call_once(|| Kernel {
            queues: RunQueues::new(options.cpus),
            cpus: (0..options.cpus).map(Cpu::new).collect(),
            options,
            memory,
            processes: Lock::new(ProcessTable::new()),
            futexes: FutexTable::new(),
            console: Console::new(),
            root,
            random: Lock::new(Random::new(host::random_seed())),
            start_time: clock::realtime(),
            unknown_calls: Lock::new(BTreeSet::new()),
            shutting_down: AtomicBool::new(false),
        })
    }

    /// The command line.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// RAM.
    pub fn memory(&self) -> &'static PhysicalMemory {
        self.memory
    }

    /// Run queues.
    pub fn queues(&self) -> &RunQueues<Arc<Thread>> {
        &self.queues
    }

    /// A CPU.
    pub fn cpu(&self, index: usize) -> &Cpu {
        &self.cpus[index]
    }

    /// Processes and threads.
    pub fn processes(&self) -> &Lock<ProcessTable> {
        &self.processes
    }

    /// Threads that wait on words.
    pub fn futexes(&self) -> &FutexTable {
        &self.futexes
    }

    /// The console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The root directory.
    pub fn root(&self) -> &Arc<Inode> {
        &self.root
    }

    /// The generator of random bytes.
    pub fn random(&self) -> &Lock<Random> {
        &self.random
    }

    /// When the vkernel started, in nanoseconds since 1970.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Queues a runnable thread. It would like to run on `preferred`.
    pub fn queue(&self, thread: Arc<Thread>, preferred: usize) {
        let affinity = thread.affinity();
        match self.queues.push(thread, preferred, affinity) {
            Kick::Nobody => {}
            Kick::Idle(cpu) => self.cpus[cpu].interrupt(),
            Kick::Busy(cpu) => self.cpus[cpu].interrupt_program(),
        }
    }

    /// Frees frames that hold nothing but copies of the root image. Returns how many.
    pub fn reclaim(&self) -> usize {
        let mut freed = 0;
        let mut directories = alloc::vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for (_, node) in directory.entries().unwrap_or_default() {
                match &node.content {
                    Content::Directory(_) => directories.push(node),
                    Content::File(object) => freed += object.drop_clean_pages(),
                    _ => {}
                }
            }
        }
        freed
    }

    /// A CPU has come up.
    pub fn cpu_is_up(&self, index: usize) {
        if self.options.verbose {
            let role = if index == 0 { "master" } else { "slave" };
            let up = self.cpus.iter().filter(|cpu| cpu.is_up()).count();
            crate::message!("cpu{index} is up ({role}), {up} of {}", self.cpus.len());
        }
    }

    /// A program made a system call that is not served: with `-v`, each number is named once.
    pub fn report_unknown_call(&self, number: u64) {
        // A program may try every number there is; only real ones are worth remembering.
        const MOST_NUMBERS: usize = 1024;
        if self.options.verbose {
            let mut seen = self.unknown_calls.lock();
            let new = seen.len() < MOST_NUMBERS && seen.insert(number);
            drop(seen);
            if new {
                crate::message!("system call {number} is not served");
            }
        }
    }

    /// Ends the vkernel. The host frees everything that is left.
    pub fn shut_down(&self, status: u8) -> ! {
        if self.shutting_down.swap(true, Ordering::SeqCst) {
            loop {
                host::thread_yield();
            }
        }
        if self.options.verbose {
            self.report_counters();
        }
        self.console.close();
        host::exit(status)
    }

    fn report_counters(&self) {
        for (index, cpu) in self.cpus.iter().enumerate() {
            let counters = cpu.counters();
            crate::message!(
                "cpu{index}: {} runs, {} system calls, {} page faults, {} exceptions, {} interrupts, {} switches, {} idle",
                counters.runs.load(Ordering::Relaxed),
                counters.syscalls.load(Ordering::Relaxed),
                counters.faults.load(Ordering::Relaxed),
                counters.exceptions.load(Ordering::Relaxed),
                counters.interrupts.load(Ordering::Relaxed),
                counters.switches.load(Ordering::Relaxed),
                counters.idles.load(Ordering::Relaxed),
            );
        }
        let (total, free) = self.memory.statistics();
        crate::message!("memory: {} of {total} frames in use at the end", total - free);
    }
}

/// Prints a line of the vkernel itself on the console.
#[macro_export]
macro_rules! message {
    ($($argument:tt)*) => {
        $crate::kernel::kernel().console().write(alloc::format!("vkernel: {}\n", format_args!($($argument)*)).as_bytes())
    };
}
