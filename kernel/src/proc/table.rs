//! All processes by id. The table keeps none of them alive.

use super::Process;
use crate::sync::{Rank, SpinLock};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Bound;
use dragonet_abi::Errno;

static PROCESSES: SpinLock<BTreeMap<u64, Weak<Process>>> = SpinLock::new(Rank::Processes, BTreeMap::new());

pub(super) fn add(process: &Arc<Process>) {
    PROCESSES.lock().insert(process.id(), Arc::downgrade(process));
}

pub(super) fn remove(id: u64) {
    let weak = PROCESSES.lock().remove(&id);
    drop(weak);
}

/// The process with this id.
///
/// # Errors
/// ESRCH.
pub fn by_id(id: u64) -> Result<Arc<Process>, Errno> {
    let found = PROCESSES.lock().get(&id).and_then(Weak::upgrade);
    found.ok_or(Errno::ESRCH)
}

/// The process with the lowest id above `id`.
pub fn after(id: u64) -> Option<Arc<Process>> {
    let processes = PROCESSES.lock();
    let mut later = processes.range((Bound::Excluded(id), Bound::Unbounded));
    later.find_map(|(_, process)| process.upgrade())
}
