//! VMX instructions, one function each. Whether one failed is read from the flags in the same assembly block (SDM 3C 31.2).

use crate::arch::cpu;
use crate::arch::irq::IrqsOff;
use core::arch::asm;
use core::marker::PhantomData;
use dragonet_abi::counters::Counter;
use vmx_model::Field;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr4, Cr4Flags};

/// Why an instruction failed (SDM 3C 31.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// VMfailInvalid: there is no current VMCS.
    Invalid,
    /// VMfailValid, with the VM-instruction error of the current VMCS (31.4).
    Valid(u32),
}

/// This CPU is in VMX root operation, and stays this CPU: interrupts are off.
#[derive(Debug)]
pub struct VmxOn<'irqs>(PhantomData<&'irqs IrqsOff>);

impl<'irqs> VmxOn<'irqs> {
    /// Claims it.
    ///
    /// # Safety
    /// 1. [`vmxon`] succeeded on this CPU and [`vmxoff`] has not been called since.
    pub unsafe fn assume(_irqs: &'irqs IrqsOff) -> Self {
        VmxOn(PhantomData)
    }
}

/// A VMCS is current on this CPU.
#[derive(Debug)]
pub struct Current<'irqs>(PhantomData<&'irqs IrqsOff>);

/// Runs an instruction that takes a physical address in memory.
macro_rules! with_address {
    ($instruction:literal, $address:expr) => {{
        let address: u64 = $address.as_u64();
        let failed: u8;
        asm!(concat!($instruction, " [{}]"), "setna {}", in(reg) &address, out(reg_byte) failed, options(nostack));
        failed != 0
    }};
}

/// Enters VMX root operation (VMXON, SDM 3C 24.7, 31.3). False if the CPU refuses.
///
/// # Safety
/// 1. The CPU has VMX and IA32_FEATURE_CONTROL is locked with VMX outside of SMX enabled.
/// 2. `region` is a page that starts with the VMCS revision, and is used by nothing else until [`vmxoff`].
/// 3. This CPU is not in VMX operation.
pub(super) unsafe fn vmxon(_irqs: &IrqsOff, region: PhysAddr) -> bool {
    // SAFETY: the caller's promises; CR4.VMXE exists where VMX does.
    let refused = unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS));
        with_address!("vmxon", region)
    };
    if refused {
        // SAFETY: outside of VMX operation the bit is free to be cleared.
        unsafe { Cr4::update(|flags| flags.remove(Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS)) };
    }
    !refused
}

/// Leaves VMX operation (VMXOFF). Takes no lock: also called by a CPU that is being stopped.
///
/// # Safety
/// 1. This CPU is in VMX root operation, and no VMCS is active on it whose contents are still wanted.
pub(super) unsafe fn vmxoff(_irqs: &IrqsOff) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("vmxoff", options(nostack));
        Cr4::update(|flags| flags.remove(Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS));
    }
}

/// Writes a VMCS back to its region and makes it clear (VMCLEAR, SDM 3C 25.11.3): from then on any CPU may load it.
///
/// # Errors
/// [`Failure`] for an address that cannot be a region.
///
/// # Safety
/// 1. `region` is a VMCS region that is active on no other CPU.
pub(super) unsafe fn vmclear(on: &VmxOn<'_>, region: PhysAddr) -> Result<(), Failure> {
    // SAFETY: the caller's promise; `on` proves VMX root operation.
    let failed = unsafe { with_address!("vmclear", region) };
    if failed { Err(failure(on)) } else { Ok(()) }
}

/// Loads a VMCS (VMPTRLD). It is current until another one is loaded or it is cleared.
///
/// # Errors
/// [`Failure`] for an address or a revision that is wrong.
///
/// # Safety
/// 1. `region` is a VMCS region with the CPU's revision, clear or active on this CPU, and active on no other.
/// 2. It stays one until it has been cleared.
pub(super) unsafe fn vmptrld(on: &VmxOn<'_>, region: PhysAddr) -> Result<(), Failure> {
    // SAFETY: the caller's promises; `on` proves VMX root operation.
    let failed = unsafe { with_address!("vmptrld", region) };
    if failed { Err(failure(on)) } else { Ok(()) }
}

/// What the last instruction complained about, if there is a current VMCS to tell.
fn failure(_on: &VmxOn<'_>) -> Failure {
    let value: u64;
    let failed: u8;
    // SAFETY: in VMX root operation; without a current VMCS the instruction fails, which is looked at.
    unsafe {
        asm!("vmread {}, {}", "setna {}", out(reg) value, in(reg) u64::from(Field::InstructionError.encoding()), out(reg_byte) failed,
            options(nostack));
    }
    match value as u32 {
        0 => Failure::Invalid,
        _ if failed != 0 => Failure::Invalid,
        error => Failure::Valid(error),
    }
}

impl Current<'_> {
    /// Claims that a VMCS is current, for as long as `on` says that this is the CPU.
    ///
    /// # Safety
    /// 1. [`vmptrld`] succeeded on this CPU and nothing else was loaded, and this VMCS not cleared, since.
    pub unsafe fn assume<'on>(_on: &'on VmxOn<'_>) -> Current<'on> {
        Current(PhantomData)
    }

    /// Reads a field.
    ///
    /// # Panics
    /// If the CPU does not have the field.
    #[inline]
    pub fn read(&self, field: Field) -> u64 {
        match self.try_read(field) {
            Some(value) => value,
            None => no_such_field("VMREAD", field),
        }
    }

    /// Reads a field if the CPU has it.
    #[inline]
    pub fn try_read(&self, field: Field) -> Option<u64> {
        let value: u64;
        let failed: u8;
        // SAFETY: a VMCS is current. A field that is not there is a failure, not a fault.
        unsafe {
            asm!("vmread {}, {}", "setna {}", out(reg) value, in(reg) u64::from(field.encoding()), out(reg_byte) failed,
                options(nostack));
        }
        cpu::add_event::<{ Counter::VmcsRead as usize }>();
        (failed == 0).then_some(value)
    }

    /// Writes a field.
    ///
    /// # Panics
    /// If the CPU does not have the field or cannot write it.
    ///
    /// # Safety
    /// 1. The value keeps what is true of every VMCS here: the guest reaches memory through its nested table only, and every exit finds the
    ///    host's own state. Values that the CPU refuses are harmless; the entry fails.
    #[inline]
    pub unsafe fn write(&self, field: Field, value: u64) {
        let failed: u8;
        // SAFETY: a VMCS is current; the caller's promise.
        unsafe {
            asm!("vmwrite {}, {}", "setna {}", in(reg) u64::from(field.encoding()), in(reg) value, out(reg_byte) failed,
                options(nostack));
        }
        #[cfg(debug_assertions)]
        super::write_counts::note(field);
        match field {
            Field::GuestRip
            | Field::GuestRsp
            | Field::GuestRflags
            | Field::GuestCr3
            | Field::GuestFsBase
            | Field::GuestGsBase => cpu::add_event::<{ Counter::VmcsWriteRegister as usize }>(),
            _ => cpu::add_event::<{ Counter::VmcsWriteOther as usize }>(),
        }
        if failed != 0 {
            no_such_field("VMWRITE", field);
        }
    }
}

#[cold]
fn no_such_field(instruction: &str, field: Field) -> ! {
    panic!("{instruction} of {field:?} failed");
}

/// What INVEPT drops (SDM 3C 29.4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum InveptKind {
    /// Everything that comes from one nested table.
    SingleContext = 1,
    /// Everything that comes from any.
    AllContexts = 2,
}

/// Drops guest-physical and combined translations. `pointer` is the extended-page-table pointer; 0 for all.
///
/// # Panics
/// If the CPU does not have this kind: the capability is asked for before guest mode is allowed.
pub fn invept(on: &VmxOn<'_>, kind: InveptKind, pointer: u64) {
    let descriptor = [pointer, 0];
    let failed: u8;
    // SAFETY: in VMX root operation; dropping translations is harmless, and what is not supported fails without effect.
    unsafe {
        asm!("invept {}, [{}]", "setna {}", in(reg) kind as u64, in(reg) &descriptor, out(reg_byte) failed, options(nostack));
    }
    assert!(failed == 0, "INVEPT {kind:?} failed: {:?}", failure(on));
}

/// What INVVPID drops (SDM 3C 29.4.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum InvvpidKind {
    /// One linear address of one guest.
    IndividualAddress = 0,
    /// Everything of one guest.
    SingleContext = 1,
    /// Everything of all guests.
    AllContexts = 2,
}

/// Drops linear and combined translations of guest tag `tag`, which is not 0 (ignored for all); `address` is canonical and
/// counts for the first kind only.
///
/// # Panics
/// If the CPU does not have this kind: the capability is asked for before guest mode is allowed.
pub fn invvpid(on: &VmxOn<'_>, kind: InvvpidKind, tag: u16, address: u64) {
    let descriptor = [u64::from(tag), address];
    let failed: u8;
    // SAFETY: as for INVEPT.
    unsafe {
        asm!("invvpid {}, [{}]", "setna {}", in(reg) kind as u64, in(reg) &descriptor, out(reg_byte) failed, options(nostack));
    }
    assert!(failed == 0, "INVVPID {kind:?} failed: {:?}", failure(on));
}
