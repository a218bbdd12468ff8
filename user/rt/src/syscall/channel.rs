//! Channels.

use super::raw::{call, call_with_message};
use crate::OwnedHandle;
use dragonet_abi::channel::Message;
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// A new channel: server end and client end.
///
/// # Errors
/// `ENOMEM`, `EMFILE`.
pub fn channel_create() -> Result<(OwnedHandle, OwnedHandle), Errno> {
    let mut ends = [Handle::NONE; 2];
    // SAFETY: the kernel writes two handles into `ends`.
    unsafe { call(SyscallNumber::ChannelCreate, [ends.as_mut_ptr() as u64])? };
    Ok((OwnedHandle::from_raw(ends[0]), OwnedHandle::from_raw(ends[1])))
}

/// Sends a message and waits for the reply. Handles in the message are moved.
///
/// # Errors
/// `EBADF`, `EPERM` (CALL, or TRANSFER on a handle), `EPIPE`, `EINTR`, `EINVAL`.
pub fn channel_call(client: Handle, message: &Message) -> Result<Message, Errno> {
    call_with_message(
        SyscallNumber::ChannelCall,
        u64::from(client.0),
        message.info.0,
        message.words,
    )
    .map(|(_, reply)| reply)
}

/// Waits for a call; returns its reply token and the message. `timeout` in nanoseconds from now.
///
/// # Errors
/// `EBADF`, `EPERM` (RECEIVE), `EPIPE` when every client is gone, `ETIMEDOUT`, `EINTR`, `EMFILE`.
pub fn channel_receive(server: Handle, timeout: u64) -> Result<(u64, Message), Errno> {
    call_with_message(
        SyscallNumber::ChannelReceive,
        u64::from(server.0),
        timeout,
        [0; 6],
    )
}

/// Answers the call that `token` stands for. The token is used up, whatever the outcome.
///
/// # Errors
/// `EBADF` for a token that is not this process's, `EPIPE` when the caller is gone, `EPERM` (TRANSFER on a handle).
pub fn channel_reply(token: u64, message: &Message) -> Result<(), Errno> {
    call_with_message(SyscallNumber::ChannelReply, token, message.info.0, message.words).map(drop)
}
