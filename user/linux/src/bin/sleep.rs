//! Sleeps: `sleep SECONDS`, with a fraction if wanted.

fn main() {
    let seconds: f64 = std::env::args()
        .nth(1)
        .map_or(1.0, |word| word.parse().expect("a number"));
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
}
