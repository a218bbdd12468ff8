//! System calls on channels: messages travel in registers.

use super::{Call, deadline_after};
use crate::ipc::{self, ClientEnd, Parcel, ServerEnd};
use crate::proc::{Entry, Object};
use crate::sched;
use crate::vm::copy;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use dragonet_abi::channel::{Message, MessageInfo, WORDS};
use dragonet_abi::{Errno, Handle, Rights};

/// `channel_create(*mut [Handle; 2])`.
pub fn create(call: &Call) -> Result<u64, Errno> {
    let handles = call.process().handles();
    let (server, client) = ipc::create()?;
    let server = handles.insert(Entry {
        object: Object::ChannelServer(server),
        rights: ServerEnd::RIGHTS,
    })?;
    let client = handles.insert(Entry {
        object: Object::ChannelClient(client),
        rights: ClientEnd::RIGHTS,
    });
    let outcome = client.and_then(|client| match copy::write(call.argument(0), &[server, client]) {
        Ok(()) => Ok(0),
        Err(errno) => {
            drop(handles.take(client, Rights::empty()));
            Err(errno)
        }
    });
    if outcome.is_err() {
        drop(handles.take(server, Rights::empty()));
    }
    outcome
}

/// Takes the message out of the caller's registers, and the objects that it moves out of the caller's table.
fn parcel_of(call: &Call) -> Result<Parcel, Errno> {
    let frame = &call.frame;
    let info = MessageInfo(frame.rsi);
    if !info.is_valid() {
        return Err(Errno::EINVAL);
    }
    let words = [frame.rdx, frame.r10, frame.r8, frame.r9, frame.r12, frame.r13];
    let mut moved = ArrayVec::<Handle, WORDS>::new();
    for &word in &words[WORDS - info.handles()..] {
        moved.push(u32::try_from(word).map(Handle).map_err(|_| Errno::EBADF)?);
    }
    // All or none: a refused message moves nothing.
    let entries = call.process().handles().take_all(&moved, Rights::TRANSFER)?;
    Ok(Parcel {
        message: Message { info, words },
        entries,
    })
}

/// Puts a message into the registers and its objects into the caller's table.
fn unpack(call: &mut Call, parcel: Parcel) -> Result<(), Errno> {
    let Parcel {
        message: Message { info, mut words },
        entries,
    } = parcel;
    let handles = call.process().handles();
    let first = WORDS - entries.len();
    for (offset, entry) in entries.into_iter().enumerate() {
        match handles.insert(entry) {
            Ok(handle) => words[first + offset] = u64::from(handle.0),
            Err(errno) => {
                for &word in &words[first..first + offset] {
                    drop(handles.take(Handle(word as u32), Rights::empty()));
                }
                return Err(errno);
            }
        }
    }
    let frame = &mut *call.frame;
    frame.rsi = info.0;
    [frame.rdx, frame.r10, frame.r8, frame.r9, frame.r12, frame.r13] = words;
    Ok(())
}

/// `channel_call(client, info, words...)`.
pub fn call(call: &mut Call) -> Result<u64, Errno> {
    let client = call.object(0, Object::client, Rights::CALL)?;
    let parcel = parcel_of(call)?;
    let answer = ipc::call(call.thread, &client, parcel)?;
    unpack(call, answer)?;
    Ok(0)
}

/// `channel_receive(server, timeout)`.
pub fn receive(call: &mut Call) -> Result<u64, Errno> {
    let server = call.object(0, Object::server, Rights::RECEIVE)?;
    let deadline = deadline_after(call.argument(1));
    loop {
        let (reply, parcel) = ipc::receive(call.thread, &server, deadline)?;
        let reply = Arc::new(reply);
        // The token first: a message that has been unpacked must arrive.
        let token = call.process().handles().insert(Entry {
            object: Object::Reply(reply.clone()),
            rights: Rights::empty(),
        });
        let outcome = token.and_then(|token| match unpack(call, parcel) {
            Ok(()) => Ok(token),
            Err(errno) => {
                drop(call.process().handles().take(token, Rights::empty()));
                Err(errno)
            }
        });
        match outcome {
            Ok(token) => return Ok(u64::from(token.0)),
            // A caller that gave up meanwhile needs no answer.
            Err(errno) => {
                let _unanswered = reply.answer(Err(errno));
            }
        }
        // A caller whose handles do not fit has been told; the receiver waits for the next. Callers that go on like this for ever
        // keep it neither from ending nor from giving way. Without room for a token there is no point in it.
        token?;
        call.thread.interrupted()?;
        sched::offer();
    }
}

/// `channel_reply(token, info, words...)`.
pub fn reply(call: &mut Call) -> Result<u64, Errno> {
    let reply = call.object(0, Object::reply, Rights::empty())?;
    // The token is used up whatever happens: a caller whose answer cannot be built gets EPIPE.
    drop(call.process().handles().take(call.handle(0)?, Rights::empty())?);
    let parcel = parcel_of(call)?;
    reply.answer(Ok(parcel)).map(|()| 0)
}
