//! The log's memory: the newest records, in the form in which programs read them.

use dragonet_abi::system::{LogRecord, MAX_LOG_TEXT};
use zerocopy::{FromBytes, IntoBytes};

const SIZE: usize = 64 * 1024;
const HEADER: usize = size_of::<LogRecord>();
/// Records are padded to it.
const ALIGNMENT: usize = 8;

/// A ring of records of varying length. Positions count bytes since boot; the byte at a position is at its remainder by the size.
pub(super) struct LogRing {
    bytes: [u8; SIZE],
    start: u64,
    end: u64,
    next_sequence: u64,
}

impl LogRing {
    pub(super) const fn new() -> Self {
        LogRing {
            bytes: [0; SIZE],
            start: 0,
            end: 0,
            next_sequence: 0,
        }
    }

    /// Adds a record, dropping as many of the oldest as it takes. Text beyond the limit is cut.
    pub(super) fn push(&mut self, time: u64, level: u16, cpu: u16, text: &[u8]) {
        let text = &text[..text.len().min(MAX_LOG_TEXT)];
        let size = record_size(text.len());
        while self.end - self.start + size > SIZE as u64 {
            let oldest = self.header(self.start);
            self.start += record_size(oldest.length as usize);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let header = LogRecord {
            sequence,
            time,
            level,
            cpu,
            length: text.len() as u32,
        };
        self.put(self.end, header.as_bytes());
        self.put(self.end + HEADER as u64, text);
        let padding = size as usize - HEADER - text.len();
        self.put(
            self.end + (HEADER + text.len()) as u64,
            &[0; ALIGNMENT][..padding],
        );
        self.end += size;
    }

    /// Copies whole records from number `position` on, as many as fit, and returns the bytes they take.
    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        let (mut at, mut used) = (self.start, 0);
        while at < self.end {
            let header = self.header(at);
            let size = record_size(header.length as usize);
            if header.sequence >= position {
                let Some(target) = buffer.get_mut(used..used + size as usize) else {
                    break;
                };
                self.get(at, target);
                used += size as usize;
            }
            at += size;
        }
        used
    }

    fn header(&self, position: u64) -> LogRecord {
        let mut bytes = [0; HEADER];
        self.get(position, &mut bytes);
        LogRecord::read_from_bytes(&bytes).expect("the buffer has the header's size")
    }

    fn put(&mut self, position: u64, source: &[u8]) {
        let first = (position % SIZE as u64) as usize;
        let until_end = source.len().min(SIZE - first);
        self.bytes[first..first + until_end].copy_from_slice(&source[..until_end]);
        self.bytes[..source.len() - until_end].copy_from_slice(&source[until_end..]);
    }

    fn get(&self, position: u64, target: &mut [u8]) {
        let first = (position % SIZE as u64) as usize;
        let until_end = target.len().min(SIZE - first);
        let length = target.len();
        target[..until_end].copy_from_slice(&self.bytes[first..first + until_end]);
        target[until_end..].copy_from_slice(&self.bytes[..length - until_end]);
    }
}

fn record_size(text: usize) -> u64 {
    (HEADER + text).next_multiple_of(ALIGNMENT) as u64
}
