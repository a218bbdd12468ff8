//! Calls from many threads to many servers, with handles that go there and back.

use crate::{Problem, doing};
use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::channel::{Message, MessageInfo};
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Handle};
use dragonet_programs::random::Random;
use dragonet_rt::channel::{self, Server};
use dragonet_rt::{OwnedHandle, syscall, thread};

const CLIENTS: u64 = 4;
const SERVERS: usize = 2;
const CALLS: u64 = 200;

/// Replies with the words added up.
const ADD: u32 = 1;
/// Replies with the size of the memory object that came with the call.
const MEASURE: u32 = 2;
/// Ends a server.
const STOP: u32 = 3;

pub fn run(random: &mut Random) -> Result<(), Problem> {
    let (server, client) = channel::create().map_err(doing("making a channel"))?;
    let (server, client) = (Arc::new(server), Arc::new(client));
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        let server = Arc::clone(&server);
        servers.push(thread::spawn(move || serve(&server)).map_err(doing("starting a server"))?);
    }
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = Arc::clone(&client);
        let mut random = Random::new(random.next_number());
        clients.push(
            thread::spawn(move || call(client.get(), &mut random)).map_err(doing("starting a client"))?,
        );
    }
    let mut outcome = Ok(());
    for client in clients {
        let result = client
            .join()
            .unwrap_or_else(|| Err(Problem::Wrong("a client vanished".into())));
        outcome = outcome.and(result);
    }
    for _ in 0..SERVERS {
        channel::call(client.get(), STOP, [0; 6]).map_err(doing("stopping a server"))?;
    }
    for server in servers {
        let _ = server.join();
    }
    outcome?;
    dead_server()
}

fn serve(server: &Server) {
    loop {
        let Ok(mut call) = server.receive(FOREVER) else {
            return;
        };
        let words = *call.words();
        let stop = call.label() == STOP;
        let answer = match call.label() {
            ADD => words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)),
            MEASURE => call
                .take_handle()
                .and_then(|object| object.info().ok())
                .map_or(0, |info| info.size),
            _ => 0,
        };
        // A caller that is gone needs no answer.
        let _ = call.reply(0, [answer, 0, 0, 0, 0, 0]);
        if stop {
            return;
        }
    }
}

fn call(client: Handle, random: &mut Random) -> Result<(), Problem> {
    for _ in 0..CALLS {
        let (expected, reply) = if random.below(8) == 0 {
            let size = (random.below(64) + 1) * 4096;
            let object = syscall::object_create(size).map_err(doing("making an object"))?;
            (size, channel::call_with_handle(client, MEASURE, [0; 6], object))
        } else {
            let words = [(); 6].map(|()| random.next_number());
            (
                words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)),
                channel::call(client, ADD, words),
            )
        };
        let reply = reply.map_err(doing("calling"))?;
        if reply.words[0] != expected {
            return Err(Problem::Wrong(alloc::format!(
                "the server said {:#x}, not {expected:#x}",
                reply.words[0]
            )));
        }
    }
    Ok(())
}

/// A server that goes away leaves nobody waiting, and a handle that was sent with an unanswered call is gone.
fn dead_server() -> Result<(), Problem> {
    let (server, client) = syscall::channel_create().map_err(doing("making a channel"))?;
    let going = thread::spawn(move || {
        let outcome = syscall::channel_receive(server.get(), FOREVER);
        drop(server);
        if let Ok((token, message)) = outcome {
            for handle in [token, message.words[5]] {
                let _ = syscall::handle_close(Handle(handle as u32));
            }
        }
    });
    let going = going.map_err(doing("starting a server"))?;
    let object = syscall::object_create(4096).map_err(doing("making an object"))?;
    let mut words = [0; 6];
    words[5] = u64::from(object.get().0);
    let outcome = syscall::channel_call(
        client.get(),
        &Message {
            info: MessageInfo::new(ADD, 1),
            words,
        },
    );
    let moved = syscall::handle_info(object.get()) == Err(Errno::EBADF);
    let _ = going.join();
    let _: OwnedHandle = client;
    match outcome {
        Err(Errno::EPIPE) if moved => Ok(()),
        other => Err(Problem::Wrong(alloc::format!(
            "a call to a dead server gave {other:?}, handle moved: {moved}"
        ))),
    }
}
