//! System calls on the caller's own memory, and the checks that they share with their `vmspace_*` twins.

use super::{Call, vmm};
use crate::proc::{Entry, Object, Process};
use crate::sched;
use crate::vm::{MapArguments, MemoryObject};
use dragonet_abi::memory::{Advice, Inheritance, MapFlags, MapRequest, Protection};
use dragonet_abi::{Errno, Handle, Rights};

/// Protection from a register: unknown bits, write without read, and write with execute are refused.
pub(super) fn protection_of(value: u64) -> Result<Protection, Errno> {
    let protection = u32::try_from(value)
        .ok()
        .and_then(Protection::from_bits)
        .ok_or(Errno::EINVAL)?;
    let write = protection.contains(Protection::WRITE);
    if write && (!protection.contains(Protection::READ) || protection.contains(Protection::EXECUTE)) {
        return Err(Errno::EINVAL);
    }
    Ok(protection)
}

/// Turns a request of `process` into arguments for a vmspace: decodes flags, looks up the object, derives what its handle allows.
pub(super) fn map_arguments(process: &Process, request: &MapRequest) -> Result<MapArguments, Errno> {
    let protection = protection_of(u64::from(request.protection))?;
    let flags = MapFlags::from_bits(request.flags).ok_or(Errno::EINVAL)?;
    if request.reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let (object, maximum) = if flags.contains(MapFlags::ANONYMOUS) {
        if request.object != Handle::NONE {
            return Err(Errno::EINVAL);
        }
        (None, Protection::all())
    } else {
        let entry = process.handles().get(request.object)?;
        let object = entry.object.memory()?;
        let mut maximum = Protection::empty();
        maximum.set(Protection::READ, entry.rights.contains(Rights::READ));
        maximum.set(Protection::EXECUTE, entry.rights.contains(Rights::EXECUTE));
        let private = flags.contains(MapFlags::PRIVATE) && entry.rights.contains(Rights::READ);
        maximum.set(Protection::WRITE, private || entry.rights.contains(Rights::WRITE));
        if !maximum.contains(protection) {
            return Err(Errno::EACCES);
        }
        if flags.contains(MapFlags::VPAGETABLE) && !entry.rights.contains(Rights::READ | Rights::WRITE) {
            return Err(Errno::EACCES);
        }
        (Some(object), maximum)
    };
    Ok(MapArguments {
        address: request.address,
        length: request.length,
        protection,
        flags,
        object,
        maximum,
        offset: request.offset,
    })
}

/// `mmap(address, length, protection, flags, object, offset)`.
pub fn mmap(call: &Call) -> Result<u64, Errno> {
    let small = |index: usize| u32::try_from(call.argument(index)).map_err(|_| Errno::EINVAL);
    let request = MapRequest {
        address: call.argument(0),
        length: call.argument(1),
        protection: small(2)?,
        flags: small(3)?,
        object: call.handle(4)?,
        reserved: 0,
        offset: call.argument(5),
    };
    call.process()
        .vmspace()
        .map(&map_arguments(call.process(), &request)?)
}

/// `munmap(address, length)`.
pub fn munmap(call: &Call) -> Result<u64, Errno> {
    call.process()
        .vmspace()
        .unmap(call.argument(0), call.argument(1))
        .map(|()| 0)
}

/// `mprotect(address, length, protection)`.
pub fn mprotect(call: &Call) -> Result<u64, Errno> {
    let protection = protection_of(call.argument(2))?;
    call.process()
        .vmspace()
        .protect(call.argument(0), call.argument(1), protection)
        .map(|()| 0)
}

/// `madvise(address, length, advice)`.
pub fn madvise(call: &Call) -> Result<u64, Errno> {
    let advice = Advice::from_number(call.argument(2)).ok_or(Errno::EINVAL)?;
    if advice == Advice::SetMap {
        return Err(Errno::EINVAL);
    }
    if let (Advice::Invalidate, Some(guest)) = (advice, &call.guest) {
        return vmm::invalidate(guest, call.argument(0), call.argument(1)).map(|()| 0);
    }
    let goes_on = || {
        sched::offer();
        !call.thread.must_go()
    };
    call.process()
        .vmspace()
        .advise_while(call.argument(0), call.argument(1), advice, goes_on)
        .map(|()| 0)
}

/// `mcontrol(address, length, advice, value)`.
pub fn mcontrol(call: &Call) -> Result<u64, Errno> {
    let advice = Advice::from_number(call.argument(2)).ok_or(Errno::EINVAL)?;
    let (address, length, value) = (call.argument(0), call.argument(1), call.argument(3));
    let goes_on = || {
        sched::offer();
        !call.thread.must_go()
    };
    call.process()
        .vmspace()
        .control_while(address, length, advice, value, goes_on)
        .map(|()| 0)
}

/// `minherit(address, length, inheritance)`.
pub fn minherit(call: &Call) -> Result<u64, Errno> {
    let inheritance = Inheritance::from_number(call.argument(2)).ok_or(Errno::EINVAL)?;
    call.process()
        .vmspace()
        .set_inheritance(call.argument(0), call.argument(1), inheritance)
        .map(|()| 0)
}

/// `object_create(size)`.
pub fn object_create(call: &Call) -> Result<u64, Errno> {
    let account = call.process().vmspace().account();
    let object = MemoryObject::anonymous_for(call.argument(0), account)?;
    let rights = Rights::READ | Rights::WRITE | Rights::EXECUTE | Rights::DUPLICATE | Rights::TRANSFER;
    let entry = Entry {
        object: Object::Memory(object),
        rights,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}
