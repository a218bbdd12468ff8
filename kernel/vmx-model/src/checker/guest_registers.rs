//! Checks on the guest's control registers, debug registers, MSRs, RIP, RFLAGS, GDTR and IDTR: SDM 3C 27.3.1.1, 27.3.1.3, 27.3.1.4.

use super::host_state::LONG_MODE;
use super::{Check, rule};
use crate::Field;
use crate::capability::{CR0_PE, CR0_PG, CR0_WP, CR4_CET, CR4_PAE};
use crate::controls::EntryControls;
use crate::exit::EventKind;

const REGISTERS: &str = "27.3.1.1";
const TABLES: &str = "27.3.1.3";
const EXECUTION: &str = "27.3.1.4";

/// Bits of IA32_DEBUGCTL that no CPU has (SDM 4, table 2-2).
const DEBUGCTL_RESERVED: u64 = !0xffff | 7 << 3;
const EFER_LMA: u64 = 1 << 10;
/// Bits 63:22, 15, 5 and 3 are 0.
const RFLAGS_RESERVED: u64 = !0x3f_ffff | 1 << 15 | 1 << 5 | 1 << 3;
const RFLAGS_ONE: u64 = 1 << 1;
pub(super) const RFLAGS_TF: u64 = 1 << 8;
pub(super) const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_VM: u64 = 1 << 17;

impl Check<'_> {
    pub(super) fn guest_registers(&mut self) {
        self.guest_control_registers();
        self.guest_debug_registers();
        self.guest_msrs();
        self.guest_tables();
        self.guest_rip_and_rflags();
    }

    pub(super) fn is_64_bit_guest(&self) -> bool {
        self.entry(EntryControls::GUEST_64_BIT)
    }

    fn guest_control_registers(&mut self) {
        self.demand_fixed_bits(Field::GuestCr0, self.capabilities.cr0(), REGISTERS);
        self.demand_fixed_bits(Field::GuestCr4, self.capabilities.cr4(), REGISTERS);
        self.demand_cr3(Field::GuestCr3, REGISTERS);
        let (cr0, cr4) = (self.get(Field::GuestCr0), self.get(Field::GuestCr4));
        let paging = cr0 & CR0_PG != 0;
        self.demand(
            !paging || cr0 & CR0_PE != 0,
            Field::GuestCr0,
            rule(REGISTERS, "paging needs protected mode"),
        );
        self.demand(
            cr0 & CR0_WP != 0 || cr4 & CR4_CET == 0,
            Field::GuestCr4,
            rule(REGISTERS, "CET needs CR0.WP"),
        );
        if self.is_64_bit_guest() {
            self.demand(
                paging,
                Field::GuestCr0,
                rule(REGISTERS, "a 64-bit guest needs paging"),
            );
            self.demand(
                cr4 & CR4_PAE != 0,
                Field::GuestCr4,
                rule(REGISTERS, "a 64-bit guest needs PAE"),
            );
        }
    }

    fn guest_debug_registers(&mut self) {
        if !self.entry(EntryControls::LOAD_DEBUG_CONTROLS) {
            return;
        }
        let debugctl = self.get(Field::GuestDebugctl);
        self.demand(
            debugctl & DEBUGCTL_RESERVED == 0,
            Field::GuestDebugctl,
            rule(REGISTERS, "reserved bits are set"),
        );
        let dr7 = self.get(Field::GuestDr7);
        self.demand(
            dr7 >> 32 == 0,
            Field::GuestDr7,
            rule(REGISTERS, "bits 63:32 are set"),
        );
    }

    fn guest_msrs(&mut self) {
        self.demand_canonical(Field::GuestSysenterEsp, REGISTERS);
        self.demand_canonical(Field::GuestSysenterEip, REGISTERS);
        if self.entry(EntryControls::LOAD_PAT) {
            self.demand_pat(Field::GuestPat, REGISTERS);
        }
        if self.entry(EntryControls::LOAD_EFER) {
            let efer = self.get(Field::GuestEfer);
            self.demand(
                efer & !self.capabilities.efer_bits() == 0,
                Field::GuestEfer,
                rule(REGISTERS, "reserved bits are set"),
            );
            self.demand(
                (efer & EFER_LMA != 0) == self.is_64_bit_guest(),
                Field::GuestEfer,
                rule(REGISTERS, "LMA is not as \"IA-32e mode guest\""),
            );
            let paging = self.get(Field::GuestCr0) & CR0_PG != 0;
            self.demand(
                !paging || matches!(efer & LONG_MODE, 0 | LONG_MODE),
                Field::GuestEfer,
                rule(REGISTERS, "LMA and LME differ, and paging is on"),
            );
        }
    }

    fn guest_tables(&mut self) {
        for (base, limit) in [
            (Field::GuestGdtrBase, Field::GuestGdtrLimit),
            (Field::GuestIdtrBase, Field::GuestIdtrLimit),
        ] {
            self.demand_canonical(base, TABLES);
            let value = self.get(limit);
            self.demand(value >> 16 == 0, limit, rule(TABLES, "bits 31:16 are set"));
        }
    }

    fn guest_rip_and_rflags(&mut self) {
        let rip = self.get(Field::GuestRip);
        let beyond = u32::from(self.cpu().linear_bits.min(63));
        // Bits 63:N must be equal for N linear-address bits, bit N-1 may differ: the guest then faults by itself.
        let (in_64_bit_mode, all) = (self.is_in_64_bit_mode(), u64::MAX >> beyond);
        let fits = match in_64_bit_mode {
            true => rip >> beyond == 0 || rip >> beyond == all,
            false => rip >> 32 == 0,
        };
        self.demand(
            fits,
            Field::GuestRip,
            rule(EXECUTION, "bits beyond the linear-address width differ"),
        );
        let rflags = self.get(Field::GuestRflags);
        self.demand(
            rflags & RFLAGS_RESERVED == 0,
            Field::GuestRflags,
            rule(EXECUTION, "reserved bits are set"),
        );
        self.demand(
            rflags & RFLAGS_ONE != 0,
            Field::GuestRflags,
            rule(EXECUTION, "bit 1 is 0"),
        );
        let protected = self.get(Field::GuestCr0) & CR0_PE != 0;
        self.demand(
            rflags & RFLAGS_VM == 0 || protected && !self.is_64_bit_guest(),
            Field::GuestRflags,
            rule(EXECUTION, "no virtual-8086 mode in this mode"),
        );
        let interrupt = self
            .injected_event()
            .is_some_and(|event| event.kind == EventKind::ExternalInterrupt);
        self.demand(
            !interrupt || rflags & RFLAGS_IF != 0,
            Field::GuestRflags,
            rule(EXECUTION, "IF is 0, and an external interrupt is injected"),
        );
    }
}
