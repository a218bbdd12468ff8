//! Virtual page tables: the crate `page-table`'s walker over the pages of a memory object.

use super::fault::{Access, FaultError};
use super::object::MemoryObject;
use crate::debug::counters;
use crate::mm::PageTree;
use crate::pmap::Pmap;
use dragonet_abi::counters::Counter;
use dragonet_abi::memory::Vpte;
use page_table::Stamp;
use page_table::vpagetable::{self, Refusal, Translation, VpteMemory};

struct Table<'object>(&'object PageTree);

impl VpteMemory for Table<'_> {
    fn pages(&self) -> u64 {
        self.0.pages()
    }

    fn load(&self, page: u64, index: usize) -> u64 {
        self.0.load_word(page, index)
    }

    fn compare_exchange(&self, page: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        self.0.compare_exchange_word(page, index, old, new)
    }
}

/// Translates `index` with the table that `root` names in `object`, for a fault at `place` whose look-ups began at `stamp`. `None`: something
/// was invalidated there, or the table changes too fast; try again.
pub(super) fn translate(
    pmap: &Pmap,
    (place, stamp): (u64, Stamp),
    object: &MemoryObject,
    root: Vpte,
    index: u64,
    access: Access,
) -> Result<Option<Translation>, FaultError> {
    let pages = object.stable_pages().ok_or(FaultError::Vpagetable)?;
    let wanted = vpagetable::Access {
        write: access.write,
        execute: access.execute,
    };
    let walk =
        |interlock: &_| vpagetable::walk_since(interlock, stamp, place, &Table(pages), root.0, index, wanted);
    let Some(outcome) = pmap.with_interlock(walk) else {
        return Ok(None);
    };
    counters::count(Counter::VpagetableWalk);
    match outcome {
        Ok(translation) => {
            counters::count(Counter::VpagetableFault);
            counters::count_n(Counter::VpagetableStep, u64::from(translation.steps));
            Ok(Some(translation))
        }
        Err(Refusal::Busy) => Ok(None),
        Err(Refusal::NotValid) => Err(FaultError::Vpagetable),
        Err(Refusal::Denied) => Err(FaultError::VpagetableDenied),
        Err(Refusal::Reserved | Refusal::OutOfBounds) => Err(FaultError::VpagetableReserved),
    }
}
