//! System calls on the machine as a whole.

use super::Call;
use super::user_slice::{PIECE, read_short, zeroed};
use crate::arch::{boot, clock, cpu, power as machine_power};
use crate::debug::{counters, log as kernel_log};
use crate::ipc;
use crate::mm::frame;
use crate::proc::{Entry, HandleTable, Object, processes_alive, threads_alive};
use crate::vm::{self, MemoryObject, copy};
use dragonet_abi::counters::{ALL_CPUS, Counter};
use dragonet_abi::system::{
    ABI_VERSION, MAX_LOG_TEXT, MODE_EXIT, MODE_SOFT, ModuleInfo, PowerCommand, SystemInfo,
};
use dragonet_abi::{Errno, Rights};

/// `counters_read(system, cpu, *mut u64, count)`.
pub fn counters_read(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::INSPECT)?;
    let (which, address, count) = (call.argument(1), call.argument(2), call.argument(3));
    if which != ALL_CPUS && which >= cpu::count() as u64 {
        return Err(Errno::EINVAL);
    }
    let mut written = 0u64;
    for &counter in Counter::ALL {
        if written >= count {
            break;
        }
        let value = if which == ALL_CPUS {
            counters::total(counter)
        } else {
            counters::on_cpu(which as usize, counter)
        };
        copy::write(address.checked_add(written * 8).ok_or(Errno::EFAULT)?, &value)?;
        written += 1;
    }
    Ok(written)
}

/// `log_write(level, text, length)`.
pub fn log_write(call: &Call) -> Result<u64, Errno> {
    let level = match call.argument(0) {
        1 => log::Level::Error,
        2 => log::Level::Warn,
        3 => log::Level::Info,
        4 => log::Level::Debug,
        5 => log::Level::Trace,
        _ => return Err(Errno::EINVAL),
    };
    let bytes = read_short(call.argument(1), call.argument(2), MAX_LOG_TEXT)?;
    let text = core::str::from_utf8(&bytes).map_err(|_| Errno::EINVAL)?;
    log::log!(
        level,
        "{} ({}): {text}",
        call.process().name(),
        call.process().id()
    );
    Ok(0)
}

/// `log_read(system, position, buffer, length)`.
pub fn log_read(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::INSPECT)?;
    let length = call.argument(3).min(PIECE as u64) as usize;
    let mut buffer = zeroed(length)?;
    let written = kernel_log::read(call.argument(1), &mut buffer);
    copy::write_bytes(call.argument(2), &buffer[..written])?;
    Ok(written as u64)
}

/// `power(system, command, status)`.
pub fn power(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::POWER)?;
    match PowerCommand::from_number(call.argument(1)).ok_or(Errno::EINVAL)? {
        PowerCommand::Off => machine_power::exit_status((call.argument(2) & 0xff) as u8),
        PowerCommand::Reset => machine_power::reset(),
    }
}

/// `system_info(*mut SystemInfo)`.
pub fn info(call: &Call) -> Result<u64, Errno> {
    let (frames_total, frames_free) = frame::statistics();
    let (vmspaces, memory_objects) = vm::live_counts();
    let info = SystemInfo {
        abi_version: ABI_VERSION,
        cpus: cpu::count() as u32,
        frames_total,
        frames_free,
        uptime: clock::now(),
        tsc_frequency: clock::tsc_frequency(),
        vkernel_modes: if crate::vmm::support().is_ok() {
            MODE_SOFT | MODE_EXIT
        } else {
            MODE_SOFT
        },
        processes: processes_alive(),
        threads: threads_alive(),
        vmspaces,
        memory_objects,
        handles: HandleTable::open_in_all(),
        channels: ipc::channels_alive(),
    };
    copy::write(call.argument(0), &info)?;
    Ok(0)
}

/// `boot_module(system, index, *mut ModuleInfo)`.
pub fn boot_module(call: &Call) -> Result<u64, Errno> {
    call.system(0, Rights::MODULES)?;
    let modules = boot::info().modules;
    let index = usize::try_from(call.argument(1)).map_err(|_| Errno::ENOENT)?;
    let module = modules.get(index).ok_or(Errno::ENOENT)?;
    let mut name = [0; 64];
    let bytes = module.name.as_bytes();
    let length = bytes.len().min(name.len());
    name[..length].copy_from_slice(&bytes[..length]);
    copy::write(
        call.argument(2),
        &ModuleInfo {
            size: module.size,
            name,
        },
    )?;
    let object = MemoryObject::module(module.physical, module.size)?;
    let rights = Rights::READ | Rights::EXECUTE | Rights::DUPLICATE | Rights::TRANSFER;
    let entry = Entry {
        object: Object::Memory(object),
        rights,
    };
    Ok(u64::from(call.process().handles().insert(entry)?.0))
}
