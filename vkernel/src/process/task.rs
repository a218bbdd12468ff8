//! The thread's own side: registers and everything that only the thread itself uses. Owned by its future.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::signal::{SI_KERNEL, SIGKILL, SIGSEGV};
use crate::memory::AddressSpace;
use crate::process::trap::IdleFaults;
use crate::process::{ExitStatus, Process, Thread};
use crate::sched::Cpu;
use crate::sched::cpu::Counters;
use crate::signal::Detail;
use crate::signal::deliver::AlternateStack;
use crate::vfs::fd::FileTable;
use alloc::boxed::Box;
use alloc::sync::Arc;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RunState};

/// Besides the `RUN_*` constants: the program did not run.
const NOTHING: u32 = 0;

/// A thread while it runs.
pub struct Task {
    /// What others see.
    pub thread: Arc<Thread>,
    /// What it belongs to.
    pub process: Arc<Process>,
    /// Its memory.
    pub space: Arc<AddressSpace>,
    /// Its open files.
    pub files: Arc<FileTable>,
    /// Registers, and what ended the last run.
    pub run_state: RunState,
    /// Address to clear and wake at the end; 0 = none.
    pub clear_child_tid: u64,
    /// Head of the list of robust mutexes; 0 = none.
    pub robust_list: u64,
    /// Where handlers with `SA_ONSTACK` run.
    pub alternate_stack: AlternateStack,
    /// The mask to be restored once signals were delivered (`rt_sigsuspend`, `ppoll`).
    pub saved_mask: Option<u64>,
    /// Page faults on end that found nothing to do.
    pub(super) idle_faults: IdleFaults,
}

impl Task {
    /// A task that begins with `registers` in the run state.
    pub fn new(
        thread: Arc<Thread>,
        space: Arc<AddressSpace>,
        files: Arc<FileTable>,
        run_state: RunState,
    ) -> Self {
        Task {
            process: thread.process.clone(),
            thread,
            space,
            files,
            run_state,
            clear_child_tid: 0,
            robust_list: 0,
            alternate_stack: AlternateStack::default(),
            saved_mask: None,
            idle_faults: IdleFaults::default(),
        }
    }

    /// Lets the thread of this task run.
    pub fn start(self) {
        let thread = self.thread.clone();
        thread.start(Box::pin(self.live()));
    }

    /// The CPU that polls the task now. It may be another one after every await.
    pub fn cpu(&self) -> &'static Cpu {
        kernel().cpu(self.thread.cpu())
    }

    /// True if the thread is to end before it runs its program again.
    pub fn must_end(&self) -> bool {
        self.thread.must_end()
    }

    /// The whole life of a thread.
    async fn live(mut self) {
        while !self.must_end() {
            let restart = match self.run_program() {
                Ok(RUN_SYSCALL) => {
                    self.idle_faults = IdleFaults::default();
                    self.system_call().await
                }
                Ok(RUN_EXCEPTION) => {
                    self.exception();
                    None
                }
                Ok(NOTHING) => None,
                Ok(_) => {
                    self.cpu().after_interrupt();
                    None
                }
                Err(Errno::EINVAL) => {
                    self.force_signal(SIGSEGV, SI_KERNEL, Detail::None);
                    None
                }
                Err(error) => {
                    crate::message!("the host cannot run process {}: {error}", self.process.id);
                    self.process.begin_exit(ExitStatus::Signal(SIGKILL));
                    None
                }
            };
            if self.thread.take_attention() || restart.is_some() {
                self.deliver_signals(restart);
            }
            if self.cpu().must_give_way() && !self.must_end() {
                self.yield_now().await;
            }
        }
        self.finish();
    }

    fn run_program(&mut self) -> Result<u32, Errno> {
        let cpu = self.cpu();
        cpu.before_run();
        let outcome = if self.thread.has_attention() {
            Ok(NOTHING)
        } else {
            self.thread.load_fpu(cpu);
            Counters::count(&cpu.counters().runs);
            self.run_state.timeout = FOREVER;
            self.space
                .run(&mut self.run_state)
                .map(|()| self.run_state.reason)
        };
        cpu.after_run();
        outcome
    }

    /// Makes the system call that the registers ask for. Returns its number if a signal ended it and it may have to be made again.
    async fn system_call(&mut self) -> Option<u64> {
        Counters::count(&self.cpu().counters().syscalls);
        let number = self.run_state.registers.rax;
        match self.dispatch(number).await {
            Ok(value) => self.run_state.registers.rax = value,
            Err(Errno::ERESTARTSYS) => return Some(number),
            Err(error) => self.run_state.registers.rax = error.to_result(),
        }
        None
    }
}
