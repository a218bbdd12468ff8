//! Scaffold for booting this layer by itself.
#![allow(missing_docs, clippy::undocumented_unsafe_blocks)]

pub mod mm {
    use core::alloc::{GlobalAlloc, Layout};
    use core::sync::atomic::{AtomicUsize, Ordering};
    struct Bump;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    #[repr(align(4096))]
    struct Memory(core::cell::UnsafeCell<[u8; 8 << 20]>);
    unsafe impl Sync for Memory {}
    static MEMORY: Memory = Memory(core::cell::UnsafeCell::new([0; 8 << 20]));
    unsafe impl GlobalAlloc for Bump {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let at = NEXT.fetch_add(layout.size() + layout.align(), Ordering::Relaxed);
            (MEMORY.0.get() as usize + at).next_multiple_of(layout.align()) as *mut u8
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
    #[global_allocator]
    static HEAP: Bump = Bump;
    pub fn init(_boot: &crate::BootInfo) {}
    pub mod stack {
        use alloc::alloc::{Layout, alloc};
        use dragonet_abi::Errno;
        use x86_64::VirtAddr;
        pub struct KernelStack(*mut u8);
        impl KernelStack {
            pub fn new() -> Result<Self, Errno> {
                // SAFETY: the layout has a size.
                let p = unsafe { alloc(Layout::from_size_align(16384, 4096).unwrap()) };
                if p.is_null() { Err(Errno::ENOMEM) } else { Ok(KernelStack(p)) }
            }
            pub fn top(&self) -> VirtAddr {
                VirtAddr::from_ptr(self.0) + 16384
            }
        }
    }
}

pub mod pmap {
    use dragonet_abi::Errno;
    use x86_64::{PhysAddr, VirtAddr};
    pub fn map_device(address: PhysAddr, _length: u64) -> Result<VirtAddr, Errno> {
        Ok(VirtAddr::new(crate::arch::boot::hhdm_offset() + address.as_u64()))
    }
    pub fn kernel_root() -> PhysAddr {
        crate::arch::paging::read_cr3()
    }
    pub fn on_shootdown(_: &crate::arch::irq::IrqsOff) {}
}

pub mod trap {
    use crate::arch::ioapic::InterruptLine;
    use crate::arch::irq::IrqsOff;
    use crate::arch::trap::TrapFrame;
    pub fn on_syscall(_: &mut TrapFrame) {}
    pub fn on_user_exception(_: &mut TrapFrame, _: u64) {}
    pub fn on_copy_fault(_: u64, _: u64) -> bool {
        false
    }
    pub fn on_timer(_: &IrqsOff) {}
    pub fn on_reschedule(_: &IrqsOff) {}
    pub fn on_device_interrupt(_: InterruptLine, _: &IrqsOff) {}
    pub fn before_user(_: &mut TrapFrame) {}
}
