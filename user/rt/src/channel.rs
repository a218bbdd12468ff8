//! Channels with owners: a client end to call through, a server end to receive on, and calls that get exactly one reply.

#![forbid(unsafe_code)]

use crate::{OwnedHandle, syscall};
use dragonet_abi::channel::{Message, MessageInfo, WORDS};
use dragonet_abi::{Errno, Handle};

/// Makes a channel.
///
/// # Errors
/// `ENOMEM`, `EMFILE`.
pub fn create() -> Result<(Server, OwnedHandle), Errno> {
    let (server, client) = syscall::channel_create()?;
    Ok((Server(server), client))
}

/// Calls through a client end: sends words, waits for the reply.
///
/// # Errors
/// `EBADF`, `EPERM` (CALL), `EPIPE`, `EINTR`.
pub fn call(client: Handle, label: u32, words: [u64; WORDS]) -> Result<Message, Errno> {
    syscall::channel_call(
        client,
        &Message {
            info: MessageInfo::new(label, 0),
            words,
        },
    )
}

/// As [`call`], and moves a handle, which takes the place of the last word.
///
/// # Errors
/// As for [`call`], and `EPERM` (TRANSFER on the handle). The handle is closed then.
pub fn call_with_handle(
    client: Handle,
    label: u32,
    mut words: [u64; WORDS],
    handle: OwnedHandle,
) -> Result<Message, Errno> {
    words[WORDS - 1] = u64::from(handle.get().0);
    let reply = syscall::channel_call(
        client,
        &Message {
            info: MessageInfo::new(label, 1),
            words,
        },
    )?;
    // The handle went with the message; its number is no longer ours to close.
    let _ = handle.into_raw();
    Ok(reply)
}

/// A server end.
#[derive(Debug)]
pub struct Server(OwnedHandle);

impl Server {
    /// Takes over a server end that this program was given.
    #[must_use]
    pub const fn from_handle(handle: OwnedHandle) -> Self {
        Server(handle)
    }

    /// The handle, still owned.
    #[must_use]
    pub const fn get(&self) -> Handle {
        self.0.get()
    }

    /// Waits for a call. `timeout` in nanoseconds from now.
    ///
    /// # Errors
    /// `EPIPE` when every client is gone, `ETIMEDOUT`, `EINTR` for an enabled virtual interrupt.
    pub fn receive(&self, timeout: u64) -> Result<Call, Errno> {
        let (token, message) = syscall::channel_receive(self.0.get(), timeout)?;
        Ok(Call { token, message })
    }
}

/// A call that waits for its reply. Dropping it replies [`Errno::EIO`] with no words; handles that came with the call and
/// were not taken are closed.
#[derive(Debug)]
pub struct Call {
    /// 0 once replied.
    token: u64,
    message: Message,
}

impl Call {
    /// What the caller wants.
    #[must_use]
    pub const fn label(&self) -> u32 {
        self.message.info.label()
    }

    /// The words of the message.
    #[must_use]
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.message.words
    }

    /// Takes the handle that came as the last word, if there is one.
    pub fn take_handle(&mut self) -> Option<OwnedHandle> {
        let handles = self.message.info.handles();
        if handles == 0 {
            return None;
        }
        let word = core::mem::take(&mut self.message.words[WORDS - 1]);
        let handle = Handle(word as u32);
        handle.is_some().then_some(OwnedHandle::from_raw(handle))
    }

    /// Answers the call.
    ///
    /// # Errors
    /// `EPIPE` when the caller is gone.
    pub fn reply(mut self, label: u32, words: [u64; WORDS]) -> Result<(), Errno> {
        let token = core::mem::take(&mut self.token);
        syscall::channel_reply(
            token,
            &Message {
                info: MessageInfo::new(label, 0),
                words,
            },
        )
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let handles = self.message.info.handles();
        for word in &self.message.words[WORDS - handles.min(WORDS)..] {
            let handle = Handle(*word as u32);
            if handle.is_some() {
                drop(OwnedHandle::from_raw(handle));
            }
        }
        if self.token != 0 {
            let reply = Message {
                info: MessageInfo::new(Errno::EIO as u32, 0),
                words: [0; WORDS],
            };
            // The caller may be gone, then there is nobody to tell.
            let _ = syscall::channel_reply(self.token, &reply);
        }
    }
}
