//! Checks on the host-state area: SDM 3C 27.2.2 to 27.2.4.

use super::{Check, rule};
use crate::Field;
use crate::capability::{CR0_WP, CR4_CET, CR4_PAE};
use crate::controls::ExitControls;

const REGISTERS: &str = "27.2.2";
const SEGMENTS: &str = "27.2.3";
const SIZE: &str = "27.2.4";

/// EFER.LME and EFER.LMA.
pub(super) const LONG_MODE: u64 = 1 << 8 | 1 << 10;

impl Check<'_> {
    pub(super) fn host_state(&mut self) {
        self.host_registers();
        self.host_segments();
        self.host_size();
    }

    fn host_registers(&mut self) {
        self.demand_fixed_bits(Field::HostCr0, self.capabilities.cr0(), REGISTERS);
        self.demand_fixed_bits(Field::HostCr4, self.capabilities.cr4(), REGISTERS);
        self.demand_cr3(Field::HostCr3, REGISTERS);
        self.demand_canonical(Field::HostSysenterEsp, REGISTERS);
        self.demand_canonical(Field::HostSysenterEip, REGISTERS);
        let protected = self.get(Field::HostCr0) & CR0_WP != 0;
        self.demand(
            protected || self.get(Field::HostCr4) & CR4_CET == 0,
            Field::HostCr4,
            rule(REGISTERS, "CET needs CR0.WP"),
        );
        if self.exit(ExitControls::LOAD_PAT) {
            self.demand_pat(Field::HostPat, REGISTERS);
        }
        if self.exit(ExitControls::LOAD_EFER) {
            let efer = self.get(Field::HostEfer);
            self.demand(
                efer & !self.capabilities.efer_bits() == 0,
                Field::HostEfer,
                rule(REGISTERS, "reserved bits are set"),
            );
            self.demand(
                !self.exit(ExitControls::HOST_64_BIT) || efer & LONG_MODE == LONG_MODE,
                Field::HostEfer,
                rule(REGISTERS, "LME and LMA are not as \"host address-space size\""),
            );
        }
    }

    fn host_segments(&mut self) {
        for field in [
            Field::HostEsSelector,
            Field::HostCsSelector,
            Field::HostSsSelector,
            Field::HostDsSelector,
            Field::HostFsSelector,
            Field::HostGsSelector,
            Field::HostTrSelector,
        ] {
            let selector = self.get(field);
            self.demand(
                selector & 7 == 0,
                field,
                rule(SEGMENTS, "RPL or the table indicator is not 0"),
            );
        }
        for field in [Field::HostCsSelector, Field::HostTrSelector] {
            let selector = self.get(field);
            self.demand(selector != 0, field, rule(SEGMENTS, "the selector is null"));
        }
        for field in [
            Field::HostFsBase,
            Field::HostGsBase,
            Field::HostGdtrBase,
            Field::HostIdtrBase,
            Field::HostTrBase,
        ] {
            self.demand_canonical(field, SEGMENTS);
        }
    }

    /// The CPU is in IA-32e mode, which this kernel never leaves, so the rules for a 32-bit host do not matter.
    fn host_size(&mut self) {
        let host_64_bit = self.exit(ExitControls::HOST_64_BIT);
        self.demand(
            host_64_bit,
            Field::ExitControls,
            rule(SIZE, "\"host address-space size\" must be 1 in 64-bit mode"),
        );
        if host_64_bit {
            let cr4 = self.get(Field::HostCr4);
            self.demand(
                cr4 & CR4_PAE != 0,
                Field::HostCr4,
                rule(SIZE, "a 64-bit host needs PAE"),
            );
            self.demand_canonical(Field::HostRip, SIZE);
        }
    }
}
