//! Soft mode: each page table is behind a vmspace of the host, whose walker reads it.

use crate::linux::Errno;
use core::ops::Range;
use dragonet_abi::Handle;
use dragonet_abi::layout::{USER_END, USER_START};
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::vmspace::RunState;
use dragonet_rt::{OwnedHandle, syscall, system};

/// A host address space that translates through a page table in RAM.
pub struct Space {
    handle: Option<OwnedHandle>,
}

impl Space {
    /// A vmspace whose whole user range shows what the table of `root` in `object` says.
    pub fn new(object: &OwnedHandle, root: Vpte) -> Result<Self, Errno> {
        let handle = syscall::vmspace_create(system::handle()?)?;
        let length = USER_END - USER_START;
        // The offset is the address, so that the table is indexed by addresses. Its entries say what may be executed.
        let request = MapRequest {
            address: USER_START,
            length,
            protection: (Protection::READ | Protection::WRITE).bits(),
            flags: (MapFlags::VPAGETABLE | MapFlags::SHARED | MapFlags::FIXED).bits(),
            object: object.get(),
            reserved: 0,
            offset: USER_START,
        };
        syscall::vmspace_mmap(handle.get(), &request)?;
        syscall::vmspace_mcontrol(handle.get(), USER_START, length, Advice::SetMap, root)?;
        Ok(Space { handle: Some(handle) })
    }

    /// Runs the calling thread in the vmspace until something happens.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        Ok(syscall::vmspace_ctl_run(self.get(), state)?)
    }

    /// Makes the host drop its translations of a range.
    pub fn invalidate(&self, range: Range<u64>) -> Result<(), Errno> {
        let length = range.end.saturating_sub(range.start);
        syscall::vmspace_mcontrol(self.get(), range.start, length, Advice::Invalidate, Vpte(0))
            .map_err(Errno::from)
    }

    fn get(&self) -> Handle {
        self.handle.as_ref().map_or(Handle::NONE, OwnedHandle::get)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // No thread runs in it: whoever does so holds the address space.
            let destroyed = syscall::vmspace_destroy(handle).map_err(|(_, error)| error);
            destroyed.expect("the host destroys a vmspace that nobody runs in");
        }
    }
}
