//! Level 1: the RAM, level 2's space and what its handles name, and the loop that runs it.

use crate::object::Object;
use crate::program;
use crate::space::Space;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle};
use dragonet_programs::vm::Ram;

/// What a handle of level 2 names.
pub enum Named {
    Object(Rc<Object>),
    Vmspace(Space),
}

/// Level 1.
pub struct Vkernel {
    pub ram: Rc<Ram>,
    /// Level 2's own space.
    pub space: Space,
    /// What level 2's handles name, by number from 1.
    handles: Vec<Option<Named>>,
    registers: RegisterFrame,
    /// Set when level 2 has ended.
    pub ended: Option<u8>,
}

impl Vkernel {
    /// With `size` bytes of RAM.
    pub fn new(size: u64) -> Result<Self, Errno> {
        let ram = Rc::new(Ram::new(size)?);
        Ok(Vkernel {
            space: Space::new(&ram)?,
            ram,
            handles: Vec::new(),
            registers: RegisterFrame::default(),
            ended: None,
        })
    }

    /// Loads level 2.
    pub fn load(&mut self, arguments: &[&str]) -> Result<(), String> {
        self.registers = program::load(&self.ram, &mut self.space, arguments)?;
        Ok(())
    }

    /// Runs level 2 to its end and returns its exit status.
    pub fn run(&mut self) -> Result<u8, String> {
        let mut state = RunState {
            registers: self.registers,
            ..RunState::default()
        };
        while self.ended.is_none() {
            state.timeout = FOREVER;
            self.space
                .run(&mut state)
                .map_err(|errno| format!("running level 2: {errno}"))?;
            match state.reason {
                RUN_SYSCALL => {
                    let result = self.serve(&state.registers);
                    state.registers.rax = match result {
                        Ok(value) => value,
                        Err(errno) => errno.to_result() as u64,
                    };
                }
                RUN_EXCEPTION => {
                    let RunState {
                        vector,
                        error_code,
                        fault_address,
                        registers,
                        ..
                    } = state;
                    let at = registers.rip;
                    return Err(format!(
                        "level 2 raised exception {vector} with error code {error_code:#x}, address {fault_address:#x}, at {at:#x}"
                    ));
                }
                other => return Err(format!("level 2 stopped with reason {other}")),
            }
        }
        Ok(self.ended.unwrap_or(0))
    }

    /// A new handle.
    pub fn insert(&mut self, named: Named) -> u64 {
        self.handles.push(Some(named));
        self.handles.len() as u64
    }

    fn slot(&mut self, handle: u64) -> Result<&mut Option<Named>, Errno> {
        let index = usize::try_from(handle)
            .ok()
            .and_then(|handle| handle.checked_sub(1));
        index
            .and_then(|index| self.handles.get_mut(index))
            .ok_or(Errno::EBADF)
    }

    /// Closes a handle.
    pub fn close(&mut self, handle: u64) -> Result<(), Errno> {
        self.slot(handle)?.take().map(drop).ok_or(Errno::EBADF)
    }

    /// The object that a handle names; none for [`Handle::NONE`].
    pub fn object(&mut self, handle: Handle) -> Result<Option<Rc<Object>>, Errno> {
        if !handle.is_some() {
            return Ok(None);
        }
        match self.slot(u64::from(handle.0))? {
            Some(Named::Object(object)) => Ok(Some(Rc::clone(object))),
            _ => Err(Errno::EBADF),
        }
    }

    /// The vmspace that a handle names.
    pub fn vmspace(&mut self, handle: u64) -> Result<&mut Space, Errno> {
        match self.slot(handle)? {
            Some(Named::Vmspace(space)) => Ok(space),
            _ => Err(Errno::EBADF),
        }
    }
}
