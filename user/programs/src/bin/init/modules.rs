//! The files that came with the kernel.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use dragonet_abi::memory::Protection;
use dragonet_abi::{Errno, Handle};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{OwnedHandle, syscall, system};

/// A boot module.
pub struct Module {
    name: String,
    size: u64,
    pub object: OwnedHandle,
}

impl Module {
    /// The module's contents, if they are text.
    pub fn text(&self) -> Result<String, Errno> {
        if self.size == 0 {
            return Ok(String::new());
        }
        let mapping = Mapping::of_object(self.object.get(), 0, self.size, Protection::READ)?;
        let mut bytes = vec![0; self.size as usize];
        mapping.read(0, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| Errno::EINVAL)
    }
}

/// All boot modules that nobody has taken yet.
pub struct Modules(Vec<Module>);

impl Modules {
    pub fn open(system: Handle) -> Result<Self, Errno> {
        let mut modules = Vec::new();
        loop {
            match syscall::boot_module(system, modules.len() as u64) {
                Ok((object, info)) => {
                    modules.push(Module {
                        name: system::text(&info.name),
                        size: info.size,
                        object,
                    });
                }
                Err(Errno::ENOENT) => return Ok(Modules(modules)),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Takes the module with this name.
    pub fn take(&mut self, name: &str) -> Option<Module> {
        let index = self.0.iter().position(|module| module.name == name)?;
        Some(self.0.swap_remove(index))
    }
}
