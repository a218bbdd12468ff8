//! A loop that needs a CPU and says how far it is: `work [STEPS [THREADS]]`. One step is a fixed amount of work.

use std::thread;

fn step(seed: u64) -> u64 {
    (0..5_000_000_u64).fold(seed, |value, round| {
        (value ^ round)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(17)
    })
}

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"));
    let steps: u64 = numbers.next().unwrap_or(10);
    let threads: u64 = numbers.next().unwrap_or(1);
    let workers: Vec<_> = (0..threads)
        .map(|number| {
            thread::spawn(move || {
                let mut value = number;
                for done in 1..=steps {
                    value = step(value);
                    println!("work: thread {number}: {done} of {steps}");
                }
                value
            })
        })
        .collect();
    for worker in workers {
        println!("work: result {:#x}", worker.join().expect("a worker panicked"));
    }
}
