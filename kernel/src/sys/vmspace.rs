//! System calls on vmspaces by handle: a vkernel's users, a parent's child.

use super::memory::{map_arguments, protection_of};
use super::user_slice::{PIECE, zeroed};
use super::{Call, Outcome};
use crate::proc::{Entry, GuestVmspace, Object};
use crate::sched;
use crate::vm::{copy, fork_while};
use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::memory::{Advice, Inheritance, MapRequest};
use dragonet_abi::vmspace::{EntryInfo, VMSPACE_CTL_RUN};
use dragonet_abi::{Errno, Rights};

fn vmspace_object(call: &Call, rights: Rights) -> Result<Arc<GuestVmspace>, Errno> {
    call.object(0, Object::vmspace, rights)
}

/// `vmspace_create(system)`.
pub fn create(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::VKERNEL)?;
    let object = Object::Vmspace(GuestVmspace::new(call.process())?);
    let entry = Entry {
        object,
        rights: GuestVmspace::RIGHTS,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}

/// `vmspace_destroy(vmspace)`.
pub fn destroy(call: &Call) -> Result<u64, Errno> {
    vmspace_object(call, Rights::MANAGE)?.destroy()?;
    // If another thread was faster to close the handle, it is closed.
    drop(call.process().handles().take(call.handle(0)?, Rights::MANAGE));
    Ok(0)
}

/// `vmspace_ctl(vmspace, command, state)`.
pub fn ctl(call: &mut Call) -> Result<Outcome, Errno> {
    if call.argument(1) != VMSPACE_CTL_RUN {
        return Err(Errno::EINVAL);
    }
    let address = call.argument(2);
    let thread = call.thread.arc();
    let (root, guest_mode) = (call.argument(0), call.guest.as_deref_mut());
    let entered = match guest_mode {
        Some(guest) => thread.run_user(call.frame, guest, root, address)?,
        None => {
            let guest = vmspace_object(call, Rights::RUN)?;
            thread.run_guest(call.frame, guest, address)?
        }
    };
    Ok(if entered {
        Outcome::FrameReplaced
    } else {
        Outcome::Value(0)
    })
}

/// `vmspace_mmap(vmspace, request)`.
pub fn mmap(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::MANAGE)?;
    let request: MapRequest = copy::read(call.argument(1))?;
    vmspace.vmspace()?.map(&map_arguments(call.process(), &request)?)
}

/// `vmspace_munmap(vmspace, address, length)`.
pub fn munmap(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::MANAGE)?;
    vmspace
        .vmspace()?
        .unmap(call.argument(1), call.argument(2))
        .map(|()| 0)
}

/// `vmspace_mprotect(vmspace, address, length, protection)`.
pub fn mprotect(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::MANAGE)?;
    let protection = protection_of(call.argument(3))?;
    vmspace
        .vmspace()?
        .protect(call.argument(1), call.argument(2), protection)
        .map(|()| 0)
}

/// `vmspace_mcontrol(vmspace, address, length, advice, value)`.
pub fn mcontrol(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::MANAGE)?;
    let advice = Advice::from_number(call.argument(3)).ok_or(Errno::EINVAL)?;
    let (address, length, value) = (call.argument(1), call.argument(2), call.argument(4));
    let goes_on = || {
        sched::offer();
        !call.thread.must_go() && vmspace.vmspace().is_ok()
    };
    match vmspace
        .vmspace()?
        .control_while(address, length, advice, value, goes_on)
    {
        // Told to stop: because it was destroyed, unless the thread must end.
        Err(Errno::EINTR) => vmspace.vmspace().and(Err(Errno::EINTR)),
        outcome => outcome.map(|()| 0),
    }
}

/// `vmspace_pread(vmspace, buffer, length, address)`.
pub fn pread(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::READ)?;
    let (buffer, length, address) = (call.argument(1), call.argument(2), call.argument(3));
    copy::check_range(buffer, length)?;
    let mut piece = zeroed(PIECE.min(length as usize))?;
    let mut done = 0;
    while done < length && !call.thread.must_go() {
        let size = (length - done).min(PIECE as u64) as usize;
        let source = address.checked_add(done).ok_or(Errno::EFAULT)?;
        let read = match vmspace.vmspace()?.read(source, &mut piece[..size]) {
            Ok(read) => read,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        copy::write_bytes(buffer + done, &piece[..read])?;
        done += read as u64;
        if read < size {
            break;
        }
        sched::offer();
    }
    Ok(done)
}

/// `vmspace_pwrite(vmspace, buffer, length, address)`.
pub fn pwrite(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::WRITE)?;
    let (buffer, length, address) = (call.argument(1), call.argument(2), call.argument(3));
    copy::check_range(buffer, length)?;
    let mut piece = zeroed(PIECE.min(length as usize))?;
    let mut done = 0;
    while done < length && !call.thread.must_go() {
        let size = (length - done).min(PIECE as u64) as usize;
        copy::read_bytes(buffer + done, &mut piece[..size])?;
        let target = address.checked_add(done).ok_or(Errno::EFAULT)?;
        let written = match vmspace.vmspace()?.write(target, &piece[..size]) {
            Ok(written) => written,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        done += written as u64;
        if written < size {
            break;
        }
        sched::offer();
    }
    Ok(done)
}

/// Rows of one [`entries`] at most.
const MOST_ENTRIES: usize = 64;

/// `vmspace_entries(vmspace, address, *mut EntryInfo, count)`.
pub fn entries(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::READ)?;
    let (address, buffer, count) = (call.argument(1), call.argument(2), call.argument(3));
    let most = usize::try_from(count).map_or(MOST_ENTRIES, |count| count.min(MOST_ENTRIES));
    copy::check_range(buffer, (most * size_of::<EntryInfo>()) as u64)?;
    let mut rows = Vec::new();
    rows.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
    vmspace
        .vmspace()?
        .for_each_entry(address, most, |entry| rows.push(entry));
    let goes_on = || {
        sched::offer();
        !call.thread.must_go()
    };
    for (number, row) in rows.iter_mut().enumerate() {
        let mapped = vmspace.vmspace()?.mapped_pages(&(row.start..row.end), goes_on);
        row.mapped_pages = mapped.ok_or(Errno::EINTR)?;
        copy::write(buffer + (number * size_of::<EntryInfo>()) as u64, row)?;
    }
    Ok(rows.len() as u64)
}

/// `vmspace_list(process, position, *mut VmspaceInfo)`.
pub fn list(call: &Call) -> Result<u64, Errno> {
    let process = call.process_object(0, Rights::MANAGE)?;
    let (next, guest) = process
        .guest_vmspace_from(call.argument(1))
        .ok_or(Errno::ENOENT)?;
    let goes_on = || {
        sched::offer();
        !call.thread.must_go()
    };
    let info = guest.information(goes_on).ok_or(Errno::EINTR)?;
    copy::write(call.argument(2), &info)?;
    Ok(next)
}

/// `vmspace_fork(source, target)`.
pub fn fork(call: &Call) -> Result<u64, Errno> {
    let source = vmspace_object(call, Rights::READ | Rights::MANAGE)?;
    let target = call.object(1, Object::vmspace, Rights::MANAGE)?;
    let goes_on = || {
        sched::offer();
        !call.thread.must_go()
    };
    // Only a thread that must end is told to stop, and it never gets back to user mode with the answer.
    fork_while(source.vmspace()?, target.vmspace()?, goes_on).map(|()| 0)
}

/// `vmspace_minherit(vmspace, address, length, inheritance)`.
pub fn minherit(call: &Call) -> Result<u64, Errno> {
    let vmspace = vmspace_object(call, Rights::MANAGE)?;
    let inheritance = Inheritance::from_number(call.argument(3)).ok_or(Errno::EINVAL)?;
    vmspace
        .vmspace()?
        .set_inheritance(call.argument(1), call.argument(2), inheritance)
        .map(|()| 0)
}
