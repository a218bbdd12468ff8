//! Checks on the guest's non-register state: SDM 3C 27.3.1.5.

use super::guest_registers::{RFLAGS_IF, RFLAGS_TF};
use super::{Check, rule};
use crate::Field;
use crate::controls::{PinControls, SecondaryControls};
use crate::exit::{Event, EventKind};

const SECTION: &str = "27.3.1.5";

const ACTIVE: u64 = 0;
const HALTED: u64 = 1;
const SHUTDOWN: u64 = 2;
const WAIT_FOR_SIPI: u64 = 3;

const BLOCKED_BY_STI: u64 = 1 << 0;
const BLOCKED_BY_MOV_SS: u64 = 1 << 1;
const BLOCKED_BY_SMI: u64 = 1 << 2;
const BLOCKED_BY_NMI: u64 = 1 << 3;
const INTERRUPTIBILITY_RESERVED: u64 = !0x1f;

const PENDING_SINGLE_STEP: u64 = 1 << 14;
const PENDING_ENABLED: u64 = 1 << 12;
const PENDING_RTM: u64 = 1 << 16;
/// Bits 3:0 are breakpoints.
const PENDING_RESERVED: u64 = !(0xf | PENDING_ENABLED | PENDING_SINGLE_STEP | PENDING_RTM);
const DEBUGCTL_BTF: u64 = 1 << 1;

const NO_LINK: u64 = u64::MAX;

impl Check<'_> {
    pub(super) fn guest_state(&mut self) {
        self.activity();
        self.interruptibility();
        self.pending_debug();
        self.link_pointer();
    }

    fn activity(&mut self) {
        let field = Field::GuestActivity;
        let state = self.get(field);
        let supported = self.capabilities.misc().supports_activity(state);
        self.demand(
            supported,
            field,
            rule(SECTION, "the CPU has no such activity state"),
        );
        self.demand(
            state != HALTED || self.guest_privilege() == 0,
            field,
            rule(SECTION, "only CPL 0 halts"),
        );
        let blocked = self.get(Field::GuestInterruptibility) & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS) != 0;
        self.demand(
            state == ACTIVE || !blocked,
            field,
            rule(
                SECTION,
                "interrupts are blocked by STI or MOV SS in a state that is not active",
            ),
        );
        if let Some(event) = self.injected_event() {
            self.demand(
                delivers(state, event),
                field,
                rule(SECTION, "the event cannot be delivered in this activity state"),
            );
        }
    }

    fn interruptibility(&mut self) {
        let field = Field::GuestInterruptibility;
        let state = self.get(field);
        let (sti, mov_ss) = (state & BLOCKED_BY_STI != 0, state & BLOCKED_BY_MOV_SS != 0);
        self.demand(
            state & INTERRUPTIBILITY_RESERVED == 0,
            field,
            rule(SECTION, "reserved bits are set"),
        );
        self.demand(
            !(sti && mov_ss),
            field,
            rule(SECTION, "interrupts are blocked by STI and by MOV SS"),
        );
        self.demand(
            !sti || self.get(Field::GuestRflags) & RFLAGS_IF != 0,
            field,
            rule(SECTION, "interrupts are blocked by STI, and IF is 0"),
        );
        self.demand(
            state & BLOCKED_BY_SMI == 0,
            field,
            rule(SECTION, "SMIs are blocked outside of SMM"),
        );
        match self.injected_event().map(|event| event.kind) {
            Some(EventKind::ExternalInterrupt) => self.demand(
                !sti && !mov_ss,
                field,
                rule(SECTION, "interrupts are blocked, and one is injected"),
            ),
            Some(EventKind::Nmi) => {
                self.demand(
                    !sti && !mov_ss,
                    field,
                    rule(SECTION, "events are blocked, and an NMI is injected"),
                );
                self.demand(
                    !self.pin(PinControls::VIRTUAL_NMIS) || state & BLOCKED_BY_NMI == 0,
                    field,
                    rule(SECTION, "virtual NMIs are blocked, and one is injected"),
                );
            }
            _ => (),
        }
    }

    fn pending_debug(&mut self) {
        let field = Field::GuestPendingDebug;
        let pending = self.get(field);
        self.demand(
            pending & PENDING_RESERVED == 0,
            field,
            rule(SECTION, "reserved bits are set"),
        );
        self.demand(
            pending & PENDING_RTM == 0 || pending & (PENDING_ENABLED | 0xf) == PENDING_ENABLED,
            field,
            rule(
                SECTION,
                "RTM without \"enabled breakpoint\", or with a breakpoint",
            ),
        );
        let blocked = self.get(Field::GuestInterruptibility) & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS) != 0;
        if blocked || self.get(Field::GuestActivity) == HALTED {
            let steps = self.get(Field::GuestRflags) & RFLAGS_TF != 0
                && self.get(Field::GuestDebugctl) & DEBUGCTL_BTF == 0;
            self.demand(
                (pending & PENDING_SINGLE_STEP != 0) == steps,
                field,
                rule(SECTION, "BS is not what TF and BTF say while events are blocked"),
            );
        }
    }

    /// Only shadowing and SMM monitors have a use for a link; what it must point to cannot be told from here.
    fn link_pointer(&mut self) {
        let link = self.get(Field::VmcsLinkPointer);
        self.demand(
            link == NO_LINK
                || self.secondary(SecondaryControls::VMCS_SHADOWING)
                    && link & 0xfff == 0
                    && self.cpu().is_physical(link),
            Field::VmcsLinkPointer,
            rule(
                SECTION,
                "it is not FFFFFFFF_FFFFFFFFH, and there is nothing to link",
            ),
        );
    }
}

/// Whether an event can be delivered in an activity state.
fn delivers(state: u64, event: Event) -> bool {
    const DEBUG: u8 = 1;
    const MACHINE_CHECK: u8 = 18;
    let exception = event.kind == EventKind::HardwareException;
    match state {
        HALTED => match event.kind {
            EventKind::ExternalInterrupt | EventKind::Nmi => true,
            EventKind::HardwareException => event.vector == DEBUG || event.vector == MACHINE_CHECK,
            EventKind::Other => event.vector == 0,
            _ => false,
        },
        SHUTDOWN => event.kind == EventKind::Nmi || exception && event.vector == MACHINE_CHECK,
        WAIT_FOR_SIPI => false,
        _ => true,
    }
}
