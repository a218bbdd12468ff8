//! Checks on VM-execution, VM-exit and VM-entry control fields: SDM 3C 27.2.1.

use super::{Check, rule};
use crate::controls::{ExitControls, Group, PinControls, PrimaryControls, SecondaryControls};
use crate::{Field, ept_pointer};

const EXECUTION: &str = "27.2.1.1";
const EXIT: &str = "27.2.1.2";
const ENTRY: &str = "27.2.1.3";
/// CR3-target values that there are fields for.
const CR3_TARGETS: u64 = 4;

/// Secondary controls that need EPT.
const NEED_EPT: SecondaryControls = SecondaryControls::UNRESTRICTED_GUEST
    .union(SecondaryControls::MODE_BASED_EXECUTE)
    .union(SecondaryControls::PAGE_MODIFICATION_LOGGING)
    .union(SecondaryControls::SUB_PAGE_WRITE)
    .union(SecondaryControls::PT_GUEST_PHYSICAL);

/// Secondary controls that need "use TPR shadow".
const NEED_TPR_SHADOW: SecondaryControls = SecondaryControls::VIRTUALIZE_X2APIC_MODE
    .union(SecondaryControls::APIC_REGISTER_VIRTUALIZATION)
    .union(SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY);

impl Check<'_> {
    pub(super) fn control_fields(&mut self) {
        self.demand_allowed(Group::Pin, EXECUTION);
        self.demand_allowed(Group::Primary, EXECUTION);
        if self.primary(PrimaryControls::SECONDARY_CONTROLS) {
            self.demand_allowed(Group::Secondary, EXECUTION);
        }
        self.execution_fields();
        self.events_and_interrupts();
        self.paging_fields();
        self.demand_allowed(Group::Exit, EXIT);
        self.exit_fields();
        self.demand_allowed(Group::Entry, ENTRY);
        self.msr_list(Field::EntryMsrLoadAddress, Field::EntryMsrLoadCount, ENTRY);
        let smm = self.entry_controls_for_smm();
        self.demand(
            !smm,
            Field::EntryControls,
            rule(ENTRY, "entry to SMM and dual-monitor treatment are for SMM"),
        );
    }

    fn entry_controls_for_smm(&self) -> bool {
        use crate::controls::EntryControls as E;
        self.entry(E::ENTRY_TO_SMM) || self.entry(E::DEACTIVATE_DUAL_MONITOR)
    }

    fn execution_fields(&mut self) {
        let targets = u64::from(self.capabilities.misc().cr3_targets()).min(CR3_TARGETS);
        let count = self.get(Field::Cr3TargetCount);
        self.demand(
            count <= targets,
            Field::Cr3TargetCount,
            rule(EXECUTION, "there are not so many CR3-target values"),
        );
        if self.primary(PrimaryControls::IO_BITMAPS) {
            self.demand_page(Field::IoBitmapA, EXECUTION);
            self.demand_page(Field::IoBitmapB, EXECUTION);
        }
        if self.primary(PrimaryControls::MSR_BITMAPS) {
            self.demand_page(Field::MsrBitmaps, EXECUTION);
        }
        if self.secondary(SecondaryControls::TSC_SCALING) {
            let multiplier = self.get(Field::TscMultiplier);
            self.demand(
                multiplier != 0,
                Field::TscMultiplier,
                rule(EXECUTION, "the multiplier is 0"),
            );
        }
        if self.secondary(SecondaryControls::VMCS_SHADOWING) {
            self.demand_page(Field::VmreadBitmap, EXECUTION);
            self.demand_page(Field::VmwriteBitmap, EXECUTION);
        }
        if self.secondary(SecondaryControls::VM_FUNCTIONS) {
            let functions = self.capabilities.get(crate::Msr::VmFunctions).unwrap_or(0);
            let reserved = self.get(Field::VmFunctionControls) & !functions;
            self.demand(
                reserved == 0,
                Field::VmFunctionControls,
                rule(EXECUTION, "reserved bits are set"),
            );
        }
    }

    fn events_and_interrupts(&mut self) {
        let virtual_nmis = self.pin(PinControls::VIRTUAL_NMIS);
        self.demand(
            !virtual_nmis || self.pin(PinControls::NMI_EXITING),
            Field::PinControls,
            rule(EXECUTION, "virtual NMIs need NMI exiting"),
        );
        self.demand(
            virtual_nmis || !self.primary(PrimaryControls::NMI_WINDOW_EXITING),
            Field::PrimaryControls,
            rule(EXECUTION, "NMI-window exiting needs virtual NMIs"),
        );
        let shadow = self.primary(PrimaryControls::TPR_SHADOW);
        if shadow {
            self.demand_page(Field::VirtualApicAddress, EXECUTION);
            if !self.secondary(SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY) {
                let threshold = self.get(Field::TprThreshold);
                self.demand(
                    threshold < 16,
                    Field::TprThreshold,
                    rule(EXECUTION, "reserved bits are set"),
                );
            }
        }
        let secondary = self.controls.secondary;
        self.demand(
            shadow || !secondary.intersects(NEED_TPR_SHADOW),
            Field::SecondaryControls,
            rule(EXECUTION, "APIC virtualization needs the TPR shadow"),
        );
        if self.secondary(SecondaryControls::VIRTUALIZE_APIC_ACCESSES) {
            self.demand_page(Field::ApicAccessAddress, EXECUTION);
            self.demand(
                !self.secondary(SecondaryControls::VIRTUALIZE_X2APIC_MODE),
                Field::SecondaryControls,
                rule(
                    EXECUTION,
                    "APIC accesses and x2APIC mode cannot both be virtualized",
                ),
            );
        }
        self.demand(
            !self.secondary(SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY)
                || self.pin(PinControls::EXTERNAL_INTERRUPT_EXITING),
            Field::PinControls,
            rule(
                EXECUTION,
                "virtual-interrupt delivery needs external-interrupt exiting",
            ),
        );
    }

    fn paging_fields(&mut self) {
        let ept = self.secondary(SecondaryControls::EPT);
        if ept {
            let pointer = self.get(Field::EptPointer);
            let fault = ept_pointer::fault(pointer, self.capabilities.ept_vpid(), self.cpu());
            self.demand(
                fault.is_none(),
                Field::EptPointer,
                rule(EXECUTION, fault.unwrap_or_default()),
            );
        }
        let secondary = self.controls.secondary;
        self.demand(
            ept || !secondary.intersects(NEED_EPT),
            Field::SecondaryControls,
            rule(EXECUTION, "a control is 1 that needs EPT"),
        );
        if self.secondary(SecondaryControls::VPID) {
            let tag = self.get(Field::Vpid);
            self.demand(tag != 0, Field::Vpid, rule(EXECUTION, "VPID 0 is the host's own"));
        }
        if self.secondary(SecondaryControls::PAGE_MODIFICATION_LOGGING) {
            self.demand_page(Field::PmlAddress, EXECUTION);
        }
        if self.secondary(SecondaryControls::EPT_VIOLATION_EXCEPTION) {
            self.demand_page(Field::VirtualizationExceptionAddress, EXECUTION);
        }
        if self.secondary(SecondaryControls::SUB_PAGE_WRITE) {
            self.demand_page(Field::SubPagePermissionTable, EXECUTION);
        }
    }

    fn exit_fields(&mut self) {
        self.demand(
            self.pin(PinControls::PREEMPTION_TIMER) || !self.exit(ExitControls::SAVE_PREEMPTION_TIMER),
            Field::ExitControls,
            rule(EXIT, "the timer's value is saved, and the timer is not active"),
        );
        self.msr_list(Field::ExitMsrStoreAddress, Field::ExitMsrStoreCount, EXIT);
        self.msr_list(Field::ExitMsrLoadAddress, Field::ExitMsrLoadCount, EXIT);
    }

    /// The area of an MSR list, of which each entry takes 16 bytes.
    fn msr_list(&mut self, address: Field, count: Field, section: &'static str) {
        let (start, entries) = (self.get(address), self.get(count));
        if entries == 0 {
            return;
        }
        self.demand_structure(address, 0xf, section);
        let bits = self.capabilities.basic().address_bits(self.cpu());
        let last = start.checked_add(entries * 16 - 1);
        if self.cpu().is_physical(start) {
            self.demand(
                last.is_some_and(|last| bits >= 64 || last >> bits == 0),
                count,
                rule(section, "the list ends beyond the physical-address width"),
            );
        }
    }
}
