//! Readiness of open files, for poll(2).

use crate::kernel::kernel;
use crate::linux::flags::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM};
use crate::sched::wait::WaitQueue;
use crate::vfs::inode::Device;
use crate::vfs::open_file::{Kind, OpenFile};
use crate::vfs::pipe::ATOMIC_WRITE;

const READABLE: i16 = POLLIN | POLLRDNORM;
const WRITABLE: i16 = POLLOUT | POLLWRNORM;

impl OpenFile {
    /// What could be done without waiting.
    pub fn readiness(&self) -> i16 {
        match &self.kind {
            Kind::File(..) | Kind::Directory(_) | Kind::Path(_) => READABLE | WRITABLE,
            Kind::Device(_, Device::Console) => {
                WRITABLE
                    | if kernel().console().has_input() {
                        READABLE
                    } else {
                        0
                    }
            }
            Kind::Device(..) => READABLE | WRITABLE,
            Kind::PipeReader(pipe) => {
                let (length, _, _, writers) = pipe.status();
                (if length > 0 { READABLE } else { 0 }) | (if writers == 0 { POLLHUP } else { 0 })
            }
            Kind::PipeWriter(pipe) => {
                let (_, room, readers, _) = pipe.status();
                let broken = if readers == 0 { POLLERR } else { 0 };
                (if room >= ATOMIC_WRITE { WRITABLE } else { 0 }) | broken
            }
        }
    }

    /// Told when [`Self::readiness`] may have changed. `None` if it never does.
    pub fn readiness_changed(&self) -> Option<&WaitQueue> {
        match &self.kind {
            Kind::Device(_, Device::Console) => Some(kernel().console().input_changed()),
            Kind::PipeReader(pipe) | Kind::PipeWriter(pipe) => Some(pipe.changed()),
            _ => None,
        }
    }
}
