//! System calls for drivers in user space.

use super::Call;
use crate::arch::{ioapic, ports};
use crate::ipc::Interrupt;
use crate::mm::physical;
use crate::proc::{Entry, Object, PortRange};
use crate::vm::MemoryObject;
use alloc::sync::Arc;
use dragonet_abi::device::DeviceKind;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::{Errno, Rights};
use x86_64::PhysAddr;

const PORT_RIGHTS: Rights = Rights::READ
    .union(Rights::WRITE)
    .union(Rights::DUPLICATE)
    .union(Rights::TRANSFER);

/// `device_open(system, kind, base, length)`.
pub fn open(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::DEVICES)?;
    let kind = DeviceKind::from_number(call.argument(1)).ok_or(Errno::EINVAL)?;
    let (base, length) = (call.argument(2), call.argument(3));
    let entry = match kind {
        DeviceKind::IsaInterrupt => {
            let irq = u8::try_from(base)
                .ok()
                .filter(|&irq| irq < 16 && length == 1)
                .ok_or(Errno::EINVAL)?;
            interrupt(ioapic::isa_line(irq).ok_or(Errno::ENODEV)?)?
        }
        DeviceKind::GlobalInterrupt => {
            let global = u32::try_from(base)
                .ok()
                .filter(|_| length == 1)
                .ok_or(Errno::EINVAL)?;
            interrupt(ioapic::global_line(global).ok_or(Errno::ENODEV)?)?
        }
        DeviceKind::Ports => port_range(base, length)?,
        DeviceKind::Memory => device_memory(base, length)?,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}

fn interrupt(line: ioapic::InterruptLine) -> Result<Entry, Errno> {
    Ok(Entry {
        object: Object::Interrupt(Interrupt::claim(line)?),
        rights: Interrupt::RIGHTS,
    })
}

fn port_range(base: u64, length: u64) -> Result<Entry, Errno> {
    let (Ok(base), Ok(length)) = (u16::try_from(base), u16::try_from(length)) else {
        return Err(Errno::EINVAL);
    };
    if length == 0 || u32::from(base) + u32::from(length) > 0x1_0000 {
        return Err(Errno::EINVAL);
    }
    if ports::is_reserved(base, length) {
        return Err(Errno::EBUSY);
    }
    Ok(Entry {
        object: Object::Ports(PortRange { base, length }),
        rights: PORT_RIGHTS,
    })
}

fn device_memory(base: u64, length: u64) -> Result<Entry, Errno> {
    let limit = physical::address_limit();
    let end = base
        .checked_add(length)
        .filter(|&end| length != 0 && end <= limit);
    if !base.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) || end.is_none() {
        return Err(Errno::EINVAL);
    }
    let base = PhysAddr::try_new(base).map_err(|_| Errno::EINVAL)?;
    if physical::overlaps_ram(base, length) {
        return Err(Errno::EACCES);
    }
    Ok(Entry {
        object: Object::Memory(MemoryObject::device(base, length)?),
        rights: PORT_RIGHTS,
    })
}

fn interrupt_object(call: &Call) -> Result<Arc<Interrupt>, Errno> {
    call.object(0, Object::interrupt, Rights::INTERRUPT)
}

fn ports_object(call: &Call, rights: Rights) -> Result<PortRange, Errno> {
    call.object(0, Object::ports, rights)
}

/// `interrupt_bind(interrupt, thread, bit)`.
pub fn interrupt_bind(call: &Call) -> Result<u64, Errno> {
    let line = interrupt_object(call)?;
    let thread = call.thread_object(1, Rights::POST)?;
    let bit = u8::try_from(call.argument(2))
        .ok()
        .filter(|&bit| bit < 64)
        .ok_or(Errno::EINVAL)?;
    line.bind(&thread, bit);
    Ok(0)
}

/// `interrupt_acknowledge(interrupt)`.
pub fn interrupt_acknowledge(call: &Call) -> Result<u64, Errno> {
    interrupt_object(call)?.acknowledge();
    Ok(0)
}

/// The port that an access names: inside the range, naturally aligned width.
fn port_of(range: PortRange, offset: u64, width: u64) -> Result<(u16, u8), Errno> {
    let width = match width {
        1 | 2 | 4 => width as u8,
        _ => return Err(Errno::EINVAL),
    };
    let end = offset.checked_add(u64::from(width)).ok_or(Errno::ERANGE)?;
    if end > u64::from(range.length) {
        return Err(Errno::ERANGE);
    }
    Ok((range.base + offset as u16, width))
}

/// `port_read(ports, offset, width)`.
pub fn port_read(call: &Call) -> Result<u64, Errno> {
    let range = ports_object(call, Rights::READ)?;
    let (port, width) = port_of(range, call.argument(1), call.argument(2))?;
    Ok(u64::from(ports::read(port, width)))
}

/// `port_write(ports, offset, width, value)`.
pub fn port_write(call: &Call) -> Result<u64, Errno> {
    let range = ports_object(call, Rights::WRITE)?;
    let (port, width) = port_of(range, call.argument(1), call.argument(2))?;
    ports::write(port, width, call.argument(3) as u32);
    Ok(0)
}
