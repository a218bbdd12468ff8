//! The channel on which programs ask about services.

use crate::service::Service;
use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_abi::time::FOREVER;
use dragonet_rt::channel::{self, Call, Server};
use dragonet_rt::supervisor_protocol as protocol;
use dragonet_rt::{console_protocol, error, system, thread};

/// Starts the thread that answers.
pub fn start(services: Vec<Arc<Service>>) -> Result<(), Errno> {
    let (server, client) = channel::create()?;
    crate::install_supervisor(client);
    thread::spawn(move || serve(&server, &services)).map(drop)
}

fn serve(server: &Server, services: &[Arc<Service>]) {
    loop {
        match server.receive(FOREVER) {
            Ok(call) => answer(call, services),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                error!("the supervisor's channel failed: {errno}");
                return;
            }
        }
    }
}

fn answer(call: Call, services: &[Arc<Service>]) {
    let outcome = match call.label() {
        protocol::SERVICE => describe(services, call.words()[0]),
        protocol::RESTART => {
            let bytes = console_protocol::unpack(call.words());
            let name = system::text(&bytes[..protocol::MAX_NAME]);
            match services.iter().find(|service| service.name() == name) {
                Some(service) => {
                    service.restart();
                    Ok([0; 6])
                }
                None => Err(Errno::ENOENT),
            }
        }
        _ => Err(Errno::ENOSYS),
    };
    // A caller that is gone needs no answer.
    let _ = match outcome {
        Ok(words) => call.reply(0, words),
        Err(errno) => call.reply(errno as u32, [0; 6]),
    };
}

fn describe(services: &[Arc<Service>], index: u64) -> Result<[u64; 6], Errno> {
    let service = usize::try_from(index)
        .ok()
        .and_then(|index| services.get(index))
        .ok_or(Errno::ENOENT)?;
    let report = service.report();
    let name = service.name().as_bytes();
    let name = console_protocol::pack(&name[..name.len().min(protocol::MAX_NAME)]);
    Ok([
        report.state,
        report.process,
        report.restarts,
        name[0],
        name[1],
        name[2],
    ])
}
