//! Faults that get on whatever others invalidate.
//!
//! A fault is refused if its address was invalidated after it had looked, so somebody who invalidates all the time could keep it
//! from ever ending. The last attempt therefore holds the map's lock. Whatever invalidates changes the map or reads it first, and
//! does both under this lock: `munmap`, `mprotect`, `madvise`, `mcontrol`, a fork. All of it waits meanwhile, for as long as one fault takes.
//! What remains are faults of other CPUs that had looked before, each of which may still commit a copy, once.

use super::fault::{Access, Around, Attempt, FaultError};
use super::region::Role;
use super::reserve;
use super::vmspace::Vmspace;
use crate::arch::cpu;
use crate::debug::counters;
use crate::pmap::View;
use dragonet_abi::counters::Counter;

/// Attempts under the lock. One fault on each other CPU may refuse one and spoil what another has made accessible; a stack grows once, and a shared
/// page loses its last other owner once.
const MOST: usize = 2 * cpu::MAX_CPUS + 2;

impl Vmspace {
    /// Makes an access to `page` possible, whatever others do, and does it with `access_now` before anybody can take it away. `None` if it
    /// does not want to do it although it could; and if the page's virtual page table changes faster than it is walked, which only who writes it
    /// can bring about.
    ///
    /// # Errors
    /// [`FaultError`].
    pub(super) fn resolve_alone<R>(
        &self,
        page: u64,
        access: Access,
        view: View,
        mut access_now: impl FnMut() -> Option<R>,
    ) -> Result<Option<R>, FaultError> {
        // Outlives the lock, as everything that is dropped.
        let mut _gone = None;
        let mut map = self.map.lock();
        let mut outcome = Counter::FaultAbandoned;
        for _ in 0..MOST {
            let claim = self.pmap().claim(view);
            let result = match map.find(page) {
                None => Err(FaultError::NotMapped),
                Some(entry) if entry.payload.role == Role::Ungrown => reserve::grow(&mut map, page, access)
                    .map(|gone| {
                        _gone = gone;
                        Attempt::Again
                    }),
                // The entry holds what its payload names for as long as the map is locked.
                Some(entry) => {
                    let place = (entry.payload, &entry.range());
                    self.attempt_in(page, access, Around::No, place, claim)
                }
            };
            match result {
                Ok(Attempt::Done(done)) => {
                    outcome = done;
                    if let Some(value) = access_now() {
                        counters::count(outcome);
                        return Ok(Some(value));
                    }
                }
                Ok(Attempt::Again) => counters::count(Counter::FaultRetry),
                Err(error) => {
                    counters::count(Counter::FaultUnresolved);
                    return Err(error);
                }
            }
        }
        counters::count(outcome);
        Ok(None)
    }
}
