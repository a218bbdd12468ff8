//! All processes by id. The table keeps none of them alive.

use super::Process;
use crate::sync::{Rank, SpinLock};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
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

/// Every process, by ascending id.
pub fn all() -> Vec<Arc<Process>> {
    PROCESSES.lock().values().filter_map(Weak::upgrade).collect()
}
