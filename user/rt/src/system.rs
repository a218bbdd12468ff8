//! The system object that this program was given, and what can be asked of it.

#![forbid(unsafe_code)]

use crate::startup::role;
use crate::syscall;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use dragonet_abi::counters::COUNTERS;
use dragonet_abi::process::ProcessInfo;
use dragonet_abi::startup::ROLE_SYSTEM;
use dragonet_abi::vmspace::{EntryInfo, VmspaceInfo};
use dragonet_abi::{Errno, Handle};
use zerocopy::FromZeros;

/// The system handle.
///
/// # Errors
/// `EPERM` if this program was not given one.
pub fn handle() -> Result<Handle, Errno> {
    role(ROLE_SYSTEM).ok_or(Errno::EPERM)
}

/// Every process that there is.
///
/// # Errors
/// `EPERM` (INSPECT).
pub fn processes() -> Result<Vec<ProcessInfo>, Errno> {
    let system = handle()?;
    let mut room = 64;
    loop {
        let mut rows = vec![ProcessInfo::new_zeroed(); room];
        let count = syscall::process_list(system, &mut rows)?;
        if count < room {
            rows.truncate(count);
            return Ok(rows);
        }
        room *= 2;
    }
}

/// Every mapping of a vmspace, ascending. One that changes meanwhile may be listed as it was or as it is.
///
/// # Errors
/// As for [`syscall::vmspace_entries`].
pub fn mappings(vmspace: Handle) -> Result<Vec<EntryInfo>, Errno> {
    let mut mappings = Vec::new();
    let mut rows = [EntryInfo::new_zeroed(); 32];
    let mut address = 0;
    loop {
        let count = syscall::vmspace_entries(vmspace, address, &mut rows)?;
        let Some(last) = rows[..count].last() else {
            return Ok(mappings);
        };
        address = last.end;
        mappings.extend_from_slice(&rows[..count]);
    }
}

/// Every vmspace that a process has created, each once.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE).
pub fn guest_vmspaces(process: Handle) -> Result<Vec<VmspaceInfo>, Errno> {
    let mut found: Vec<VmspaceInfo> = Vec::new();
    let mut position = 0;
    loop {
        match syscall::vmspace_list(process, position) {
            Ok((next, info)) => {
                position = next;
                if found.iter().all(|other| other.id != info.id) {
                    found.push(info);
                }
            }
            Err(Errno::ENOENT) => return Ok(found),
            Err(errno) => return Err(errno),
        }
    }
}

/// Text from a zero-padded field.
#[must_use]
pub fn text(field: &[u8]) -> String {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..length]).into_owned()
}

/// The counters of a CPU, or their sums with `ALL_CPUS`.
///
/// # Errors
/// `EPERM` (INSPECT), `EINVAL` for a CPU that is not there.
pub fn counters(cpu: u64) -> Result<[u64; COUNTERS], Errno> {
    let mut counters = [0; COUNTERS];
    syscall::counters_read(handle()?, cpu, &mut counters)?;
    Ok(counters)
}
