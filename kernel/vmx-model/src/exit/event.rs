//! Events: the exception or interrupt of an exit, the event whose delivery it interrupted, and the event that an entry delivers.
//! The three fields have one format (SDM 3C 25.9.2, 25.9.3, 25.8.3).

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// An interrupt from outside.
    ExternalInterrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// An exception that the CPU found.
    HardwareException = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3, INTO.
    SoftwareException = 6,
    /// For entries only: a monitor-trap-flag exit.
    Other = 7,
}

const VALID: u32 = 1 << 31;
const HAS_ERROR_CODE: u32 = 1 << 11;
const NMI_UNBLOCKING: u32 = 1 << 12;

/// An event, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its vector.
    pub vector: u8,
    /// Its kind.
    pub kind: EventKind,
    /// There is an error code, in the field beside this one.
    pub has_error_code: bool,
    /// The event was met by an IRET that had just unblocked NMIs: they must be blocked again before the guest runs on
    /// (SDM 3C 28.2.3). Of meaning for exit interruption information only.
    pub nmi_unblocking: bool,
}

impl Event {
    /// Decodes exit interruption information or IDT-vectoring information. `None`: there is no event.
    #[must_use]
    pub const fn from_field(value: u32) -> Option<Event> {
        if value & VALID == 0 {
            return None;
        }
        let kind = match value >> 8 & 7 {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::HardwareException,
            4 => EventKind::SoftwareInterrupt,
            5 => EventKind::PrivilegedSoftwareException,
            6 => EventKind::SoftwareException,
            7 => EventKind::Other,
            // Reserved; no CPU reports it.
            _ => return None,
        };
        Some(Event {
            vector: value as u8,
            kind,
            has_error_code: value & HAS_ERROR_CODE != 0,
            nmi_unblocking: value & NMI_UNBLOCKING != 0,
        })
    }

    /// Whether delivering the event moves RIP past the instruction that raised it.
    const fn has_length(self) -> bool {
        matches!(
            self.kind,
            EventKind::SoftwareInterrupt
                | EventKind::PrivilegedSoftwareException
                | EventKind::SoftwareException
        )
    }

    /// The value for [`crate::Field::EntryInterruptionInfo`] that delivers this event.
    #[must_use]
    pub const fn for_entry(self) -> u32 {
        let error = if self.has_error_code { HAS_ERROR_CODE } else { 0 };
        VALID | error | (self.kind as u32) << 8 | self.vector as u32
    }
}

/// What the three fields for event injection get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// For [`crate::Field::EntryInterruptionInfo`].
    pub information: u32,
    /// For [`crate::Field::EntryExceptionErrorCode`], if there is an error code.
    pub error_code: Option<u32>,
    /// For [`crate::Field::EntryInstructionLength`], if the event came from an instruction.
    pub instruction_length: Option<u32>,
}

impl Injection {
    /// What makes the next entry deliver again what an exit interrupted: from the IDT-vectoring fields and the exit's instruction
    /// length. `None` if the exit interrupted no delivery.
    ///
    /// Guest threads have an empty IDT and every exception exits, so the only delivery that can be interrupted is that of INT n: it ends in a
    /// general-protection fault, which is an exception exit. That exit must not deliver again; any other must.
    #[must_use]
    pub const fn of_interrupted(
        vectoring: u32,
        error_code: u32,
        instruction_length: u32,
    ) -> Option<Injection> {
        let Some(event) = Event::from_field(vectoring) else {
            return None;
        };
        Some(Injection {
            information: event.for_entry(),
            error_code: if event.has_error_code {
                Some(error_code)
            } else {
                None
            },
            instruction_length: if event.has_length() {
                Some(instruction_length)
            } else {
                None
            },
        })
    }
}
