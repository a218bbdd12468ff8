//! The copy of an address space that `fork` makes: the same areas, every private page shared until one side writes.

use crate::linux::Errno;
use crate::memory::space::AddressSpace;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;

impl AddressSpace {
    /// A new space with the same contents.
    ///
    /// # Errors
    /// `ENOMEM`, or what the host says to a new vmspace.
    pub fn fork(&self) -> Result<AddressSpace, Errno> {
        let child = AddressSpace::new(self.memory)?;
        let mut inner = self.inner.lock();
        let copied = {
            let mut child_inner = child.inner.lock();
            if inner.areas.is_at_limit() {
                return Err(Errno::ENOMEM);
            }
            child_inner.areas = inner.areas.clone();
            child_inner.heap = inner.heap.clone();
            let mut narrowed = None;
            let mut result = Ok(());
            'areas: for area in child_inner.areas.clone().iter() {
                if area.shared {
                    continue;
                }
                let mut next = area.start;
                while let Some((address, _)) = inner.table.next_held(next..area.end) {
                    next = address + PAGE_SIZE;
                    let Some(old) = inner.table.change(address, 0, Vpte::WRITE) else {
                        continue;
                    };
                    if old.was_used() && old.has(Vpte::WRITE) {
                        let start = narrowed.map_or(address, |(start, _)| start);
                        narrowed = Some((start, next));
                    }
                    let page = self.memory.share(old.frame());
                    let keep = Vpte::VALID | Vpte::USER | Vpte::NO_EXECUTE;
                    if let Err(error) = child_inner.table.insert(address, page, old.bits(keep)) {
                        result = Err(error);
                        break 'areas;
                    }
                }
            }
            if let Some((start, end)) = narrowed {
                self.vmspace.invalidate(start..end);
            }
            result
        };
        copied.map(|()| child)
    }
}
