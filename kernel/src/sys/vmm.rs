//! System calls of guest mode.

use super::{Call, Outcome};
use crate::vm::copy;
use crate::vmm::{self, Guest, Role};
use core::ops::Range;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::vmm::{GUEST_MASTER, GuestOptions, VMM_LEAVE, VMM_RUN};
use dragonet_abi::{Errno, Rights};
use page_table::FlushSet;

/// Where the addresses with bit 47 clear end and those with bits 47 to 63 set begin.
const LOWER_HALF_END: u64 = 1 << 47;
const UPPER_HALF_START: u64 = !0 << 47;

/// `vmm_guest_ctl(operation, options)`.
pub fn guest_ctl(call: &Call) -> Result<Outcome, Errno> {
    match (call.argument(0), &call.guest) {
        (VMM_RUN, Some(_)) => Err(Errno::EBUSY),
        (VMM_RUN, None) => {
            let options: GuestOptions = copy::read(call.argument(1))?;
            if options.flags & !GUEST_MASTER != 0 || options.reserved != 0 {
                return Err(Errno::EINVAL);
            }
            let role = if options.flags & GUEST_MASTER != 0 {
                Role::Master
            } else {
                Role::Slave
            };
            let process = call.process();
            let guest = Guest::new(process.guest(), process.vmspace(), role, options.cr3)?;
            Ok(Outcome::EnterGuest(guest))
        }
        (VMM_LEAVE, Some(_)) => Ok(Outcome::LeaveGuest),
        _ => Err(Errno::EINVAL),
    }
}

/// `vmm_guest_sync_addr(entry, value)`.
pub fn sync_addr(call: &mut Call) -> Result<u64, Errno> {
    let (entry, value) = (call.argument(0), call.argument(1));
    let Some(guest) = &call.guest else {
        return Err(Errno::EINVAL);
    };
    if entry == 0 {
        guest.process().alone(|| ());
        return Ok(0);
    }
    let new: u64 = copy::read(value)?;
    // What the exchange returns must find its place: the entry's marks are nowhere else afterwards.
    copy::write(value, &new)?;
    copy::check_range(entry, size_of::<u64>() as u64)?;
    let old = guest
        .vmspace()
        .exchange_word(entry, new, |exchange| guest.process().alone(exchange))?;
    copy::write(value, &old)?;
    Ok(0)
}

/// `madvise(address, length, Invalidate)` of a guest: `address` is one of its linear addresses, whose translations are forgotten. No page table of
/// the kernel's has to do with them.
pub fn invalidate(guest: &Guest, address: u64, length: u64) -> Result<(), Errno> {
    if length == 0 {
        return Ok(());
    }
    let range = linear_range(address, length).ok_or(Errno::EINVAL)?;
    let mut set = FlushSet::nothing();
    set.add_table(&range);
    guest.process().invalidate(&set);
    Ok(())
}

/// Whole pages of either half of the addresses: those between the halves are none, and INVVPID refuses them (SDM 3C 31.3).
fn linear_range(address: u64, length: u64) -> Option<Range<u64>> {
    let end = address.checked_add(length)?.checked_next_multiple_of(PAGE_SIZE)?;
    let halves = [0..LOWER_HALF_END, UPPER_HALF_START..u64::MAX];
    let inside = halves.iter().any(|half| half.start <= address && end <= half.end);
    (address.is_multiple_of(PAGE_SIZE) && inside).then_some(address..end)
}

/// `vmm_info(system, cpu, registers)`.
pub fn info(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::INSPECT)?;
    let index = usize::try_from(call.argument(1)).map_err(|_| Errno::ENOENT)?;
    copy::write(call.argument(2), &vmm::registers_of_cpu(index)?)?;
    Ok(0)
}
