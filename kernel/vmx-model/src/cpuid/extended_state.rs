//! Leaf 0DH: the state components of the guest's XCR0, which it cannot change, and the areas that XSAVE and XSAVEC need for them.

use super::{Cpuid, Guest, Leaf};

/// Legacy region and header (SDM 1 13.4).
const FIXED_SIZE: u32 = 576;
/// Components with an area of their own begin here; 63 is not one.
const FIRST: u32 = 2;
const END: u32 = 63;

/// XSAVEOPT, XSAVEC, XGETBV with ECX = 1. Not: XSAVES, XFD.
const INSTRUCTIONS: u32 = 7;
const XSAVEC: u32 = 1 << 1;
/// In ECX of a component: its area in the compacted format is aligned to 64 bytes.
const ALIGNED: u32 = 1 << 1;

pub(super) fn answer(host: &impl Cpuid, guest: &Guest, subleaf: u32) -> Leaf {
    if guest.xcr0 == 0 {
        return Leaf::ZERO;
    }
    match subleaf {
        0 => {
            let size = standard_size(host, guest);
            Leaf {
                eax: guest.xcr0 as u32,
                ebx: size,
                ecx: size,
                edx: (guest.xcr0 >> 32) as u32,
            }
        }
        1 => {
            let instructions = host.leaf(0xd, 1).eax & INSTRUCTIONS;
            Leaf {
                eax: instructions,
                ebx: if instructions & XSAVEC != 0 {
                    compacted_size(host, guest)
                } else {
                    0
                },
                ..Leaf::ZERO
            }
        }
        FIRST..END if guest.xcr0 >> subleaf & 1 != 0 => {
            let component = host.leaf(0xd, subleaf);
            Leaf {
                // Not a supervisor component: XCR0 has it. XFD, bit 2, is hidden.
                ecx: component.ecx & ALIGNED,
                edx: 0,
                ..component
            }
        }
        _ => Leaf::ZERO,
    }
}

/// Components of the guest with an area of their own: size, offset in the standard format, alignment in the compacted one.
fn components(host: &impl Cpuid, guest: &Guest) -> impl Iterator<Item = Leaf> {
    (FIRST..END)
        .filter(|component| guest.xcr0 >> component & 1 != 0)
        .map(|component| host.leaf(0xd, component))
}

fn standard_size(host: &impl Cpuid, guest: &Guest) -> u32 {
    components(host, guest)
        .map(|component| component.ebx.saturating_add(component.eax))
        .fold(FIXED_SIZE, u32::max)
}

fn compacted_size(host: &impl Cpuid, guest: &Guest) -> u32 {
    components(host, guest).fold(FIXED_SIZE, |size, component| {
        let start = match component.ecx & ALIGNED {
            0 => size,
            _ => size.saturating_add(63) & !63,
        };
        start.saturating_add(component.eax)
    })
}
