//! The machine as a whole.

use super::raw::call;
use crate::OwnedHandle;
use dragonet_abi::system::{ModuleInfo, PowerCommand, SystemInfo};
use dragonet_abi::{Errno, Handle, SyscallNumber};
use zerocopy::FromZeros;

/// Reads the counters of one CPU, or their sums with `ALL_CPUS`; returns how many were written.
///
/// # Errors
/// `EBADF`, `EPERM` (INSPECT), `EINVAL` for a CPU that is not there.
pub fn counters_read(system: Handle, cpu: u64, counters: &mut [u64]) -> Result<usize, Errno> {
    let arguments = [
        u64::from(system.0),
        cpu,
        counters.as_mut_ptr() as u64,
        counters.len() as u64,
    ];
    // SAFETY: the kernel writes at most `counters.len()` numbers.
    unsafe { call(SyscallNumber::CountersRead, arguments) }.map(|count| count as usize)
}

/// Writes a line into the kernel's log; levels are 1 (error) to 5 (trace).
///
/// # Errors
/// `EINVAL` for the level or a text above `MAX_LOG_TEXT`.
pub fn log_write(level: u64, text: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel only reads the text.
    unsafe {
        call(
            SyscallNumber::LogWrite,
            [level, text.as_ptr() as u64, text.len() as u64],
        )
    }
    .map(drop)
}

/// Reads log records from sequence number `position` on; returns how many bytes of records were written.
///
/// # Errors
/// `EBADF`, `EPERM` (INSPECT), `EINVAL` for a buffer too short for one record.
pub fn log_read(system: Handle, position: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let arguments = [
        u64::from(system.0),
        position,
        buffer.as_mut_ptr() as u64,
        buffer.len() as u64,
    ];
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    unsafe { call(SyscallNumber::LogRead, arguments) }.map(|count| count as usize)
}

/// Turns the machine off or resets it; returns only when that was refused.
///
/// # Errors
/// `EBADF`, `EPERM` (POWER), `ENODEV`.
pub fn power(system: Handle, command: PowerCommand, status: u8) -> Errno {
    // SAFETY: the call touches no memory.
    match unsafe {
        call(
            SyscallNumber::Power,
            [u64::from(system.0), command as u64, u64::from(status)],
        )
    } {
        Ok(_) => Errno::ENODEV,
        Err(errno) => errno,
    }
}

/// Facts about the machine and counts of kernel objects.
///
/// # Errors
/// None that the kernel documents.
pub fn system_info() -> Result<SystemInfo, Errno> {
    let mut info = SystemInfo::new_zeroed();
    // SAFETY: the kernel writes one record into `info`.
    unsafe { call(SyscallNumber::SystemInfo, [&raw mut info as u64])? };
    Ok(info)
}

/// The boot module at `index`: its memory object and what is known about it.
///
/// # Errors
/// `EBADF`, `EPERM` (MODULES), `ENOENT` behind the last one, `EMFILE`.
pub fn boot_module(system: Handle, index: u64) -> Result<(OwnedHandle, ModuleInfo), Errno> {
    let mut info = ModuleInfo::new_zeroed();
    let arguments = [u64::from(system.0), index, &raw mut info as u64];
    // SAFETY: the kernel writes one record into `info`.
    let handle = unsafe { call(SyscallNumber::BootModule, arguments)? };
    Ok((OwnedHandle::from_result(handle), info))
}
