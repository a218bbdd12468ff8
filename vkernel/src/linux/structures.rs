//! Structures that programs pass and receive. Layouts of x86-64.
#![allow(missing_docs, reason = "the fields are the manual pages'")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $type,)* })*
    };
}

structures! {
    /// `struct timespec`.
    TimeSpec { seconds: i64, nanoseconds: i64, }

    /// `struct timeval`.
    TimeValue { seconds: i64, microseconds: i64, }

    /// `struct stat`.
    Stat {
        device: u64, inode: u64, links: u64, mode: u32, user: u32, group: u32, padding: u32, special_device: u64,
        size: i64, block_size: i64, blocks: i64,
        access: TimeSpec, modification: TimeSpec, change: TimeSpec, reserved: [i64; 3],
    }

    /// `struct pollfd`.
    PollEntry { file: i32, events: i16, returned: i16, }

    /// `struct iovec`.
    Vector { base: u64, length: u64, }

    /// `struct rlimit64`.
    Limit { current: u64, maximum: u64, }

    /// `struct sysinfo`.
    SystemInformation {
        uptime: i64, loads: [u64; 3], total: u64, free: u64, shared: u64, buffers: u64, swap_total: u64, swap_free: u64,
        processes: u16, padding: [u16; 3], high_total: u64, high_free: u64, unit: u32, tail: u32,
    }

    /// What rt_sigaction(2) takes.
    SignalAction { handler: u64, flags: u64, restorer: u64, mask: u64, }

    /// `stack_t`.
    SignalStack { base: u64, flags: i32, padding: u32, size: u64, }

    /// `siginfo_t`, as its first five words; the rest is zero.
    SignalInformation { signal: i32, error: i32, code: i32, padding: i32, fields: [u64; 14], }

    /// `struct sigcontext`: registers in a signal frame.
    SignalRegisters {
        r8: u64, r9: u64, r10: u64, r11: u64, r12: u64, r13: u64, r14: u64, r15: u64,
        rdi: u64, rsi: u64, rbp: u64, rbx: u64, rdx: u64, rax: u64, rcx: u64, rsp: u64, rip: u64, rflags: u64,
        cs: u16, gs: u16, fs: u16, ss: u16,
        error_code: u64, vector: u64, old_mask: u64, fault_address: u64, fpu_state: u64, reserved: [u64; 8],
    }

    /// `ucontext_t` with the kernel's 8-byte mask.
    SignalContext {
        flags: u64, link: u64, stack: SignalStack, registers: SignalRegisters, mask: u64,
    }

    /// What the kernel puts on the stack for a handler, from the return address up; the FPU image lies above.
    SignalFrame { return_address: u64, context: SignalContext, information: SignalInformation, }

    /// Bytes 464..512 of the FPU image in a frame: says how much there is.
    FpuMark { magic: u32, extended_size: u32, components: u64, size: u32, padding: [u32; 7], }

    /// Head of the robust list of set_robust_list(2).
    RobustListHead { first: u64, offset: i64, pending: u64, }
}

/// `magic` of [`FpuMark`].
pub const FPU_MAGIC: u32 = 0x4650_5853;
/// The word behind an extended FPU image.
pub const FPU_MAGIC_END: u32 = 0x4650_5845;
/// Bytes of one field of `struct utsname`.
pub const UTSNAME_FIELD: usize = 65;

impl TimeSpec {
    /// From nanoseconds.
    pub const fn from_nanoseconds(total: u64) -> Self {
        TimeSpec {
            seconds: (total / 1_000_000_000) as i64,
            nanoseconds: (total % 1_000_000_000) as i64,
        }
    }

    /// In nanoseconds, as many as a number can say. `None` if it is not a valid time.
    pub const fn nanoseconds(self) -> Option<u64> {
        if self.seconds < 0 || self.nanoseconds < 0 || self.nanoseconds >= 1_000_000_000 {
            return None;
        }
        Some(
            (self.seconds as u64)
                .saturating_mul(1_000_000_000)
                .saturating_add(self.nanoseconds as u64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_abi() {
        assert_eq!(size_of::<Stat>(), 144);
        assert_eq!(size_of::<SystemInformation>(), 112);
        assert_eq!(size_of::<SignalInformation>(), 128);
        assert_eq!(size_of::<SignalRegisters>(), 256);
        assert_eq!(size_of::<SignalContext>(), 304);
        assert_eq!(size_of::<FpuMark>(), 48);
    }

    #[test]
    fn times_are_checked() {
        assert_eq!(
            TimeSpec {
                seconds: 1,
                nanoseconds: 5
            }
            .nanoseconds(),
            Some(1_000_000_005)
        );
        assert_eq!(
            TimeSpec {
                seconds: 0,
                nanoseconds: 1_000_000_000
            }
            .nanoseconds(),
            None
        );
        assert_eq!(
            TimeSpec {
                seconds: -1,
                nanoseconds: 0
            }
            .nanoseconds(),
            None
        );
        assert_eq!(
            TimeSpec {
                seconds: i64::MAX,
                nanoseconds: 0
            }
            .nanoseconds(),
            Some(u64::MAX)
        );
    }
}
