//! What a guest sees of CPUID: a policy over the host's leaves.
//!
//! Everything that is not known to be right is zero. A feature is passed on if programs at CPL 3 can use it under our controls and its
//! state is switched with the thread; what the kernel uses for itself, what needs an MSR, and what is off is hidden. A guest may be told
//! different things by different hosts, but always the same by one: nothing in an answer depends on the CPU that gives it.
//!
//! SDM 2A, CPUID; volume 1, 13.2 (extended state).

mod extended_state;
mod features;
mod topology;

/// What CPUID returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "register names")]
pub struct Leaf {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

impl Leaf {
    /// All registers 0.
    pub const ZERO: Leaf = Leaf {
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
    };
}

/// Where the host's leaves come from: the instruction, or a record.
pub trait Cpuid {
    /// The leaf `leaf` (EAX), sub-leaf `subleaf` (ECX). Asked only for leaves up to the maxima in leaves 0 and 8000_0000H.
    fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf;
}

impl<F: Fn(u32, u32) -> Leaf> Cpuid for F {
    fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        self(leaf, subleaf)
    }
}

/// What the answers depend on beside the host's leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The number of this thread among the guest's threads, from 0. Stands in for the APIC's id.
    pub cpu: u32,
    /// How many threads the guest may have, at least 1.
    pub cpus: u32,
    /// CR4 while the guest runs.
    pub cr4: u64,
    /// XCR0 while the guest runs; 0 if the kernel does not use XSAVE.
    pub xcr0: u64,
    /// "Enable RDTSCP" is 1: without it RDTSCP and RDPID are undefined opcodes.
    pub rdtscp: bool,
}

/// First leaf of those that hypervisors answer.
pub const SIGNATURE_LEAF: u32 = 0x4000_0000;
/// The signature in EBX, ECX and EDX of [`SIGNATURE_LEAF`].
pub const SIGNATURE: &[u8; 12] = b"Dragonet vk\0";
/// Version of the interface between a vkernel and the host, in EAX of the leaf after [`SIGNATURE_LEAF`].
pub const INTERFACE_VERSION: u32 = 1;

/// The last basic leaf that has something for guests: frequencies.
const BASIC_LIMIT: u32 = 0x16;
/// The first extended leaf; in EAX it has the last.
const EXTENDED: u32 = 0x8000_0000;
/// The last extended leaf that has something for guests: address widths.
const EXTENDED_LIMIT: u32 = 0x8000_0008;

/// The answer to CPUID with EAX `leaf` and ECX `subleaf`. Leaves beyond the limits are zero.
#[must_use]
pub fn answer(host: &impl Cpuid, guest: &Guest, leaf: u32, subleaf: u32) -> Leaf {
    match leaf {
        0..=BASIC_LIMIT => basic(host, guest, leaf, subleaf),
        SIGNATURE_LEAF => signature(),
        0x4000_0001 => Leaf {
            eax: INTERFACE_VERSION,
            ..Leaf::ZERO
        },
        EXTENDED..=EXTENDED_LIMIT => extended(host, guest, leaf),
        _ => Leaf::ZERO,
    }
}

fn basic(host: &impl Cpuid, guest: &Guest, leaf: u32, subleaf: u32) -> Leaf {
    let first = host.leaf(0, 0);
    let limit = first.eax.min(BASIC_LIMIT);
    if leaf > limit {
        return Leaf::ZERO;
    }
    match leaf {
        0 => Leaf { eax: limit, ..first },
        1 => {
            let leaf = features::basic(host.leaf(1, 0), guest);
            topology::identify(leaf, guest)
        }
        // Cache and TLB descriptors, which do not depend on the sub-leaf.
        2 => host.leaf(2, 0),
        4 => topology::cache(host.leaf(4, subleaf), guest),
        7 => features::structured(host, guest, subleaf),
        0xb => topology::levels(guest, subleaf),
        0xd => extended_state::answer(host, guest, subleaf),
        // Frequencies: guests read the host's TSC as it is.
        0x15 | 0x16 => host.leaf(leaf, 0),
        // Among those that are hidden: 3 serial number, 5 MONITOR, 6 power, 0AH performance counters, 0FH and 10H resource directories,
        // 12H SGX, 14H trace.
        _ => Leaf::ZERO,
    }
}

fn signature() -> Leaf {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *SIGNATURE;
    Leaf {
        eax: SIGNATURE_LEAF + 1,
        ebx: u32::from_le_bytes([a, b, c, d]),
        ecx: u32::from_le_bytes([e, f, g, h]),
        edx: u32::from_le_bytes([i, j, k, l]),
    }
}

fn extended(host: &impl Cpuid, guest: &Guest, leaf: u32) -> Leaf {
    let first = host.leaf(EXTENDED, 0);
    let limit = first.eax.min(EXTENDED_LIMIT);
    if leaf > limit {
        return Leaf::ZERO;
    }
    match leaf {
        EXTENDED => Leaf { eax: limit, ..first },
        0x8000_0001 => features::extended(host.leaf(leaf, 0), guest),
        // The brand, and the second-level cache.
        0x8000_0002..=0x8000_0004 | 0x8000_0006 => host.leaf(leaf, 0),
        0x8000_0007 => features::power(host.leaf(leaf, 0)),
        // Widths of addresses; the other registers are features that need MSRs.
        0x8000_0008 => Leaf {
            eax: host.leaf(leaf, 0).eax,
            ..Leaf::ZERO
        },
        _ => Leaf::ZERO,
    }
}
