//! What the protocol asks of a CPU.

use crate::Word;

/// What happens, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A root was loaded and the translations under its tag kept.
    RootKept,
    /// A root was loaded and the translations under its tag dropped.
    RootFlushed,
    /// So many pages were dropped by address.
    PagesFlushed(u64),
    /// Everything of the current tag was dropped.
    TagFlushed,
    /// A tag was taken from another space.
    TagEvicted,
    /// An invalidation reached other CPUs, so many.
    Shootdown(u64),
    /// An invalidation that concerned no other CPU.
    ShootdownAvoided,
    /// A request was answered before it was carried out.
    AnsweredEarly,
    /// The nested translations of a space were dropped before an entry.
    NestedFlushed,
    /// The linear translations of a guest were dropped, all or by address.
    GuestFlushed,
}

/// The CPU that runs this code, with interrupts off. Sections are those of the Intel SDM, volume 3.
///
/// No method may be skipped or moved by the implementation: each is one instruction with its architectural effect.
pub trait Machine {
    /// Words that CPUs share.
    type Word: Word;

    /// Loads the root at physical address `root` under `tag` (the process-context identifier; 0 is the kernel's own table).
    /// Without `keep` every translation and paging-structure entry of the tag that is not global is dropped (4.10.4.1). A CPU
    /// without such tags ignores `tag` and drops everything that is not global, `keep` or not. Serializing.
    fn load_root(&self, root: u64, tag: u16, keep: bool);

    /// Drops the translation of `address` under the current tag, global ones under any tag, and all paging-structure entries of the
    /// current tag (INVLPG, 4.10.4.1). Serializing.
    fn flush_page(&self, address: u64);

    /// Drops every translation and paging-structure entry of the current tag that is not global (MOV to CR3, or INVPCID type
    /// 1; 4.10.4.1). Serializing.
    fn flush_tag(&self, root: u64, tag: u16);

    /// Sends the CPU with this number the interrupt that makes it call [`crate::Cpu::serve`] as soon as it takes interrupts.
    fn interrupt(&self, cpu: usize);

    /// Lets go of what this CPU caches of the object at physical address `object`: a virtual machine's control structure that another CPU
    /// wants to load.
    fn release(&self, object: u64);

    /// Keeps a load that follows from being done before the read-modify-write that precedes. Where that is a full
    /// barrier by itself, as on x86 (9.2.3.9), nothing.
    fn barrier(&self);

    /// Passes a moment while waiting for another CPU.
    fn relax(&self);

    /// Something that counters may count.
    fn note(&self, event: Event);
}

/// A CPU with nested paging and tags for guests.
pub trait GuestMachine: Machine {
    /// Drops every guest-physical and combined translation and paging-structure entry that comes from the nested table `root`,
    /// under every tag (INVEPT type 1, 29.4.3.1).
    fn flush_nested(&self, root: u64);

    /// Drops every linear and combined translation and paging-structure entry of the guest tag `tag` (INVVPID type 1, 29.4.3.3).
    fn flush_guest(&self, tag: u16);

    /// Drops the linear and combined translations of one linear address of the guest tag `tag`, and its paging-structure
    /// entries (INVVPID type 0, 29.4.3.3).
    fn flush_guest_page(&self, tag: u16, address: u64);
}
