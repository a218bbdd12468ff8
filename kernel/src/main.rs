//! The microkernel.
//!
//! Layers, each knowing only those below it:
//! `sys` (system calls) over `ipc` and `proc` over `vm` over `pmap` over `sched`, `mm`, `debug` over `arch`. `sync` serves all above `arch`; `trap` joins the
//! machine's events to the layers that serve them. `unsafe` stays in `arch`, `mm`, `pmap`, `vm::copy` and two functions of
//! `sched` that name the running thread.
//!
//! The boot stage enters `arch::boot`, which calls [`kernel_main`].
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod debug;
mod ipc;
mod mm;
mod pmap;
mod proc;
mod sched;
mod sync;
mod sys;
mod test;
mod trap;
mod vm;
mod vmm;

use arch::boot::BootInfo;

/// The boot CPU, with a stack, a log and its own descriptor tables: brings the machine up and becomes its idle thread.
pub fn kernel_main(boot: &'static BootInfo) -> ! {
    mm::init(boot);
    pmap::init_kernel(boot);
    arch::init(boot);
    start_scheduling();
    arch::smp::start_others(secondary_main);
    log::info!(
        "{} CPUs, {} MiB free",
        arch::cpu::count(),
        (mm::frame::statistics().1 * mm::frame::SIZE) >> 20
    );
    if let Some(filter) = arch::boot::option("test") {
        test::start(filter);
    } else if let Err(reason) = proc::start_first_process(boot) {
        panic!("cannot start the first process: {reason}");
    }
    sched::idle_loop()
}

/// Every other CPU.
fn secondary_main(_index: usize) -> ! {
    start_scheduling();
    sched::idle_loop()
}

fn start_scheduling() {
    let idle = sched::KernelThread::adopt_idle().expect("memory for an idle thread at boot");
    sched::init(idle);
    proc::start_reaper().expect("memory for a reaper at boot");
}
