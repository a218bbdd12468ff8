//! New processes and threads: the first one, and `clone` with all that it can share or copy.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_FILES, CLONE_FS, CLONE_NEW_ANY, CLONE_PARENT,
    CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK, CLONE_VM, CSIGNAL,
};
use crate::linux::signal::{SIGCHLD, SIGNALS};
use crate::memory::MemoryObject;
use crate::process::exec;
use crate::process::stack::Arguments;
use crate::process::{Process, Task, Thread};
use crate::sched::fpu::FpuState;
use crate::signal::SignalActions;
use crate::signal::deliver::AlternateStack;
use crate::vfs::FileContext;
use crate::vfs::fd::FileTable;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::USER_END;

/// What `clone` was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// `CLONE_*` and the exit signal.
    pub flags: u64,
    /// Stack pointer of the child; 0 = the parent's.
    pub stack: u64,
    /// Where the parent wants the id.
    pub parent_tid: u64,
    /// Where the child wants the id, now or cleared at its end.
    pub child_tid: u64,
    /// FS base of the child.
    pub tls: u64,
}

/// Starts the first process with the program in `file`.
///
/// # Errors
/// As [`exec::load`].
pub fn start_first(
    file: &Arc<MemoryObject>,
    path: &[u8],
    strings: &Arguments,
    files: FileTable,
    context: FileContext,
) -> Result<(), Errno> {
    let loaded = exec::load(file, path, strings)?;
    let id = kernel().processes().lock().new_id()?;
    let actions = Arc::new(SignalActions::new());
    let process = Arc::new(Process::new(id, 0, SIGCHLD, actions, Arc::new(context)));
    process.set_executable(path);
    let thread = Thread::new(id, process.clone(), FpuState::new(), 0, u64::MAX, 0);
    process.add_thread(thread.clone());
    {
        let mut table = kernel().processes().lock();
        table.add_process(process);
        table.add_thread(thread.clone());
    }
    Task::new(thread, loaded.space, Arc::new(files), loaded.run_state).start();
    Ok(())
}

impl Task {
    /// Makes a thread or a process that continues where this one is, with 0 in `rax`. Returns its id and, for `vfork`, the process to wait for.
    ///
    /// # Errors
    /// `EINVAL` for flags that contradict each other or that ask for namespaces; `EAGAIN` at the limit of threads; `ENOMEM`; `EFAULT`.
    pub fn clone_task(&mut self, request: &CloneRequest) -> Result<(u32, Option<Arc<Process>>), Errno> {
        let flags = request.flags;
        let has = |flag: u64| flags & flag != 0;
        let contradiction = has(CLONE_THREAD) && !has(CLONE_SIGHAND)
            || has(CLONE_SIGHAND) && !has(CLONE_VM)
            || has(CLONE_NEW_ANY)
            || has(CLONE_SETTLS) && request.tls >= USER_END
            || request.stack >= USER_END
            || flags & CSIGNAL > u64::from(SIGNALS);
        if contradiction {
            return Err(Errno::EINVAL);
        }

        // What may fail comes first; the id is the last.
        let space = if has(CLONE_VM) {
            self.space.clone()
        } else {
            Arc::new(self.space.fork()?)
        };
        let fpu = self.thread.store_fpu(FpuState::duplicate);
        let files = if has(CLONE_FILES) {
            self.files.clone()
        } else {
            Arc::new(self.files.duplicate())
        };
        let id = kernel().processes().lock().new_id()?;
        let process = if has(CLONE_THREAD) {
            self.process.clone()
        } else {
            self.new_process(id, flags)
        };
        let thread = Thread::new(
            id,
            process.clone(),
            fpu,
            self.thread.blocked(),
            self.thread.affinity(),
            self.thread.cpu(),
        );

        let mut child = Task::new(thread.clone(), space, files, self.run_state);
        child.run_state.registers.rax = 0;
        if request.stack != 0 {
            child.run_state.registers.rsp = request.stack;
        }
        if has(CLONE_SETTLS) {
            child.run_state.registers.fs_base = request.tls;
        }
        if !has(CLONE_VM) || has(CLONE_VFORK) {
            child.alternate_stack = self.alternate_stack;
        } else {
            child.alternate_stack = AlternateStack::default();
        }
        if has(CLONE_CHILD_CLEARTID) {
            child.clear_child_tid = request.child_tid;
        }
        if has(CLONE_CHILD_SETTID) {
            // As on Linux, a bad address is the child's own problem.
            let _ = child.space.write(request.child_tid, &id);
        }
        if has(CLONE_PARENT_SETTID) {
            self.space.write(request.parent_tid, &id)?;
        }

        if !process.add_thread(thread.clone()) {
            return Err(Errno::ERESTARTSYS);
        }
        {
            let mut table = kernel().processes().lock();
            if !has(CLONE_THREAD) {
                table.add_process(process.clone());
            }
            table.add_thread(thread);
        }
        child.start();
        Ok((id, has(CLONE_VFORK).then_some(process)))
    }

    fn new_process(&self, id: u32, flags: u64) -> Arc<Process> {
        let actions = if flags & CLONE_SIGHAND != 0 {
            self.process.actions()
        } else {
            Arc::new(self.process.actions().duplicate())
        };
        let context = self.process.file_context.lock().clone();
        let context = if flags & CLONE_FS != 0 {
            context
        } else {
            Arc::new(context.duplicate())
        };
        // A sibling is announced to the common parent as the caller will be.
        let (parent, signal) = if flags & CLONE_PARENT != 0 {
            let own = &self.process;
            (
                own.parent.load(Ordering::Relaxed),
                own.exit_signal.load(Ordering::Relaxed),
            )
        } else {
            (self.process.id, (flags & CSIGNAL) as u8)
        };
        let process = Process::new(id, parent, signal, actions, context);
        process
            .group
            .store(self.process.group.load(Ordering::Relaxed), Ordering::Relaxed);
        process
            .session
            .store(self.process.session.load(Ordering::Relaxed), Ordering::Relaxed);
        process.set_executable(&self.process.executable());
        Arc::new(process)
    }
}
