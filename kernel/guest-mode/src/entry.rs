//! Into a guest and back, as far as other CPUs have to do with it.

use crate::Gate;
use invalidation::{GuestEntry, GuestTag, Word};

/// What an entry asks of the CPU it is made on. Interrupts are off from before [`Border::prepare`] until after [`Border::finish`].
pub trait Border {
    /// Words that CPUs share.
    type Word: Word;

    /// `invalidation::Cpu::enter_guest`: sets this CPU's bits in the active sets, then looks at the generations and drops what is old.
    /// From here to the exit nothing is served, so no lock is waited for either.
    fn prepare(&self, entry: &GuestEntry<'_, Self::Word>) -> GuestTag;

    /// `invalidation::Cpu::leave_guest`: clears the bits and serves what was asked meanwhile.
    fn finish(&self, entry: &GuestEntry<'_, Self::Word>);
}

/// Calls `enter` to enter the guest and come back at its next exit, or returns `None` because the gate is closed: then the thread
/// turns interrupts on for a moment and tries again.
///
/// The order: the bits, the generations, the gate, the entry, the exit, the bits. Whoever raises a generation or closes the gate
/// before the bits were set is seen here; whoever does it later sees the bits, and the interrupt that he sends is pending, since
/// interrupts are off, and ends the guest's run before its first instruction (SDM 3C 26.2).
#[inline]
pub fn cross<B: Border, R>(
    border: &B,
    entry: &GuestEntry<'_, B::Word>,
    gate: &Gate<B::Word>,
    enter: impl FnOnce(GuestTag) -> R,
) -> Option<R> {
    let tag = border.prepare(entry);
    let result = (!gate.is_closed()).then(|| enter(tag));
    border.finish(entry);
    result
}
