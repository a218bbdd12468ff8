//! Says its arguments and which CPU it runs on, from its first thread and from several others.

use std::thread;

/// Threads besides the first.
const THREADS: usize = 4;

/// The CPU that runs the calling thread, as the kernel says.
fn cpu() -> String {
    // SAFETY: the call takes no arguments.
    match unsafe { libc::sched_getcpu() } {
        cpu if cpu >= 0 => cpu.to_string(),
        _ => format!("? ({})", std::io::Error::last_os_error()),
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    println!(
        "hello: {}",
        if words.is_empty() {
            "world".to_string()
        } else {
            words.join(" ")
        }
    );
    println!("hello: the first thread is on cpu {}", cpu());
    let threads: Vec<_> = (1..=THREADS)
        .map(|number| thread::spawn(move || (number, cpu())))
        .collect();
    for thread in threads {
        let (number, cpu) = thread.join().expect("a thread panicked");
        println!("hello: thread {number} ran on cpu {cpu}");
    }
}
