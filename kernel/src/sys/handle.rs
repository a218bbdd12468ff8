//! System calls on handles themselves.

use super::Call;
use crate::proc::Entry;
use crate::vm::copy;
use dragonet_abi::handle::HandleInfo;
use dragonet_abi::{Errno, Rights};

/// Rights from a register: unknown bits are refused.
pub(super) fn rights_of(value: u64) -> Result<Rights, Errno> {
    u32::try_from(value)
        .ok()
        .and_then(Rights::from_bits)
        .ok_or(Errno::EINVAL)
}

/// `handle_close(handle)`.
pub fn close(call: &Call) -> Result<u64, Errno> {
    let entry = call.process().handles().take(call.handle(0)?, Rights::empty())?;
    drop(entry);
    Ok(0)
}

/// `handle_duplicate(handle, rights)`.
pub fn duplicate(call: &Call) -> Result<u64, Errno> {
    let entry = call.entry(0)?;
    let rights = rights_of(call.argument(1))?;
    if !entry.rights.contains(rights | Rights::DUPLICATE) {
        return Err(Errno::EPERM);
    }
    Ok(u64::from(
        call.process()
            .handles()
            .insert(Entry {
                object: entry.object,
                rights,
            })?
            .0,
    ))
}

/// `handle_info(handle, *mut HandleInfo)`.
pub fn info(call: &Call) -> Result<u64, Errno> {
    let entry = call.entry(0)?;
    let (id, size) = entry.object.id_and_size();
    let info = HandleInfo {
        kind: entry.object.kind() as u32,
        rights: entry.rights.bits(),
        id,
        size,
    };
    copy::write(call.argument(1), &info)?;
    Ok(0)
}
