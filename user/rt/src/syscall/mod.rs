//! System calls, one typed function each, in one file per family.
//!
//! Handles are plain [`Handle`](dragonet_abi::Handle)s here, so that a test can pass a wrong one; new handles come back
//! as [`OwnedHandle`](crate::OwnedHandle)s. Buffers are slices. Functions that could break the caller's own memory or
//! control flow (unmapping, protection, entry points) are `unsafe`. The vmspace family is not, although a program that asks
//! for a handle of its *own* vmspace can write over itself with it, as a Unix program can through `/proc/self/mem`.
//!
//! Any module of the runtime and any program may call these.

mod channel;
mod device;
mod event;
mod handle;
mod memory;
mod process;
pub(crate) mod raw;
mod system;
mod thread;
mod vmm;
mod vmspace;

pub use channel::{channel_call, channel_create, channel_receive, channel_reply};
pub use device::{device_open, interrupt_acknowledge, interrupt_bind, port_read, port_write};
pub use event::{
    clock_get, sleep_until, timer_set, umtx_sleep, umtx_wakeup, virq_control, virq_post, virq_return,
    virq_take, virq_wait,
};
pub use handle::{handle_close, handle_duplicate, handle_info};
pub use memory::{madvise, mcontrol, minherit, mmap, mprotect, munmap, object_create};
pub use process::{
    process_create, process_exit, process_give, process_kill, process_limit, process_list, process_open,
    process_start, process_vmspace, process_wait,
};
pub use raw::{call, call_number, null};
pub use system::{boot_module, counters_read, log_read, log_write, power, system_info};
pub use thread::{thread_control, thread_create, thread_exit, thread_wait, thread_yield};
pub use vmm::{vmm_guest_leave, vmm_guest_run, vmm_guest_sync_addr, vmm_info, vmm_run_user};
pub use vmspace::{
    vmspace_create, vmspace_ctl_run, vmspace_destroy, vmspace_entries, vmspace_fork, vmspace_list,
    vmspace_mcontrol, vmspace_minherit, vmspace_mmap, vmspace_mprotect, vmspace_munmap, vmspace_pread,
    vmspace_pwrite,
};
