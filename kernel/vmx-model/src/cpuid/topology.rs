//! Topology: each thread of the guest is a core of one package. The host's own is hidden, since threads move between its CPUs.

use super::{Guest, Leaf};

/// Threads rounded up to a power of two: how many ids the package has.
fn ids(guest: &Guest) -> u32 {
    guest.cpus.max(1).checked_next_power_of_two().unwrap_or(1 << 31)
}

/// Leaf 1: EBX[31:24] is the initial APIC id, EBX[23:16] the number of ids in the package, EDX[28] (HTT) says that the latter means
/// something.
pub(super) fn identify(leaf: Leaf, guest: &Guest) -> Leaf {
    const HTT: u32 = 1 << 28;
    let count = ids(guest).min(255);
    let htt = if guest.cpus > 1 { HTT } else { 0 };
    Leaf {
        ebx: (guest.cpu & 0xff) << 24 | count << 16 | leaf.ebx & 0xffff,
        edx: leaf.edx & !HTT | htt,
        ..leaf
    }
}

/// Leaf 4, a sub-leaf: EAX[25:14] is the number of ids that share the cache less one, EAX[31:26] that of cores in the package less one.
pub(super) fn cache(host: Leaf, guest: &Guest) -> Leaf {
    const SHARED_LEVEL: u32 = 3;
    let (kind, level) = (host.eax & 0x1f, host.eax >> 5 & 7);
    if kind == 0 {
        return Leaf::ZERO;
    }
    let ids = ids(guest);
    let sharers = if level >= SHARED_LEVEL { ids.min(4096) } else { 1 };
    Leaf {
        eax: host.eax & 0x3fff | (sharers - 1) << 14 | (ids.min(64) - 1) << 26,
        ..host
    }
}

/// Leaf 0BH, a sub-leaf: EAX is the shift from an id to that of the next level, EBX the number of threads at the level, ECX the sub-leaf
/// and the level's type, EDX the thread's id.
pub(super) fn levels(guest: &Guest, subleaf: u32) -> Leaf {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let (eax, ebx, kind) = match subleaf {
        0 => (0, 1, THREADS),
        1 => (ids(guest).trailing_zeros(), guest.cpus & 0xffff, CORES),
        _ => (0, 0, 0),
    };
    Leaf {
        eax,
        ebx,
        ecx: kind << 8 | subleaf & 0xff,
        edx: guest.cpu,
    }
}
