//! The machine as programs see it: CPUs, names, memory, random bytes.

use crate::clock;
use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::structures::{SystemInformation, UTSNAME_FIELD};
use crate::memory::fault::Access;
use crate::process::{Task, Thread};
use alloc::sync::Arc;
use alloc::vec;
use dragonet_abi::layout::PAGE_SIZE;

/// Fields of `struct utsname`. The release says which Linux interface programs may expect.
const NAMES: [&str; 6] = [
    "Linux",
    "vkernel",
    "6.1.0-dragonet",
    "#1 SMP Dragonet vkernel",
    "x86_64",
    "(none)",
];
/// Bytes of a mask of CPUs.
const MASK_SIZE: u64 = 8;
/// Random bytes given at once.
const RANDOM_CHUNK: usize = 4096;

impl Task {
    pub(super) fn sys_uname(&mut self, address: u64) -> Result<u64, Errno> {
        let mut bytes = vec![0; NAMES.len() * UTSNAME_FIELD];
        for (field, name) in bytes.chunks_mut(UTSNAME_FIELD).zip(NAMES) {
            field[..name.len()].copy_from_slice(name.as_bytes());
        }
        self.space.write_bytes(address, &bytes).map(|()| 0)
    }

    pub(super) fn sys_sysinfo(&mut self, address: u64) -> Result<u64, Errno> {
        let (total, free) = kernel().memory().statistics();
        let information = SystemInformation {
            uptime: (clock::monotonic() / 1_000_000_000) as i64,
            total: u64::from(total) * PAGE_SIZE,
            free: u64::from(free) * PAGE_SIZE,
            processes: kernel().processes().lock().all().len() as u16,
            unit: 1,
            ..SystemInformation::default()
        };
        self.space.write(address, &information).map(|()| 0)
    }

    pub(super) fn sys_getrandom(&mut self, address: u64, length: u64, flags: u64) -> Result<u64, Errno> {
        if flags & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        let length = length.min(i32::MAX as u64);
        let mut done = 0;
        while done < length && !self.must_end() {
            let wanted = (length - done).min(RANDOM_CHUNK as u64) as usize;
            let target = address.wrapping_add(done);
            let room = match self.space.accessible(target, wanted, Access::Write) {
                Ok(room) => room,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let mut bytes = [0; RANDOM_CHUNK];
            kernel().random().lock().fill(&mut bytes[..room]);
            self.space.write_bytes(target, &bytes[..room])?;
            done += room as u64;
        }
        Ok(done)
    }

    fn thread_of(&self, id: u32) -> Result<Arc<Thread>, Errno> {
        if id == 0 {
            return Ok(self.thread.clone());
        }
        kernel().processes().lock().thread(id).ok_or(Errno::ESRCH)
    }

    pub(super) fn sys_sched_getaffinity(&mut self, id: u32, size: u64, address: u64) -> Result<u64, Errno> {
        if size < MASK_SIZE || !size.is_multiple_of(MASK_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mask = self.thread_of(id)?.affinity() & kernel().queues().all();
        self.space.write(address, &mask)?;
        Ok(MASK_SIZE)
    }

    pub(super) async fn sys_sched_setaffinity(
        &mut self,
        id: u32,
        size: u64,
        address: u64,
    ) -> Result<u64, Errno> {
        let mut bytes = [0; MASK_SIZE as usize];
        let length = size.min(MASK_SIZE) as usize;
        self.space.read_bytes(address, &mut bytes[..length])?;
        let mask = u64::from_le_bytes(bytes) & kernel().queues().all();
        if mask == 0 {
            return Err(Errno::EINVAL);
        }
        let thread = self.thread_of(id)?;
        thread.set_affinity(mask);
        if Arc::ptr_eq(&thread, &self.thread) && mask >> self.thread.cpu() & 1 == 0 {
            // Going through the run queue moves the thread.
            self.yield_now().await;
        }
        Ok(0)
    }

    pub(super) fn sys_getcpu(&mut self, cpu: u64, node: u64) -> Result<u64, Errno> {
        if cpu != 0 {
            self.space.write(cpu, &(self.thread.cpu() as u32))?;
        }
        if node != 0 {
            self.space.write(node, &0_u32)?;
        }
        Ok(0)
    }
}
