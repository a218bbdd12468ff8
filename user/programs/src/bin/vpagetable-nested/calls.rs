//! The system calls of level 2: of the microkernel's interface as much as a vkernel of one thread needs.

use crate::object::Object;
use crate::space::{Space, checked};
use crate::vkernel::{Named, Vkernel};
use alloc::string::String;
use alloc::vec;
use dragonet_abi::layout::{MAX_OBJECT_SIZE, PAGE_SIZE};
use dragonet_abi::memory::{Advice, MapRequest, Vpte};
use dragonet_abi::system::{MAX_LOG_TEXT, SystemInfo};
use dragonet_abi::vmspace::{RegisterFrame, RunState, VMSPACE_CTL_RUN};
use dragonet_abi::{Errno, Handle, SyscallNumber as Number};
use dragonet_rt::println;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes that one `vmspace_pread` or `vmspace_pwrite` moves at most.
const MOST_BYTES: u64 = 4096;
impl Vkernel {
    /// Serves the call in the registers.
    pub fn serve(&mut self, registers: &RegisterFrame) -> Result<u64, Errno> {
        let RegisterFrame {
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..
        } = *registers;
        match Number::from_number(registers.rax).ok_or(Errno::ENOSYS)? {
            Number::ProcessExit => {
                self.ended = Some(rdi as u8);
                Ok(0)
            }
            Number::LogWrite => self.print(rsi, rdx),
            Number::SystemInfo => {
                let mut info = SystemInfo::new_zeroed();
                (info.cpus, info.frames_free) = (1, self.ram.pages_left());
                self.write(rdi, info.as_bytes()).map(|()| 0)
            }
            Number::HandleClose | Number::VmspaceDestroy => self.close(rdi).map(|()| 0),
            Number::ObjectCreate => {
                let size = rdi
                    .checked_next_multiple_of(PAGE_SIZE)
                    .filter(|size| *size <= MAX_OBJECT_SIZE);
                let object = Object::new(&self.ram, size.filter(|size| *size > 0).ok_or(Errno::EINVAL)?);
                Ok(self.insert(Named::Object(object)))
            }
            Number::Mmap => {
                let request = MapRequest {
                    address: rdi,
                    length: rsi,
                    protection: rdx as u32,
                    flags: r10 as u32,
                    object: Handle(r8 as u32),
                    reserved: 0,
                    offset: r9,
                };
                let object = self.object(request.object)?;
                self.space.map(&request, object)
            }
            Number::Munmap => self.space.unmap(&checked(rdi, rsi)?).map(|()| 0),
            Number::Madvise => control(&mut self.space, rdi, rsi, rdx, 0),
            Number::Mcontrol => control(&mut self.space, rdi, rsi, rdx, r10),
            Number::VmspaceCreate => {
                let space = Space::new(&self.ram)?;
                Ok(self.insert(Named::Vmspace(space)))
            }
            Number::VmspaceMmap => {
                let request: MapRequest = self.read(rsi)?;
                let object = self.object(request.object)?;
                self.vmspace(rdi)?.map(&request, object)
            }
            Number::VmspaceMunmap => self.vmspace(rdi)?.unmap(&checked(rsi, rdx)?).map(|()| 0),
            Number::VmspaceMcontrol => control(self.vmspace(rdi)?, rsi, rdx, r10, r8),
            Number::VmspaceCtl if rsi == VMSPACE_CTL_RUN => {
                let mut state: RunState = self.read(rdx)?;
                self.vmspace(rdi)?.run(&mut state)?;
                self.write(rdx, state.as_bytes()).map(|()| 0)
            }
            Number::VmspacePread => {
                let mut bytes = vec![0; rdx.min(MOST_BYTES) as usize];
                let count = self.vmspace(rdi)?.read(r10, &mut bytes)?;
                self.write(rsi, &bytes[..count]).map(|()| count as u64)
            }
            Number::VmspacePwrite => {
                let mut bytes = vec![0; rdx.min(MOST_BYTES) as usize];
                let count = self.space.read(rsi, &mut bytes)?;
                let count = self.vmspace(rdi)?.write(r10, &bytes[..count])?;
                Ok(count as u64)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Prints a line of level 2.
    fn print(&self, address: u64, length: u64) -> Result<u64, Errno> {
        let mut text = vec![0; length.min(MAX_LOG_TEXT as u64) as usize];
        self.space.read(address, &mut text)?;
        println!("level 2: {}", String::from_utf8_lossy(&text));
        Ok(0)
    }

    /// A structure in level 2's memory.
    fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        let size = size_of::<T>();
        match self.space.read(address, value.as_mut_bytes())? {
            count if count == size => Ok(value),
            _ => Err(Errno::EFAULT),
        }
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        match self.space.write(address, bytes)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }
}

/// `mcontrol` on a space.
fn control(space: &mut Space, address: u64, length: u64, advice: u64, value: u64) -> Result<u64, Errno> {
    let advice = Advice::from_number(advice).ok_or(Errno::EINVAL)?;
    let range = match (advice, length) {
        (Advice::SetMap, 0) => return Err(Errno::EINVAL),
        (_, 0) => return Ok(0),
        _ => checked(address, length)?,
    };
    match advice {
        Advice::SetMap => space.set_root(&range, Vpte(value)).map(|()| 0),
        Advice::Invalidate => space.invalidate(&range).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}
