//! Devices in user space: interrupt lines, port ranges and device memory are handles made from the system object.

/// Kinds of `device_open(system, kind, base, length)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceKind {
    /// `base` = legacy ISA interrupt number 0..=15 (source overrides are applied); `length` = 1.
    IsaInterrupt = 1,
    /// `base` = first port, `length` = count; ranges that the kernel itself owns are refused with `EBUSY`.
    Ports = 2,
    /// `base` = physical address, `length` = bytes, both page-aligned; only ranges that are not RAM.
    Memory = 3,
    /// `base` = global system interrupt number; `length` = 1. Level triggered, active low.
    GlobalInterrupt = 4,
}

impl DeviceKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::IsaInterrupt),
            2 => Some(Self::Ports),
            3 => Some(Self::Memory),
            4 => Some(Self::GlobalInterrupt),
            _ => None,
        }
    }
}
