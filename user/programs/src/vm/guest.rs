//! A vmspace in which accesses are made on order.

use super::{Ram, code};
use core::fmt;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{OwnedHandle, syscall, system};

/// Vector of a page fault.
const PAGE_FAULT: u32 = 14;

/// What came of one access.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It was made; what `rax` is afterwards.
    Value(u64),
    /// A page fault: the error code, and whether the address is the access's own.
    Fault {
        /// P 1, W 2, U 4, RSV 8, I 0x10.
        error_code: u64,
        /// Address of the fault.
        address: u64,
    },
    /// Something else ended the run: reason and vector.
    Other(u32, u32),
}

impl Seen {
    /// What a run that has ended saw.
    #[must_use]
    pub fn of(state: &RunState) -> Self {
        match (state.reason, state.vector) {
            (RUN_SYSCALL, _) => Seen::Value(state.registers.rax),
            (RUN_EXCEPTION, PAGE_FAULT) => Seen::Fault {
                error_code: state.error_code,
                address: state.fault_address,
            },
            (reason, vector) => Seen::Other(reason, vector),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Value(value) => write!(formatter, "{value:#x}"),
            Seen::Fault { error_code, address } => {
                write!(
                    formatter,
                    "a page fault with error code {error_code:#x} at {address:#x}"
                )
            }
            Seen::Other(reason, vector) => {
                write!(
                    formatter,
                    "the end of RUN with reason {reason} and vector {vector}"
                )
            }
        }
    }
}

/// A request to map part of an object at exactly `address`, shared.
#[must_use]
pub fn fixed(address: u64, length: u64, protection: Protection, object: Handle, offset: u64) -> MapRequest {
    MapRequest {
        address,
        length,
        protection: protection.bits(),
        flags: (MapFlags::SHARED | MapFlags::FIXED).bits(),
        object,
        reserved: 0,
        offset,
    }
}

/// A vmspace with the page of [`code`] in it.
#[derive(Debug)]
pub struct Guest {
    vmspace: OwnedHandle,
}

impl Guest {
    /// A new vmspace with nothing in it, not even the page.
    ///
    /// # Errors
    /// Those of `vmspace_create`.
    pub fn empty() -> Result<Self, Errno> {
        let vmspace = syscall::vmspace_create(system::handle()?)?;
        Ok(Guest { vmspace })
    }

    /// A new vmspace with nothing else in it.
    ///
    /// # Errors
    /// Those of `vmspace_create`, `object_create` and `vmspace_mmap`.
    pub fn new() -> Result<Self, Errno> {
        let page = syscall::object_create(PAGE_SIZE)?;
        Mapping::of_object(page.get(), 0, PAGE_SIZE, Protection::READ | Protection::WRITE)?
            .write(0, &code::page())?;
        let guest = Self::empty()?;
        let protection = Protection::READ | Protection::EXECUTE;
        guest.map(&fixed(code::ADDRESS, PAGE_SIZE, protection, page.get(), 0))?;
        Ok(guest)
    }

    /// The vmspace.
    #[must_use]
    pub const fn vmspace(&self) -> Handle {
        self.vmspace.get()
    }

    /// Gives the vmspace away.
    #[must_use]
    pub fn into_vmspace(self) -> OwnedHandle {
        self.vmspace
    }

    /// Maps as `request` says.
    ///
    /// # Errors
    /// Those of `vmspace_mmap`.
    pub fn map(&self, request: &MapRequest) -> Result<(), Errno> {
        syscall::vmspace_mmap(self.vmspace(), request).map(drop)
    }

    /// Maps `ram` at `address` through the table that `root` names, which is indexed from `index` on.
    ///
    /// # Errors
    /// Those of `vmspace_mmap` and `vmspace_mcontrol`.
    pub fn map_table(
        &self,
        ram: &Ram,
        address: u64,
        length: u64,
        index: u64,
        root: Vpte,
    ) -> Result<(), Errno> {
        let protection = Protection::READ | Protection::WRITE;
        self.map(&MapRequest {
            flags: (MapFlags::SHARED | MapFlags::FIXED | MapFlags::VPAGETABLE).bits(),
            ..fixed(address, length, protection, ram.object(), index)
        })?;
        self.set_root(address, length, root)
    }

    /// Sets the root of the table of a range.
    ///
    /// # Errors
    /// Those of `vmspace_mcontrol`.
    pub fn set_root(&self, address: u64, length: u64, root: Vpte) -> Result<(), Errno> {
        syscall::vmspace_mcontrol(self.vmspace(), address, length, Advice::SetMap, root)
    }

    /// Makes changes of the table visible.
    ///
    /// # Errors
    /// Those of `vmspace_mcontrol`.
    pub fn invalidate(&self, address: u64, length: u64) -> Result<(), Errno> {
        syscall::vmspace_mcontrol(self.vmspace(), address, length, Advice::Invalidate, Vpte(0))
    }

    /// Runs a user with these registers until something happens.
    ///
    /// # Errors
    /// Those of `vmspace_ctl`.
    pub fn run(&self, registers: RegisterFrame) -> Result<RunState, Errno> {
        run_for(self.vmspace(), registers, FOREVER)
    }

    /// Loads a word.
    ///
    /// # Errors
    /// Those of `vmspace_ctl`.
    pub fn load(&self, address: u64) -> Result<Seen, Errno> {
        Ok(Seen::of(&self.run(code::load(address))?))
    }

    /// Stores a word; [`Seen::Value`] of anything if it could.
    ///
    /// # Errors
    /// Those of `vmspace_ctl`.
    pub fn store(&self, address: u64, value: u64) -> Result<Seen, Errno> {
        Ok(Seen::of(&self.run(code::store(address, value))?))
    }

    /// Fetches an instruction; [`Seen::Value`] of `mark` if [`code::LANDING`] is there.
    ///
    /// # Errors
    /// Those of `vmspace_ctl`.
    pub fn fetch(&self, address: u64, mark: u64) -> Result<Seen, Errno> {
        Ok(Seen::of(&self.run(code::jump(address, mark))?))
    }
}

/// Runs a user of a vmspace for at most `timeout` nanoseconds.
///
/// # Errors
/// Those of `vmspace_ctl`.
pub fn run_for(vmspace: Handle, registers: RegisterFrame, timeout: u64) -> Result<RunState, Errno> {
    let mut state = RunState {
        registers,
        timeout,
        ..RunState::default()
    };
    syscall::vmspace_ctl_run(vmspace, &mut state)?;
    Ok(state)
}
