//! Keeps a CPU busy for some seconds and makes no system call meanwhile: `spin [SECONDS]`, for ever by default.

use std::time::{Duration, Instant};

fn main() {
    let seconds: Option<u64> = std::env::args()
        .nth(1)
        .map(|word| word.parse().expect("a number"));
    println!("spin: begins");
    let begin = Instant::now();
    loop {
        for round in 0..20_000_000_u64 {
            std::hint::black_box(round);
        }
        if seconds.is_some_and(|seconds| begin.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
    }
    println!("spin: ends");
}
