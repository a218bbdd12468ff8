//! Decoding of exits, and the table.

use super::recorded;
use crate::controls::{Group, PinControls, PrimaryControls, SecondaryControls};
use crate::exit::table::{Action, ExitKind, of_event, of_reason, write_markdown};
use crate::exit::{
    ControlRegisterAccess, CrAccess, DebugException, EptViolation, Event, EventKind, ExitReason, Injection,
    IoAccess, Reason,
};

#[test]
fn reasons_are_found_by_number() {
    for &reason in Reason::ALL {
        assert_eq!(Reason::from_number(reason as u16), Some(reason));
    }
    assert_eq!(Reason::ALL.len(), 80);
    for unused in [35, 38, 42, 71, 82, 83, 86, 0xffff] {
        assert_eq!(Reason::from_number(unused), None);
    }
    assert_eq!(Reason::EptViolation as u16, 48);
    assert_eq!(Reason::Vmcall as u16, 18);
}

#[test]
fn the_reason_field_is_decoded() {
    let failure = ExitReason(0x8000_0021);
    assert!(failure.is_entry_failure() && !failure.is_from_root());
    assert_eq!(failure.reason(), Some(Reason::InvalidGuestState));
    assert_eq!(failure.to_string(), "VM-entry failure due to invalid guest state");
    assert_eq!(ExitReason(10).to_string(), "CPUID");
    assert_eq!(
        ExitReason(0x8000_0030).to_string(),
        "EPT violation (VM-entry failure)"
    );
    assert_eq!(ExitReason(0x23).to_string(), "unknown exit reason 35");
    let flags = ExitReason(0x3c00_0001);
    assert!(
        flags.is_from_root() && flags.has_pending_trap() && flags.is_from_enclave() && flags.has_bus_lock()
    );
    assert_eq!(flags.reason(), Some(Reason::ExternalInterrupt));
}

#[test]
fn events_are_decoded_and_injected_again() {
    assert_eq!(Event::from_field(0x0000_0b0e), None);
    let fault = Event::from_field(0x8000_0b0e).expect("it is valid");
    assert_eq!(
        (fault.vector, fault.kind, fault.has_error_code),
        (14, EventKind::HardwareException, true)
    );
    let unblocking = Event::from_field(0x8000_1b0e).expect("it is valid");
    assert!(unblocking.nmi_unblocking && !fault.nmi_unblocking);
    // Bit 12 is not for entries.
    assert_eq!(unblocking.for_entry(), 0x8000_0b0e);
    assert_eq!(Event::from_field(0x8000_0100), None, "kind 1 is reserved");

    let again = Injection::of_interrupted(0x8000_0480, 7, 2).expect("it is valid");
    assert_eq!(again.information, 0x8000_0480);
    assert_eq!((again.error_code, again.instruction_length), (None, Some(2)));
    let again = Injection::of_interrupted(0x8000_0b0e, 7, 2).expect("it is valid");
    assert_eq!((again.error_code, again.instruction_length), (Some(7), None));
    assert_eq!(Injection::of_interrupted(0x0480, 0, 2), None);
}

#[test]
fn an_undefined_opcode_has_no_length_and_a_breakpoint_has() {
    let event = |field| Event::from_field(field);
    let (undefined, breakpoint, icebp) = (event(0x8000_0306), event(0x8000_0603), event(0x8000_0501));
    assert!(!Reason::ExceptionOrNmi.has_instruction_length(undefined));
    assert!(Reason::ExceptionOrNmi.has_instruction_length(breakpoint));
    assert!(Reason::ExceptionOrNmi.has_instruction_length(icebp));
    assert!(!Reason::ExceptionOrNmi.has_instruction_length(None));
    assert!(Reason::Cpuid.has_instruction_length(None) && Reason::Vmcall.has_instruction_length(None));
    for without in [
        Reason::ExternalInterrupt,
        Reason::EptViolation,
        Reason::TripleFault,
        Reason::InvalidGuestState,
    ] {
        assert!(!without.has_instruction_length(None));
    }
}

#[test]
fn an_ept_violation_is_decoded() {
    let store = EptViolation(0x18a);
    assert!(store.is_write() && !store.is_read() && !store.is_fetch());
    assert!(
        store.was_readable() && !store.was_writable() && !store.was_executable() && !store.was_not_present()
    );
    assert!(store.has_linear_address() && !store.is_walk());
    let walk = EptViolation(0x83);
    assert!(walk.is_walk() && walk.was_not_present() && walk.is_read() && walk.is_write());
    assert!(
        !EptViolation(0x001).is_walk(),
        "without a linear address bit 8 means nothing"
    );
    assert!(EptViolation(0x1004).is_fetch() && EptViolation(0x1004).nmi_unblocking());
    assert!(EptViolation(0x28).was_executable());
}

#[test]
fn debug_exceptions_add_to_dr6() {
    let step = DebugException(0x4000);
    assert!(step.is_single_step() && step.breakpoints() == 0);
    assert_eq!(step.merged_into(0), 0xffff_4ff0);
    // What stood there before stays, but for the breakpoints.
    assert_eq!(step.merged_into(0xffff_2ff3), 0xffff_6ff0);
    let breakpoint = DebugException(0x2);
    assert_eq!(breakpoint.breakpoints(), 2);
    assert_eq!(breakpoint.merged_into(0xffff_0ff1), 0xffff_0ff2);
    assert!(DebugException(0x2000).is_register_access());
    assert_eq!(DebugException(0x1_4000).merged_into(0xffff_0ff0), 0xfffe_4ff0);
}

#[test]
fn accesses_to_control_registers_and_ports_are_decoded() {
    let load = ControlRegisterAccess(0x0203);
    assert_eq!(
        (load.register(), load.access(), load.operand()),
        (3, CrAccess::To, 2)
    );
    assert_eq!(ControlRegisterAccess(0xf18).access(), CrAccess::From);
    assert_eq!(ControlRegisterAccess(0x20).access(), CrAccess::Clts);
    let lmsw = ControlRegisterAccess(0x1234_0030);
    assert_eq!((lmsw.access(), lmsw.lmsw_source()), (CrAccess::Lmsw, 0x1234));
    let out = IoAccess(0x03f8_0040);
    assert_eq!(
        (out.size(), out.is_input(), out.is_string(), out.port()),
        (1, false, false, 0x3f8)
    );
    let ins = IoAccess(0xcfc_001b);
    assert_eq!(
        (ins.size(), ins.is_input(), ins.is_string(), ins.port()),
        (4, true, true, 0xcfc)
    );
}

#[test]
fn no_exit_of_a_guest_at_cpl_3_is_the_end_of_it_without_cause() {
    for kind in Reason::ALL.iter().map(|&reason| ExitKind::of(reason)) {
        let ends = kind.action == Action::EndProcess;
        assert!(!(kind.possible && ends), "{}", kind.reason.name());
    }
}

#[test]
fn exceptions_go_to_the_vkernel_but_for_nmis_and_machine_checks() {
    for vector in 0..32 {
        let event = Event::from_field(0x8000_0300 | vector).expect("it is valid");
        let expected = if vector == 18 {
            Action::Host
        } else {
            Action::Exception
        };
        assert_eq!(of_event(event), expected, "vector {vector}");
    }
    let of = |field| of_event(Event::from_field(field).expect("it is valid"));
    assert_eq!(of(0x8000_0202), Action::Host);
    assert_eq!(of(0x8000_0603), Action::Exception);
    assert_eq!(of(0x8000_0501), Action::Exception);
    assert_eq!(
        of(0x8000_0020),
        Action::EndProcess,
        "an interrupt is no exception"
    );
}

#[test]
fn instructions_of_vmx_are_undefined_for_guests_and_unknown_exits_end_them() {
    for number in (19..=27).chain([50, 53]) {
        assert_eq!(
            of_reason(Reason::from_number(number)),
            Action::UndefinedOpcode,
            "exit {number}"
        );
        assert!(ExitKind::of(Reason::from_number(number).expect("it exists")).possible);
    }
    assert_eq!(of_reason(Some(Reason::Vmcall)), Action::HostCall);
    assert_eq!(of_reason(Some(Reason::Cpuid)), Action::Cpuid);
    assert_eq!(of_reason(Some(Reason::EptViolation)), Action::AddressSpaceFault);
    assert_eq!(of_reason(Some(Reason::ExternalInterrupt)), Action::Host);
    assert_eq!(of_reason(None), Action::EndProcess);
}

/// Seen in Bochs 2.7 with the reference VMCS and one instruction at CPL 3: these exit, the others are exceptions or run.
#[test]
fn exits_that_were_seen_at_cpl_3_are_possible() {
    let seen = [
        10, 18, 20, 24, 26, 23, 25, 19, 21, 22, 27, 50, 53, 29, 55, 46, 47, 48, 0, 1,
    ];
    for number in seen {
        assert!(
            ExitKind::of(Reason::from_number(number).expect("it exists")).possible,
            "exit {number}"
        );
    }
    for action in
        [Reason::MovDr, Reason::Xsetbv, Reason::GdtrIdtrAccess].map(|reason| of_reason(Some(reason)))
    {
        assert_eq!(action, Action::GeneralProtection);
    }
}

#[test]
fn the_table_says_off_only_of_controls_that_are_off() {
    let exits = [
        (
            Reason::InterruptWindow,
            Group::Primary,
            PrimaryControls::INTERRUPT_WINDOW_EXITING.bits(),
        ),
        (
            Reason::NmiWindow,
            Group::Primary,
            PrimaryControls::NMI_WINDOW_EXITING.bits(),
        ),
        (
            Reason::MonitorTrapFlag,
            Group::Primary,
            PrimaryControls::MONITOR_TRAP_FLAG.bits(),
        ),
        (
            Reason::Rdtsc,
            Group::Primary,
            PrimaryControls::RDTSC_EXITING.bits(),
        ),
        (
            Reason::Pause,
            Group::Primary,
            PrimaryControls::PAUSE_EXITING.bits(),
        ),
        (
            Reason::PreemptionTimer,
            Group::Pin,
            PinControls::PREEMPTION_TIMER.bits(),
        ),
        (
            Reason::Rdrand,
            Group::Secondary,
            SecondaryControls::RDRAND_EXITING.bits(),
        ),
        (
            Reason::Rdseed,
            Group::Secondary,
            SecondaryControls::RDSEED_EXITING.bits(),
        ),
        (
            Reason::PageModificationLogFull,
            Group::Secondary,
            SecondaryControls::PAGE_MODIFICATION_LOGGING.bits(),
        ),
        (
            Reason::Vmfunc,
            Group::Secondary,
            SecondaryControls::VM_FUNCTIONS.bits(),
        ),
        (
            Reason::Umwait,
            Group::Secondary,
            SecondaryControls::USER_WAIT_AND_PAUSE.bits(),
        ),
        (
            Reason::ApicAccess,
            Group::Secondary,
            SecondaryControls::VIRTUALIZE_APIC_ACCESSES.bits(),
        ),
    ];
    for record in recorded::usable() {
        let controls = record.capabilities().support().expect("it is supported").controls;
        for (reason, group, bit) in exits {
            assert!(!ExitKind::of(reason).possible, "{}", reason.name());
            assert_eq!(
                controls.bits(group) & bit,
                0,
                "{}: {}",
                record.model,
                reason.name()
            );
        }
    }
}

#[test]
fn the_book_s_table_has_a_row_for_every_exit() {
    let mut text = String::new();
    write_markdown(&mut text).expect("strings take everything");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2 + Reason::ALL.len());
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with('|') && line.matches('|').count() == 5),
        "{text}"
    );
    assert!(text.contains("| 18 | VMCALL | yes: the instruction, whatever runs | host call;"));
    assert!(text.contains("| 12 | HLT | no: "));
}
