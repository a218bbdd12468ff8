//! The local APIC of the running CPU, in either mode.

use x86_64::registers::model_specific::Msr;

const BASE_MSR: u32 = 0x1b;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ID: u32 = 0x20;
const SPURIOUS: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const TIMER: u32 = 0x320;

const COMMAND_PENDING: u32 = 1 << 12;
const INIT: u32 = 0x4500;
const START_UP: u32 = 0x4600;
const MASKED: u32 = 1 << 16;

/// Access to the registers of this CPU's local APIC.
#[derive(Clone, Copy, Debug)]
pub struct LocalApic {
    x2apic: bool,
    base: u64,
}

impl LocalApic {
    /// The APIC in the mode it is in; nothing on a CPU without one.
    pub fn new() -> Option<Self> {
        let features = core::arch::x86_64::__cpuid(1).edx;
        if features & (1 << 9) == 0 {
            return None;
        }
        // SAFETY: the MSR exists where CPUID reports an APIC.
        let base = unsafe { Msr::new(BASE_MSR).read() };
        let address = base & BASE_ADDRESS;
        let usable = base & BASE_ENABLED != 0 && address + 0x1000 <= dragonet_boot::REACHABLE_END;
        usable.then_some(LocalApic {
            x2apic: base & BASE_X2APIC != 0,
            base: address,
        })
    }

    /// Whether the CPU can do x2APIC mode.
    pub fn x2apic_available() -> bool {
        core::arch::x86_64::__cpuid(1).ecx & (1 << 21) != 0
    }

    /// Goes to x2APIC mode.
    pub fn enable_x2apic(&mut self) {
        if !self.x2apic {
            let mut base = Msr::new(BASE_MSR);
            // SAFETY: callers have checked that the mode is available; the step from xAPIC to x2APIC is allowed.
            unsafe {
                let value = base.read();
                base.write(value | BASE_ENABLED | BASE_X2APIC);
            }
            self.x2apic = true;
        }
    }

    /// Whether it is in x2APIC mode.
    pub fn is_x2apic(&self) -> bool {
        self.x2apic
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        let id = self.read(ID);
        if self.x2apic { id } else { id >> 24 }
    }

    /// Lets interprocessor interrupts through, and keeps a timer that firmware left running from interrupting.
    pub fn prepare(&self) {
        self.write(SPURIOUS, 0x1ff);
        self.write(TIMER, MASKED | 0xff);
    }

    /// Puts another CPU into the state in which it waits for a start-up interrupt.
    pub fn send_init(&self, target: u32) {
        self.command(target, INIT);
    }

    /// Starts another CPU in real mode at the page `page` (the number of a page below 1 MiB).
    pub fn send_start_up(&self, target: u32, page: u8) {
        self.command(target, START_UP | u32::from(page));
    }

    fn command(&self, target: u32, command: u32) {
        if self.x2apic {
            let value = u64::from(target) << 32 | u64::from(command);
            // SAFETY: the interrupt command register, in x2APIC mode; the interrupts sent are INIT and start-up.
            unsafe { Msr::new(0x830).write(value) };
        } else {
            self.write(COMMAND_HIGH, target << 24);
            self.write(COMMAND, command);
            for _ in 0..1_000_000 {
                if self.read(COMMAND) & COMMAND_PENDING == 0 {
                    break;
                }
                core::hint::spin_loop();
            }
        }
    }

    fn read(&self, register: u32) -> u32 {
        if self.x2apic {
            // SAFETY: a register of the APIC in x2APIC mode.
            unsafe { Msr::new(0x800 + (register >> 4)).read() as u32 }
        } else {
            // SAFETY: a register of the APIC, whose page is in the mapped first 4 GiB.
            unsafe { ((self.base + u64::from(register)) as *const u32).read_volatile() }
        }
    }

    fn write(&self, register: u32, value: u32) {
        if self.x2apic {
            // SAFETY: as in `read`; the values written keep interrupts of this CPU masked.
            unsafe { Msr::new(0x800 + (register >> 4)).write(value.into()) }
        } else {
            // SAFETY: as in `read`.
            unsafe { ((self.base + u64::from(register)) as *mut u32).write_volatile(value) }
        }
    }
}
