//! Channels: synchronous call and reply with a few words in registers.
//!
//! A message is a 32-bit label, up to [`WORDS`] words, of which the last `handles` are handles to transfer. Handles need
//! [`super::Rights::TRANSFER`] and are *moved*: duplicate first to keep one. The receiver finds its own handle in the word.
//!
//! Registers, in and out alike: `rsi` = [`MessageInfo`], words in `rdx r10 r8 r9 r12 r13`. `rdi` = the handle or reply token.
//! - `channel_call(client)` returns 0 and the reply message.
//! - `channel_receive(server, timeout in rsi)` returns a reply token (above 0) and the call's message.
//!   A message whose handles find no room in the receiver's table is refused: its caller gets `EMFILE`, the receiver the next
//!   message. Without room even for the token, both get `EMFILE`.
//! - `channel_reply(token)` sends the message as the reply; the token is used up, whatever the outcome.
//!
//! When the server closes or dies, waiting and later callers get `EPIPE`. When all clients are gone, `channel_receive`
//! returns `EPIPE`. Handles are checked together before the first one moves, so a call that fails with `EBADF`, `EPERM` or `EINVAL` has moved
//! none; with any other error they are gone. A caller that is killed leaves a token whose reply fails with `EPIPE` and moves no handle.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Words of a message.
pub const WORDS: usize = 6;

/// Label in bits 0..=31, count of handles in bits 32..=35 (0 to [`WORDS`]), all else zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct MessageInfo(pub u64);

impl MessageInfo {
    /// A label and a count of handles.
    #[must_use]
    pub const fn new(label: u32, handles: usize) -> Self {
        MessageInfo(label as u64 | (handles as u64) << 32)
    }

    /// What the message is about; the server's protocol gives it meaning.
    #[must_use]
    pub const fn label(self) -> u32 {
        self.0 as u32
    }

    /// How many of the last words are handles.
    #[must_use]
    pub const fn handles(self) -> usize {
        (self.0 >> 32) as usize & 0xf
    }

    /// False if reserved bits are set or there are more handles than words.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 >> 36 == 0 && self.handles() <= WORDS
    }
}

/// A whole message, as the runtime passes it around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Label and count of handles.
    pub info: MessageInfo,
    /// Contents.
    pub words: [u64; WORDS],
}
