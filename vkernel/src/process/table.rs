//! Every process and thread by id. Ids of both come from one sequence, so that the id of a process is that of its first thread.

use crate::linux::Errno;
use crate::process::{Process, Thread};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Threads at most, of all processes; processes that nobody has waited for count as one.
pub const MAX_IDS: usize = 4096;
/// Highest id, as on Linux.
const LAST_ID: u32 = 4_194_303;

/// The table.
pub struct ProcessTable {
    processes: BTreeMap<u32, Arc<Process>>,
    threads: BTreeMap<u32, Arc<Thread>>,
    last: u32,
}

impl ProcessTable {
    /// An empty table; the first id will be 1.
    pub const fn new() -> Self {
        ProcessTable {
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
            last: 0,
        }
    }

    /// An id that nobody has.
    ///
    /// # Errors
    /// `EAGAIN` at the limit.
    pub fn new_id(&mut self) -> Result<u32, Errno> {
        if self.processes.len() + self.threads.len() >= 2 * MAX_IDS {
            return Err(Errno::EAGAIN);
        }
        loop {
            self.last = if self.last >= LAST_ID { 2 } else { self.last + 1 };
            if !self.processes.contains_key(&self.last) && !self.threads.contains_key(&self.last) {
                return Ok(self.last);
            }
        }
    }

    /// Adds a process.
    pub fn add_process(&mut self, process: Arc<Process>) {
        self.processes.insert(process.id, process);
    }

    /// Adds a thread under its id.
    pub fn add_thread(&mut self, thread: Arc<Thread>) {
        self.threads.insert(thread.id(), thread);
    }

    /// Removes the thread with this id.
    pub fn remove_thread(&mut self, id: u32) {
        self.threads.remove(&id);
    }

    /// Removes a process that has been waited for.
    pub fn remove_process(&mut self, id: u32) {
        self.processes.remove(&id);
    }

    /// The process with this id.
    pub fn process(&self, id: u32) -> Option<Arc<Process>> {
        self.processes.get(&id).cloned()
    }

    /// The thread with this id.
    pub fn thread(&self, id: u32) -> Option<Arc<Thread>> {
        self.threads.get(&id).cloned()
    }

    /// Every process.
    pub fn all(&self) -> Vec<Arc<Process>> {
        self.processes.values().cloned().collect()
    }
}
