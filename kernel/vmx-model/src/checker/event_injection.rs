//! Checks on the fields for event injection: SDM 3C 27.2.1.3. What they demand of the guest's state is in `guest_state`.

use super::{Check, rule};
use crate::Field;
use crate::controls::{Group, PrimaryControls};
use crate::exit::{Event, EventKind};

const SECTION: &str = "27.2.1.3";
const VALID: u64 = 1 << 31;
const RESERVED: u64 = 0x7fff_f000;
/// The longest instruction.
const LENGTH_LIMIT: u64 = 15;

/// Exceptions that have an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC.
const WITH_ERROR_CODE: u32 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17;
/// #CP has one too, on CPUs with control-flow enforcement.
const CONTROL_PROTECTION: u8 = 21;

impl Check<'_> {
    /// The event that the entry delivers, if its field makes sense.
    pub(super) fn injected_event(&self) -> Option<Event> {
        Event::from_field(self.get(Field::EntryInterruptionInfo) as u32)
    }

    pub(super) fn event_injection(&mut self) {
        let field = Field::EntryInterruptionInfo;
        let information = self.get(field);
        if information & VALID == 0 {
            return;
        }
        self.demand(
            information & RESERVED == 0,
            field,
            rule(SECTION, "reserved bits are set"),
        );
        let Some(event) = self.injected_event() else {
            self.demand(false, field, rule(SECTION, "the event's kind is reserved"));
            return;
        };
        let (vector_fits, kind_exists) = match event.kind {
            EventKind::Nmi => (event.vector == 2, true),
            EventKind::HardwareException => (event.vector <= 31, true),
            EventKind::Other => (
                event.vector == 0,
                self.capabilities.allowed(Group::Primary).may & PrimaryControls::MONITOR_TRAP_FLAG.bits()
                    != 0,
            ),
            _ => (true, true),
        };
        self.demand(
            kind_exists,
            field,
            rule(SECTION, "the CPU has no monitor trap flag"),
        );
        self.demand(
            vector_fits,
            field,
            rule(SECTION, "the vector is not one of the event's kind"),
        );
        if vector_fits {
            self.error_code(event);
        }
        self.instruction_length(event);
    }

    fn error_code(&mut self, event: Event) {
        let hardware = event.kind == EventKind::HardwareException;
        let expected = hardware && WITH_ERROR_CODE >> (event.vector & 31) & 1 != 0;
        let free = hardware
            && (self.capabilities.basic().allows_any_error_code()
                || event.vector == CONTROL_PROTECTION && self.has_control_flow_enforcement());
        self.demand(
            free || event.has_error_code == expected,
            Field::EntryInterruptionInfo,
            rule(SECTION, "the vector and \"deliver error code\" do not fit"),
        );
        if event.has_error_code {
            let code = self.get(Field::EntryExceptionErrorCode);
            self.demand(
                code >> 16 == 0,
                Field::EntryExceptionErrorCode,
                rule(SECTION, "bits 31:16 are set"),
            );
        }
    }

    /// Only such CPUs let CR4.CET be 1.
    fn has_control_flow_enforcement(&self) -> bool {
        self.capabilities.cr4().may & crate::capability::CR4_CET != 0
    }

    fn instruction_length(&mut self, event: Event) {
        if !matches!(
            event.kind,
            EventKind::SoftwareInterrupt
                | EventKind::PrivilegedSoftwareException
                | EventKind::SoftwareException
        ) {
            return;
        }
        let length = self.get(Field::EntryInstructionLength);
        let least = u64::from(!self.capabilities.misc().injects_length_zero());
        self.demand(
            (least..=LENGTH_LIMIT).contains(&length),
            Field::EntryInstructionLength,
            rule(SECTION, "no instruction has that length"),
        );
    }
}
