//! Instructions that change what a CPU may use, each at once followed by what it can then reach.

use super::cache::{Invpcid, Invvpid};
use super::format::Format;
use super::memory::PAGE;
use super::{Guest, Hardware};
use page_table::{ROOT_LEVEL, index, span};

impl Hardware {
    /// MOV to CR3. Without PCIDs the tag is 0 and `keep` means nothing.
    pub fn load_root(&mut self, cpu: usize, root: u64, tag: u16, keep: bool) {
        let (pcid, keep) = if self.features.pcids {
            (tag, keep)
        } else {
            (0, false)
        };
        self.trace(|| format!("CPU {cpu} loads {root:#x} under {pcid}, keep {keep}"));
        let allocation = self.memory.page(root).allocation;
        let processor = &mut self.cpus[cpu];
        processor.cache.mov_to_cr3(0, pcid, keep);
        processor.root = root;
        processor.root_allocation = allocation;
        processor.pcid = pcid;
        self.reach(cpu);
    }

    /// INVLPG.
    pub fn flush_page(&mut self, cpu: usize, address: u64) {
        self.trace(|| format!("CPU {cpu} flushes {address:#x}"));
        let level = self.leaf(cpu, address).map_or(1, |(_, _, level)| level);
        let start = address & !(span(level) - 1);
        let page = start..start + span(level);
        let processor = &mut self.cpus[cpu];
        processor.cache.invlpg(0, processor.pcid, &page);
        self.reach(cpu);
    }

    /// Table, index and level of the leaf that the loaded tables have for an address at this moment.
    pub(super) fn leaf(&self, cpu: usize, address: u64) -> Option<(u64, usize, u8)> {
        let mut table = self.cpus[cpu].root;
        for level in (1..=ROOT_LEVEL).rev() {
            let slot = index(address, level);
            let entry = self.memory.word(table, slot);
            if !Format::Linear.is_present(entry) {
                return None;
            }
            if Format::Linear.is_leaf(entry, level) {
                return Some((table, slot, level));
            }
            table = Format::Linear.table(entry);
        }
        None
    }

    /// INVPCID.
    pub fn invpcid(&mut self, cpu: usize, what: Invpcid) {
        self.cpus[cpu].cache.invpcid(0, what);
        self.reach(cpu);
    }

    /// INVPCID as in a guest with this tag, at once followed by the exit.
    pub fn invpcid_in_guest(&mut self, cpu: usize, vpid: u16, what: Invpcid) {
        self.cpus[cpu].cache.invpcid(vpid, what);
    }

    /// No instruction: INVLPG as one might think that it is.
    pub fn forget_translation(&mut self, cpu: usize, address: u64) {
        let processor = &mut self.cpus[cpu];
        let page = address..address + PAGE;
        processor.cache.forget_translations(0, processor.pcid, &page);
        self.reach(cpu);
    }

    /// INVEPT for one root, outside of a guest.
    pub fn invept(&mut self, cpu: usize, root: u64) {
        self.cpus[cpu].cache.invept(root);
    }

    /// INVVPID, outside of a guest.
    pub fn invvpid(&mut self, cpu: usize, what: Invvpid) {
        self.cpus[cpu].cache.invvpid(what);
    }

    /// VM entry.
    pub fn enter_guest(&mut self, cpu: usize, mut guest: Guest) {
        self.trace(|| format!("CPU {cpu} enters {guest:x?}"));
        guest.nested_allocation = self.memory.page(guest.nested).allocation;
        if !self.features.vpids {
            guest.vpid = 0;
            self.cpus[cpu].cache.transition_without_vpids();
        }
        self.cpus[cpu].guest = Some(guest);
        self.reach(cpu);
    }

    /// VM exit.
    pub fn leave_guest(&mut self, cpu: usize) {
        self.trace(|| format!("CPU {cpu} leaves its guest"));
        if !self.features.vpids {
            self.cpus[cpu].cache.transition_without_vpids();
        }
        self.cpus[cpu].guest = None;
        self.reach(cpu);
    }
}
