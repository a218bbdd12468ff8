//! What the CPU says about a machine check.

use raw_cpuid::CpuId;
use x86_64::registers::model_specific::Msr;

const CAPABILITIES: u32 = 0x179;
const BANKS: u32 = 0x400;
const REGISTERS_A_BANK: u32 = 4;
const STATUS: u32 = 1;
const ADDRESS: u32 = 2;
const VALID: u64 = 1 << 63;
const ADDRESS_VALID: u64 = 1 << 58;

/// Calls `visit` with number, status and address (0 if there is none) of every bank that has an error (SDM 3B 16.3.2).
pub fn for_each_error(mut visit: impl FnMut(u32, u64, u64)) {
    if !CpuId::new().get_feature_info().is_some_and(|info| info.has_mca()) {
        return;
    }
    // SAFETY: the CPU has the machine-check architecture, and the registers exist for every bank it counts; an address
    // register only where the status says so.
    unsafe {
        let banks = (Msr::new(CAPABILITIES).read() & 0xff) as u32;
        for bank in 0..banks {
            let first = BANKS + bank * REGISTERS_A_BANK;
            let status = Msr::new(first + STATUS).read();
            if status & VALID != 0 {
                let has_address = status & ADDRESS_VALID != 0;
                let address = if has_address {
                    Msr::new(first + ADDRESS).read()
                } else {
                    0
                };
                visit(bank, status, address);
            }
        }
    }
}
