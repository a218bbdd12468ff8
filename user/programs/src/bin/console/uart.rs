//! The serial port COM1: a 16550 with its FIFOs, by ports and an interrupt.
//!
//! Manual: National Semiconductor PC16550D, section 8 (registers).

use dragonet_abi::device::DeviceKind;
use dragonet_abi::{Errno, Handle};
use dragonet_rt::{OwnedHandle, syscall, virtual_interrupt};

/// Virtual interrupt by which the UART's interrupt arrives.
pub const INTERRUPT_BIT: u32 = 0;

const PORT: u64 = 0x3f8;
const PORTS: u64 = 8;
const ISA_INTERRUPT: u64 = 4;
const FIFO_SIZE: usize = 16;

// Registers, as offsets from the first port.
const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const INTERRUPT_IDENTITY: u64 = 2;
const FIFO_CONTROL: u64 = 2;
const LINE_CONTROL: u64 = 3;
const MODEM_CONTROL: u64 = 4;
const LINE_STATUS: u64 = 5;

const ENABLE_RECEIVE: u32 = 1;
const ENABLE_TRANSMIT: u32 = 2;
const FIFO_ON: u32 = 1;
const LINE_8N1: u32 = 3;
const MODEM_READY: u32 = 1 | 2 | 8; // DTR, RTS, and OUT2, which lets the interrupt through
const STATUS_RECEIVED: u32 = 1;
const STATUS_TRANSMIT_EMPTY: u32 = 0x20;

/// The open port.
pub struct Uart {
    ports: OwnedHandle,
    interrupt: OwnedHandle,
    /// Value of the interrupt-enable register.
    enabled: u32,
}

impl Uart {
    /// Opens the port. The kernel has set the speed for its own log output, and it stays.
    pub fn open(system: Handle) -> Result<Self, Errno> {
        let ports = syscall::device_open(system, DeviceKind::Ports, PORT, PORTS)?;
        let interrupt = syscall::device_open(system, DeviceKind::IsaInterrupt, ISA_INTERRUPT, 1)?;
        let mut uart = Uart {
            ports,
            interrupt,
            enabled: 0,
        };
        if uart.read(LINE_STATUS)? == 0xff {
            return Err(Errno::ENODEV);
        }
        uart.write(LINE_CONTROL, LINE_8N1)?;
        uart.write(FIFO_CONTROL, FIFO_ON)?;
        uart.write(MODEM_CONTROL, MODEM_READY)?;
        virtual_interrupt::enable(1 << INTERRUPT_BIT)?;
        syscall::interrupt_bind(uart.interrupt.get(), Handle::SELF_THREAD, INTERRUPT_BIT)?;
        uart.enable(ENABLE_RECEIVE)?;
        Ok(uart)
    }

    /// The next byte received, if there is one.
    pub fn receive(&self) -> Result<Option<u8>, Errno> {
        if self.read(LINE_STATUS)? & STATUS_RECEIVED == 0 {
            return Ok(None);
        }
        Ok(Some(self.read(DATA)? as u8))
    }

    /// Passes on as many bytes as the transmitter takes at once, and returns how many.
    pub fn transmit(&self, bytes: &[u8]) -> Result<usize, Errno> {
        if self.read(LINE_STATUS)? & STATUS_TRANSMIT_EMPTY == 0 {
            return Ok(0);
        }
        let count = bytes.len().min(FIFO_SIZE);
        for byte in &bytes[..count] {
            self.write(DATA, u32::from(*byte))?;
        }
        Ok(count)
    }

    /// Asks for an interrupt when the transmitter is empty, or no longer does.
    pub fn notify_when_empty(&mut self, wanted: bool) -> Result<(), Errno> {
        self.enable(if wanted {
            ENABLE_RECEIVE | ENABLE_TRANSMIT
        } else {
            ENABLE_RECEIVE
        })
    }

    /// Lets the next interrupt through. What arrived since the last look raises none, so look again afterwards.
    pub fn acknowledge(&self) -> Result<(), Errno> {
        self.read(INTERRUPT_IDENTITY)?;
        syscall::interrupt_acknowledge(self.interrupt.get())
    }

    fn enable(&mut self, interrupts: u32) -> Result<(), Errno> {
        if self.enabled != interrupts {
            self.write(INTERRUPT_ENABLE, interrupts)?;
            self.enabled = interrupts;
        }
        Ok(())
    }

    fn read(&self, register: u64) -> Result<u32, Errno> {
        syscall::port_read(self.ports.get(), register, 1)
    }

    fn write(&self, register: u64, value: u32) -> Result<(), Errno> {
        syscall::port_write(self.ports.get(), register, 1, value)
    }
}
