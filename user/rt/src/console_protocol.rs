//! What programs and the console server say to each other.
//!
//! Call labels: the operation in bits 0..=7, a count of bytes in bits 8..=15. Reply labels: 0 or an errno in bits 0..=15, a
//! count of bytes in bits 16..=23. Bytes travel in the words in memory order, up to [`INLINE_BYTES`] of them.
//!
//! | operation | words | handle | reply |
//! |---|---|---|---|
//! | [`WRITE_INLINE`] | the bytes | - | when the bytes are with the device |
//! | [`WRITE_OBJECT`] | length, offset | memory object, READ | when the bytes are with the device |
//! | [`READ`] | most bytes, nanoseconds to wait | - | the bytes; `ETIMEDOUT` |
//! | [`SET_FOREGROUND`] | - | process, KILL | the interrupt key now kills this process |
//! | [`CLEAR_FOREGROUND`] | - | - | the interrupt key is input again |
//!
//! The bytes of one write call are never mixed with those of another. Line ends are `\n`; the server adds what the
//! terminal needs. Input is as typed: echo and editing are the reader's business.

#![forbid(unsafe_code)]

use dragonet_abi::Errno;
use dragonet_abi::channel::WORDS;

/// Writes bytes that are in the words.
pub const WRITE_INLINE: u32 = 1;
/// Writes bytes of a memory object.
pub const WRITE_OBJECT: u32 = 2;
/// Waits for input.
pub const READ: u32 = 3;
/// Names the process that the interrupt key (Ctrl-C) kills. The registration ends when the key was used.
pub const SET_FOREGROUND: u32 = 4;
/// Names no process.
pub const CLEAR_FOREGROUND: u32 = 5;

/// Bytes that fit into the words of a message.
pub const INLINE_BYTES: usize = WORDS * 8;
/// Bytes of a memory object that one call writes at most.
pub const OBJECT_BYTES: usize = 4096;
/// Exit status of a process that the interrupt key killed: 128 + 2, as after SIGINT.
pub const INTERRUPTED_STATUS: u8 = 130;

/// The label of a call.
#[must_use]
pub const fn call_label(operation: u32, bytes: usize) -> u32 {
    operation | (bytes as u32) << 8
}

/// Operation and count of bytes of a call.
#[must_use]
pub const fn split_call(label: u32) -> (u32, usize) {
    (label & 0xff, (label >> 8) as usize & 0xff)
}

/// The label of a reply.
#[must_use]
pub const fn reply_label(outcome: Result<usize, Errno>) -> u32 {
    match outcome {
        Ok(bytes) => (bytes as u32) << 16,
        Err(errno) => errno as u32,
    }
}

/// Outcome and count of bytes of a reply.
///
/// # Errors
/// The one that the reply reports.
pub const fn split_reply(label: u32) -> Result<usize, Errno> {
    match (label & 0xffff) as u16 {
        0 => Ok((label >> 16) as usize & 0xff),
        number => match Errno::from_number(number) {
            Some(errno) => Err(errno),
            None => Err(Errno::EIO),
        },
    }
}

/// Puts bytes into words; those beyond [`INLINE_BYTES`] are left out.
#[must_use]
pub fn pack(bytes: &[u8]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut buffer = [0; 8];
        buffer[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(buffer);
    }
    words
}

/// The bytes of the words, of which the receiver uses as many as the label counts.
#[must_use]
pub fn unpack(words: &[u64; WORDS]) -> [u8; INLINE_BYTES] {
    let mut bytes = [0; INLINE_BYTES];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_in_words() {
        let bytes: [u8; INLINE_BYTES] = core::array::from_fn(|index| index as u8 + 1);
        assert_eq!(unpack(&pack(&bytes)), bytes);
        assert_eq!(unpack(&pack(b"abcdefghi"))[..10], *b"abcdefghi\0");
        assert_eq!(pack(&[0xff; INLINE_BYTES + 9]), [u64::MAX; WORDS]);
    }

    #[test]
    fn labels() {
        assert_eq!(split_call(call_label(WRITE_INLINE, 48)), (WRITE_INLINE, 48));
        assert_eq!(split_reply(reply_label(Ok(48))), Ok(48));
        for errno in Errno::ALL {
            assert_eq!(split_reply(reply_label(Err(*errno))), Err(*errno));
        }
        assert_eq!(split_reply(0xffff), Err(Errno::EIO));
    }
}
