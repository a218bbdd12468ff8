//! Processes and threads: `clone execve exit wait4` and what they are called.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    ARCH_GET_FS, ARCH_GET_GS, ARCH_SET_FS, ARCH_SET_GS, PR_GET_NAME, PR_SET_NAME, RLIM_INFINITY,
    RLIM_NLIMITS, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_STACK, WALL_BITS, WCONTINUED, WNOHANG, WUNTRACED,
};
use crate::linux::structures::{Limit, RobustListHead};
use crate::memory::space::STACK_SIZE;
use crate::process::spawn::CloneRequest;
use crate::process::stack::{Arguments, MAX_ARGUMENTS};
use crate::process::table::MAX_IDS;
use crate::process::{ExitStatus, Process, Task};
use crate::vfs::fd::MAX_FILES;
use crate::vfs::inode::Content;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::USER_END;
use dragonet_abi::time::FOREVER;

/// Bytes of `struct rusage`.
const USAGE_SIZE: usize = 144;
/// Bytes of a thread's name with its zero byte.
const NAME_SIZE: usize = 16;

impl Task {
    pub(super) async fn sys_clone(&mut self, request: &CloneRequest) -> Result<u64, Errno> {
        let (id, vfork_child) = self.clone_task(request)?;
        if let Some(child) = vfork_child {
            self.wait_uninterrupted(&child.thread_events, || child.has_released_parent_memory())
                .await;
        }
        Ok(u64::from(id))
    }

    pub(super) async fn sys_execve(
        &mut self,
        path: u64,
        arguments: u64,
        environment: u64,
    ) -> Result<u64, Errno> {
        let path = self.read_path(path)?;
        let mut budget = MAX_ARGUMENTS;
        let strings = Arguments {
            arguments: self.read_strings(arguments, &mut budget)?,
            environment: self.read_strings(environment, &mut budget)?,
        };
        let place = self.file_context().directory().walk(&path, true)?.location()?;
        let node = place.node();
        let Content::File(object) = &node.content else {
            return Err(Errno::EACCES);
        };
        if node.mode() & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        self.execute(object, &place.path(), &strings).await?;
        Ok(0)
    }

    /// A table of pointers to strings that ends with a null pointer. A null table is an empty one, as on Linux.
    fn read_strings(&self, table: u64, budget: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
        let mut strings = Vec::new();
        if table == 0 {
            return Ok(strings);
        }
        loop {
            let entry = table.checked_add(8 * strings.len() as u64).ok_or(Errno::EFAULT)?;
            let pointer: u64 = self.space.read(entry)?;
            if pointer == 0 {
                return Ok(strings);
            }
            let string = self.space.read_string(pointer, *budget, Errno::E2BIG)?;
            *budget = budget.checked_sub(string.len() + 1 + 8).ok_or(Errno::E2BIG)?;
            strings.push(string);
        }
    }

    /// Ends the thread; the last one ends the process with this status.
    pub(super) fn sys_exit(&mut self, status: u64) -> Result<u64, Errno> {
        if self.process.thread_count() == 1 {
            self.process.begin_exit(ExitStatus::Code(status as u8));
        }
        self.thread.end();
        Ok(0)
    }

    pub(super) fn sys_exit_group(&mut self, status: u64) -> Result<u64, Errno> {
        self.process.begin_exit(ExitStatus::Code(status as u8));
        Ok(0)
    }

    pub(super) async fn sys_wait4(
        &mut self,
        which: i32,
        status: u64,
        options: u32,
        usage: u64,
    ) -> Result<u64, Errno> {
        if options & !(WNOHANG | WUNTRACED | WCONTINUED | WALL_BITS) != 0 {
            return Err(Errno::EINVAL);
        }
        let process = self.process.clone();
        let found = if options & WNOHANG != 0 {
            process.reap(which).transpose()?
        } else {
            Some(
                self.wait_until(&process.child_events, FOREVER, || process.reap(which))
                    .await??,
            )
        };
        let Some((id, ended)) = found else { return Ok(0) };
        if status != 0 {
            self.space.write(status, &ended.wait_status())?;
        }
        if usage != 0 {
            self.space.write_bytes(usage, &[0; USAGE_SIZE])?;
        }
        Ok(u64::from(id))
    }

    pub(super) fn sys_getppid(&mut self) -> Result<u64, Errno> {
        Ok(u64::from(self.process.parent.load(Ordering::Relaxed)))
    }

    /// The process with this id; 0 is the caller's own.
    fn process_of(&self, id: u32) -> Result<Arc<Process>, Errno> {
        if id == 0 {
            return Ok(self.process.clone());
        }
        kernel().processes().lock().process(id).ok_or(Errno::ESRCH)
    }

    pub(super) fn sys_getpgid(&mut self, id: u32) -> Result<u64, Errno> {
        Ok(u64::from(self.process_of(id)?.group.load(Ordering::Relaxed)))
    }

    pub(super) fn sys_setpgid(&mut self, id: u32, group: u32) -> Result<u64, Errno> {
        let process = self.process_of(id)?;
        let own_child = process.parent.load(Ordering::Relaxed) == self.process.id;
        if process.id != self.process.id && !own_child {
            return Err(Errno::ESRCH);
        }
        process
            .group
            .store(if group == 0 { process.id } else { group }, Ordering::Relaxed);
        Ok(0)
    }

    pub(super) fn sys_getsid(&mut self, id: u32) -> Result<u64, Errno> {
        Ok(u64::from(self.process_of(id)?.session.load(Ordering::Relaxed)))
    }

    pub(super) fn sys_setsid(&mut self) -> Result<u64, Errno> {
        let id = self.process.id;
        if self.process.group.load(Ordering::Relaxed) == id {
            return Err(Errno::EPERM);
        }
        self.process.group.store(id, Ordering::Relaxed);
        self.process.session.store(id, Ordering::Relaxed);
        Ok(u64::from(id))
    }

    pub(super) fn sys_set_robust_list(&mut self, head: u64, length: u64) -> Result<u64, Errno> {
        if length != size_of::<RobustListHead>() as u64 {
            return Err(Errno::EINVAL);
        }
        self.robust_list = head;
        Ok(0)
    }

    pub(super) fn sys_arch_prctl(&mut self, operation: u64, address: u64) -> Result<u64, Errno> {
        let registers = &mut self.run_state.registers;
        match operation {
            ARCH_SET_FS | ARCH_SET_GS if address >= USER_END => Err(Errno::EPERM),
            ARCH_SET_FS => {
                registers.fs_base = address;
                Ok(0)
            }
            ARCH_SET_GS => {
                registers.gs_base = address;
                Ok(0)
            }
            ARCH_GET_FS => {
                let base = registers.fs_base;
                self.space.write(address, &base).map(|()| 0)
            }
            ARCH_GET_GS => {
                let base = registers.gs_base;
                self.space.write(address, &base).map(|()| 0)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn sys_prctl(&mut self, operation: u64, argument: u64) -> Result<u64, Errno> {
        match operation {
            PR_SET_NAME => {
                let mut name = [0; NAME_SIZE];
                let length = self.space.read_some(argument, &mut name)?;
                let end = name[..length]
                    .iter()
                    .position(|&byte| byte == 0)
                    .unwrap_or(length);
                self.process.set_name(&name[..end]);
                Ok(0)
            }
            PR_GET_NAME => {
                let mut name = self.process.name();
                name.resize(NAME_SIZE, 0);
                self.space.write_bytes(argument, &name).map(|()| 0)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Limits can be read; they are what this kernel can do, so they cannot be changed.
    pub(super) fn sys_prlimit(&mut self, id: u32, resource: u64, new: u64, old: u64) -> Result<u64, Errno> {
        self.process_of(id)?;
        if resource >= RLIM_NLIMITS {
            return Err(Errno::EINVAL);
        }
        let value = match resource {
            RLIMIT_STACK => STACK_SIZE,
            RLIMIT_NPROC => MAX_IDS as u64,
            RLIMIT_NOFILE => MAX_FILES as u64,
            _ => RLIM_INFINITY,
        };
        if new != 0 {
            let wish: Limit = self.space.read(new)?;
            if wish.current > wish.maximum {
                return Err(Errno::EINVAL);
            }
            if wish.current != value || wish.maximum != value {
                return Err(Errno::EPERM);
            }
        }
        if old != 0 {
            self.space.write(
                old,
                &Limit {
                    current: value,
                    maximum: value,
                },
            )?;
        }
        Ok(0)
    }
}

impl Process {
    /// Takes the status of a child that has ended: any (-1), the one with this id, or one of a group (0 = the caller's,
    /// below -1 = the negated number). `None` if such children have not ended yet.
    fn reap(&self, which: i32) -> Option<Result<(u32, ExitStatus), Errno>> {
        let group = match which {
            0 => Some(self.group.load(Ordering::Relaxed)),
            ..=-2 => Some(which.unsigned_abs()),
            _ => None,
        };
        let wanted = |child: &Process| {
            child.parent.load(Ordering::Relaxed) == self.id
                && (which <= 0 || child.id == which.unsigned_abs())
                && group.is_none_or(|group| child.group.load(Ordering::Relaxed) == group)
        };
        let mut table = kernel().processes().lock();
        let mut any = false;
        let mut found = None;
        for child in table.all().iter().filter(|child| wanted(child)) {
            any = true;
            if let Some(status) = child.ended() {
                found = Some((child.id, status));
                break;
            }
        }
        match found {
            Some((id, _)) => {
                table.remove_process(id);
                found.map(Ok)
            }
            None if any => None,
            None => Some(Err(Errno::ECHILD)),
        }
    }
}
