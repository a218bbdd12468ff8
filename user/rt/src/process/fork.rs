//! Copies of the running program.

#![forbid(unsafe_code)]

use super::command::{Child, INHERITED};
use crate::startup::{self, role};
use crate::thread::Beginning;
use crate::{ExitCode, console, exit, syscall};
use alloc::vec::Vec;
use dragonet_abi::{Errno, Handle};

/// Fills the empty vmspace of a process that is not yet started, or of a vkernel's user, with a copy of this program's memory.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), `EBUSY` if it is not empty, `ENOMEM`.
pub fn fork_into(vmspace: Handle) -> Result<(), Errno> {
    let own = syscall::process_vmspace(Handle::SELF_PROCESS)?;
    syscall::vmspace_fork(own.get(), vmspace)
}

/// Starts a copy of this program that runs `function`, with one thread and a stack of its own, and ends with its result. The function
/// and what it holds are copied; those of the caller are dropped.
///
/// The copy has the handles that a program passes on (system, console, archive, supervisor) in the same roles, and no others: a handle
/// that the function holds is only a number to it. A lock that another thread of this program holds at that moment, the heap's
/// included, is never freed in the copy, so call this when there are no other threads or they are at rest.
///
/// # Errors
/// Why there can be no copy; nothing is left of it then.
pub fn fork(name: &str, function: impl FnOnce() -> ExitCode + Send + 'static) -> Result<Child, Errno> {
    // What is not written out yet would be written twice.
    console::flush();
    let child = Child::from_handle(syscall::process_create(name)?);
    start(&child, function).inspect_err(|_| {
        let _ = child.kill(0);
    })?;
    Ok(child)
}

fn start(child: &Child, function: impl FnOnce() -> ExitCode + Send + 'static) -> Result<(), Errno> {
    let mut handles = Vec::with_capacity(INHERITED.len());
    for (number, rights) in INHERITED {
        if let Some(handle) = role(number) {
            handles.push((number, child.give(handle, rights)?));
        }
    }
    let beginning = Beginning::new(move || {
        startup::replace_roles(handles.into_iter());
        console::forget_grant();
        exit::exit(function().0)
    })?;
    let vmspace = syscall::process_vmspace(child.handle())?;
    fork_into(vmspace.get())?;
    let (entry, stack_pointer, argument) = beginning.registers();
    syscall::process_start(child.handle(), entry, stack_pointer, argument).map(drop)
}
