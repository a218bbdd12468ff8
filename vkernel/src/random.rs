//! Random bytes for programs: ChaCha20 (RFC 8439) as a generator, its key replaced after every request so that what was given out
//! cannot be found from what is kept.
//!
//! The first key comes from the CPU's random instructions where there are any, and from clocks; see the caveats in the book.

/// Words of the cipher's state.
const WORDS: usize = 16;
/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The generator.
pub struct Random {
    key: [u32; 8],
}

impl Random {
    /// A generator with this key.
    pub const fn new(key: [u32; 8]) -> Self {
        Random { key }
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut counter = 1;
        for chunk in buffer.chunks_mut(4 * WORDS) {
            let block = block(&self.key, counter, [0; 3]);
            for (byte, random) in chunk
                .iter_mut()
                .zip(block.iter().flat_map(|word| word.to_le_bytes()))
            {
                *byte = random;
            }
            counter = counter.wrapping_add(1);
        }
        let next = block(&self.key, 0, [0; 3]);
        self.key.copy_from_slice(&next[..8]);
    }
}

fn block(key: &[u32; 8], counter: u32, nonce: [u32; 3]) -> [u32; WORDS] {
    let mut start = [0; WORDS];
    start[..4].copy_from_slice(&CONSTANTS);
    start[4..12].copy_from_slice(key);
    start[12] = counter;
    start[13..].copy_from_slice(&nonce);
    let mut state = start;
    for _ in 0..10 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter_round(&mut state, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter_round(&mut state, a, b, c, d);
        }
    }
    for (word, first) in state.iter_mut().zip(start) {
        *word = word.wrapping_add(first);
    }
    state
}

fn quarter_round(state: &mut [u32; WORDS], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, rotation) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(rotation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, section 2.3.2.
    #[test]
    fn the_block_function_is_chacha20() {
        let key: [u32; 8] = core::array::from_fn(|index| {
            let first = 4 * index as u32;
            first | (first + 1) << 8 | (first + 2) << 16 | (first + 3) << 24
        });
        let block = block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(block[0], 0xe4e7_f110);
        assert_eq!(block[1], 0x1559_3bd1);
        assert_eq!(block[15], 0x4e3c_50a2);
    }

    #[test]
    fn output_does_not_repeat() {
        let mut random = Random::new([1; 8]);
        let mut first = [0; 100];
        let mut second = [0; 100];
        random.fill(&mut first);
        random.fill(&mut second);
        assert_ne!(first, second);
        assert_ne!(first[..50], first[50..]);
    }
}
