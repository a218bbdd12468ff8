//! The state of the boot CPU and of the interrupt controllers.

use core::arch::x86_64::__cpuid;

use limine::memory_map::EntryType;
use x86_64::instructions::port::Port;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::sgdt;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::rflags::RFlags;

use crate::check::{Outcome, Why};
use crate::entry::{self, BOOT, FLAGS, RSP, Registers};
use crate::requests::*;
use crate::require;
use crate::walk::walk;

/// Every general register is zero, and the flags are clear.
pub fn registers() -> Outcome {
    zero(&BOOT, 0)?;
    flags(&BOOT)
}

/// Every general register is zero but the one for the argument.
pub fn zero(registers: &Registers, argument: usize) -> Outcome {
    for index in 0..RSP {
        let value = entry::read(registers, index);
        require!(
            value == 0 || argument != 0 && index == argument,
            "register {index} is {value:#x}"
        );
    }
    Ok(())
}

/// Interrupts off, direction up.
pub fn flags(registers: &Registers) -> Outcome {
    let flags = RFlags::from_bits_truncate(entry::read(registers, FLAGS));
    let set = flags & (RFlags::INTERRUPT_FLAG | RFlags::DIRECTION_FLAG | RFlags::VIRTUAL_8086_MODE);
    require!(set.is_empty(), "{set:?}");
    Ok(())
}

/// Paging, protection and long mode, with the caches on.
pub fn control_registers() -> Outcome {
    let wanted = Cr0Flags::PAGING | Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::WRITE_PROTECT;
    require!(Cr0::read().contains(wanted), "CR0 is {:?}", Cr0::read());
    let unwanted = Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH;
    require!(!Cr0::read().intersects(unwanted), "CR0 is {:?}", Cr0::read());
    require!(
        Cr4::read().contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION),
        "CR4 is {:?}",
        Cr4::read()
    );
    require!(
        !Cr4::read().contains(Cr4Flags::L5_PAGING),
        "five levels were not asked for"
    );
    require!(
        Efer::read().contains(EferFlags::LONG_MODE_ENABLE),
        "EFER is {:?}",
        Efer::read()
    );
    let no_execute = __cpuid(0x8000_0001).edx & (1 << 20) != 0;
    let enabled = Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE);
    require!(
        enabled == no_execute,
        "NX is there: {no_execute}, enabled: {enabled}"
    );
    Ok(())
}

/// The table of segments, entry for entry; the accessed bits may be set.
pub fn segments() -> Outcome {
    const WANTED: [u64; 7] = [
        0,
        0x0000_9a00_0000_ffff,
        0x0000_9200_0000_ffff,
        0x00cf_9a00_0000_ffff,
        0x00cf_9200_0000_ffff,
        0x0020_9a00_0000_0000,
        0x0000_9200_0000_0000,
    ];
    // What matters of a 64-bit code segment is L, presence, privilege and type; of a 64-bit data segment the latter.
    const MATTERS: [u64; 7] = [
        u64::MAX,
        u64::MAX,
        u64::MAX,
        u64::MAX,
        u64::MAX,
        0x0060_ff00_0000_0000,
        0x0000_ff00_0000_0000,
    ];
    const ACCESSED: u64 = 1 << 40;
    let table = sgdt();
    require!(
        usize::from(table.limit) + 1 >= size_of_val(&WANTED),
        "limit {}",
        table.limit
    );
    let physical = table.base.as_u64().wrapping_sub(direct_map());
    let length = u64::from(table.limit) + 1;
    require!(
        all_in(physical, length, EntryType::BOOTLOADER_RECLAIMABLE),
        "at {:#x}",
        table.base.as_u64()
    );
    for (index, (wanted, matters)) in WANTED.iter().zip(MATTERS).enumerate() {
        // SAFETY: inside the table that the CPU uses, in mapped memory.
        let found = unsafe { table.base.as_ptr::<u64>().add(index).read_unaligned() };
        require!(
            (found ^ wanted) & matters & !ACCESSED == 0,
            "entry {index} is {found:#x}"
        );
    }
    require!(CS::get_reg().0 == 5 * 8, "CS is {:#x}", CS::get_reg().0);
    for segment in [DS::get_reg(), ES::get_reg(), SS::get_reg()] {
        require!(segment.0 == 6 * 8, "a data segment is {:#x}", segment.0);
    }
    Ok(())
}

/// The stack has the size that was asked for.
pub fn stack() -> Outcome {
    stack_of(&BOOT)
}

/// A return address of zero is on top of a stack that is as large as requested, reclaimable, and can be written.
pub fn stack_of(registers: &Registers) -> Result<(), Why> {
    let pointer = entry::read(registers, RSP);
    require!(pointer % 16 == 8, "RSP is {pointer:#x}");
    let bottom = pointer + 8 - STACK;
    let physical = bottom.wrapping_sub(direct_map());
    require!(
        all_in(physical, STACK, EntryType::BOOTLOADER_RECLAIMABLE),
        "RSP is {pointer:#x}"
    );
    for page in (bottom..pointer).step_by(4096) {
        require!(
            walk(page).is_some_and(|mapping| mapping.writable),
            "{page:#x} cannot be written"
        );
    }
    // SAFETY: mapped and reclaimable, as checked; the loader's return address is above every frame of this kernel.
    let address = unsafe { (pointer as *const u64).read_volatile() };
    require!(address == 0, "the return address is {address:#x}");
    Ok(())
}

/// The first six entries of the page attribute table.
pub fn page_attributes() -> Outcome {
    if __cpuid(1).edx & (1 << 16) == 0 {
        return Ok(());
    }
    // SAFETY: the MSR exists, as CPUID says.
    let table = unsafe { Msr::new(0x277).read() };
    require!(
        table & 0xffff_ffff_ffff == 0x0105_0007_0406,
        "the table is {table:#x}"
    );
    Ok(())
}

/// Both legacy controllers are masked.
pub fn legacy_interrupts() -> Outcome {
    for port in [0x21, 0xa1] {
        // SAFETY: reading a mask register changes nothing.
        let mask = unsafe { Port::<u8>::new(port).read() };
        require!(mask == 0xff, "the mask at port {port:#x} is {mask:#x}");
    }
    Ok(())
}

/// The lines of the first I/O APIC are masked. Base revision 3 does not map it.
pub fn io_apics() -> Outcome {
    const ADDRESS: u64 = 0xfec0_0000;
    if REVISION >= 3 {
        return Ok(());
    }
    let window = direct_map() + ADDRESS;
    require!(
        walk(window).is_some_and(|mapping| mapping.physical == ADDRESS),
        "not in the direct map"
    );
    let read = |register: u32| {
        // SAFETY: the page is mapped; PCs have their first I/O APIC there. Selecting a register changes no state.
        unsafe {
            (window as *mut u32).write_volatile(register);
            ((window + 0x10) as *const u32).read_volatile()
        }
    };
    let lines = (read(1) >> 16 & 0xff) + 1;
    for line in 0..lines {
        let low = read(0x10 + 2 * line);
        let delivery = low >> 8 & 7;
        require!(delivery > 1 || low & 1 << 16 != 0, "line {line} is {low:#x}");
    }
    Ok(())
}
