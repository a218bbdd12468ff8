//! `console`: the server that owns the serial console.
//!
//! One thread waits for calls of its clients and for the UART's interrupt, which ends the wait as a virtual interrupt.
//! Calls that cannot be answered at once (a read without input, a write that the UART does not take yet) are parked, so
//! the server never waits for anything else. The protocol is in `dragonet_rt::console_protocol`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod server;
mod uart;

use dragonet_abi::Errno;
use dragonet_abi::startup::{ROLE_SERVICE, ROLE_SYSTEM};
use dragonet_rt::channel::Server;
use dragonet_rt::startup::role;
use dragonet_rt::{Arguments, ExitCode, OwnedHandle, error};
use server::Console;
use uart::Uart;

dragonet_rt::main!(main);

fn main(_arguments: Arguments) -> ExitCode {
    let (Some(service), Some(system)) = (role(ROLE_SERVICE), role(ROLE_SYSTEM)) else {
        error!("started without a channel or without the right to devices");
        return ExitCode::USAGE;
    };
    let uart = match Uart::open(system) {
        Ok(uart) => uart,
        Err(errno) => {
            error!("no serial port: {errno}");
            return ExitCode::FAILURE;
        }
    };
    let server = Server::from_handle(OwnedHandle::from_raw(service));
    match Console::new(uart).serve(&server) {
        Errno::EPIPE => ExitCode::SUCCESS,
        errno => {
            error!("{errno}");
            ExitCode::FAILURE
        }
    }
}
