//! The microkernel.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod debug;
mod sync;
mod test;

use arch::boot::BootInfo;

mod scaffold;
use scaffold::{mm, pmap, trap};

fn kernel_main(boot: &'static BootInfo) -> ! {
    mm::init(boot);
    arch::init(boot);
    arch::smp::start_others(other_cpu);
    arch::irq::enable();
    let mut failed = 0;
    for test in arch::tests::TESTS {
        match (test.run)() {
            Ok(()) => log::info!("test {} ... ok", test.name),
            Err(why) => {
                failed += 1;
                log::error!("test {} ... FAILED: {why}", test.name);
            }
        }
    }
    match arch::boot::option("try") {
        Some("panic") => panic!("tried"),
        Some("fault") => {
            // SAFETY: it is not; that is the point.
            unsafe { core::ptr::null::<u64>().read_volatile() };
        }
        Some("overflow") => {
            log::info!("{}", overflow(1));
        }
        Some("stuck") => {
            arch::irq::disable();
            arch::clock::spin_for(30_000_000_000);
        }
        Some("reset") => arch::power::reset(),
        _ => {}
    }
    arch::power::exit_status(failed)
}

#[inline(never)]
fn overflow(n: u64) -> u64 {
    let a = core::hint::black_box([n; 64]);
    if n == 0 { 0 } else { overflow(n + 1) + a[5] }
}

fn other_cpu(index: usize) -> ! {
    log::info!("cpu {index} is here");
    loop {
        let guard = arch::irq::IrqGuard::new();
        // It starts with interrupts off.
        drop(guard);
        arch::irq::enable();
        arch::irq::wait_for_interrupt(arch::irq::IrqGuard::new());
    }
}
