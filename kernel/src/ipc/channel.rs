//! Channels: a queue of callers between client ends and one server end. See [`dragonet_abi::channel`].

use super::call::{Parcel, Reply};
use crate::debug::counters;
use crate::mm;
use crate::proc::{Thread, bury};
use crate::sched::{self, WaitQueue};
use crate::sync::{Rank, SpinLock};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Rights};

struct PendingCall {
    reply: Reply,
    caller: u64,
    parcel: Parcel,
}

struct Queue {
    calls: VecDeque<PendingCall>,
    server_open: bool,
    client_open: bool,
}

struct Channel {
    queue: SpinLock<Queue>,
    receivers: WaitQueue,
}

/// Receiving end; closes the channel when dropped.
pub struct ServerEnd(Arc<Channel>);

/// Calling end; the server is told when the last one is dropped.
pub struct ClientEnd(Arc<Channel>);

static ALIVE: AtomicU32 = AtomicU32::new(0);

/// Channels that have not been freed.
pub fn channels_alive() -> u32 {
    ALIVE.load(Ordering::Relaxed)
}

/// A new channel.
///
/// # Errors
/// ENOMEM.
pub fn create() -> Result<(Arc<ServerEnd>, Arc<ClientEnd>), Errno> {
    mm::check_headroom()?;
    ALIVE.fetch_add(1, Ordering::Relaxed);
    let queue = Queue {
        calls: VecDeque::new(),
        server_open: true,
        client_open: true,
    };
    let channel = Arc::new(Channel {
        queue: SpinLock::new(Rank::Channel, queue),
        receivers: WaitQueue::new(),
    });
    Ok((Arc::new(ServerEnd(channel.clone())), Arc::new(ClientEnd(channel))))
}

impl ServerEnd {
    /// Rights of a new server end.
    pub const RIGHTS: Rights = Rights::RECEIVE.union(Rights::DUPLICATE).union(Rights::TRANSFER);
}

impl ClientEnd {
    /// Rights of a new client end.
    pub const RIGHTS: Rights = Rights::CALL.union(Rights::DUPLICATE).union(Rights::TRANSFER);
}

/// Sends a message and waits for the reply.
///
/// # Errors
/// EPIPE when the server is gone or drops the call; EINTR; EMFILE when the server could not take the handles; ENOMEM.
pub fn call(thread: &Thread, client: &ClientEnd, parcel: Parcel) -> Result<Parcel, Errno> {
    counters::count(Counter::ChannelCall);
    let channel = &client.0;
    let slot = thread.call_slot();
    let sequence = slot.begin();
    let pending = PendingCall {
        reply: Reply::new(thread.arc(), sequence),
        caller: thread.id(),
        parcel,
    };
    let refused = {
        let mut queue = channel.queue.lock();
        if !queue.server_open {
            Some((pending, Errno::EPIPE))
        } else if queue.calls.try_reserve(1).is_err() {
            Some((pending, Errno::ENOMEM))
        } else {
            queue.calls.push_back(pending);
            None
        }
    };
    if let Some((pending, errno)) = refused {
        // Given up first, so that the end of the reply token finds nobody waiting.
        let _no_outcome = slot.abandon();
        drop(pending);
        return Err(errno);
    }
    channel.receivers.wake_all();
    loop {
        if let Some(outcome) = slot.take() {
            return outcome;
        }
        if let Err(errno) = thread.interrupted() {
            let unreceived = {
                let mut queue = channel.queue.lock();
                let position = queue
                    .calls
                    .iter()
                    .position(|pending| pending.caller == thread.id());
                position.and_then(|position| queue.calls.remove(position))
            };
            let outcome = slot.abandon();
            drop(unreceived);
            return outcome.unwrap_or(Err(errno));
        }
        sched::park(FOREVER);
    }
}

/// Waits for a call.
///
/// # Errors
/// EPIPE when no client is left and no call waits; ETIMEDOUT; EINTR.
pub fn receive(thread: &Thread, server: &ServerEnd, deadline: u64) -> Result<(Reply, Parcel), Errno> {
    let channel = &server.0;
    channel.receivers.wait(
        deadline,
        || thread.interrupted(),
        || {
            let mut queue = channel.queue.lock();
            match queue.calls.pop_front() {
                Some(PendingCall { reply, parcel, .. }) => Some(Ok((reply, parcel))),
                None if queue.client_open => None,
                None => Some(Err(Errno::EPIPE)),
            }
        },
    )?
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let calls = {
            let mut queue = self.0.queue.lock();
            queue.server_open = false;
            core::mem::take(&mut queue.calls)
        };
        // Each dropped call tells its caller, without our lock.
        for PendingCall { reply, parcel, .. } in calls {
            drop(reply);
            bury(parcel.entries);
        }
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.0.queue.lock().client_open = false;
        self.0.receivers.wake_all();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
