//! Devices: interrupt lines and ports.

use super::raw::call;
use crate::OwnedHandle;
use dragonet_abi::device::DeviceKind;
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// A handle for an interrupt line, a port range or device memory.
///
/// # Errors
/// `EPERM` (DEVICES), `EBUSY` for what the kernel owns, `ENODEV`, `EINVAL`, `EMFILE`.
pub fn device_open(system: Handle, kind: DeviceKind, base: u64, length: u64) -> Result<OwnedHandle, Errno> {
    let arguments = [u64::from(system.0), kind as u64, base, length];
    // SAFETY: the call only makes a handle.
    unsafe { call(SyscallNumber::DeviceOpen, arguments) }.map(OwnedHandle::from_result)
}

/// From now on the line posts virtual interrupt `bit` to the thread.
///
/// # Errors
/// `EBADF`, `EPERM` (INTERRUPT, or POST on the thread), `EINVAL`.
pub fn interrupt_bind(interrupt: Handle, thread: Handle, bit: u32) -> Result<(), Errno> {
    let arguments = [u64::from(interrupt.0), u64::from(thread.0), u64::from(bit)];
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::InterruptBind, arguments) }.map(drop)
}

/// Unmasks the line after its interrupt was handled.
///
/// # Errors
/// `EBADF`, `EPERM` (INTERRUPT).
pub fn interrupt_acknowledge(interrupt: Handle) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::InterruptAcknowledge, [u64::from(interrupt.0)]) }.map(drop)
}

/// Reads a port; `offset` counts from the first port of the range, `width` is 1, 2 or 4 bytes.
///
/// # Errors
/// `EBADF`, `EPERM` (READ), `ERANGE`, `EINVAL`.
pub fn port_read(ports: Handle, offset: u64, width: u64) -> Result<u32, Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::PortRead, [u64::from(ports.0), offset, width]) }.map(|value| value as u32)
}

/// Writes a port.
///
/// # Errors
/// `EBADF`, `EPERM` (WRITE), `ERANGE`, `EINVAL`.
pub fn port_write(ports: Handle, offset: u64, width: u64, value: u32) -> Result<(), Errno> {
    let arguments = [u64::from(ports.0), offset, width, u64::from(value)];
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::PortWrite, arguments) }.map(drop)
}
