//! System calls with random numbers and arguments, from several children at once: `fuzz [SEED [ROUNDS [CHILDREN]]]`. The children may die of it in any
//! way; the kernel must not.
//!
//! The seed is printed, so that a run can be repeated: what one child calls depends on the seed, its number and its round alone.

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Calls of one child.
const CALLS: u32 = 300;
/// A child that lives longer is killed: it may well wait for ever.
const LIFE: Duration = Duration::from_millis(400);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// Numbers that kernels trip over.
const ODD: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    64,
    255,
    0xfff,
    0x1000,
    0x1001,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_e000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 1,
    u64::MAX,
];

fn argument(random: &mut Random, memory: u64) -> u64 {
    match random.below(8) {
        0 => random.pick(&ODD),
        1 => random.below(16),
        2 => memory + random.below(0x3000),
        3 => memory + 0x1000 - random.below(16),
        4 => memory + random.pick(&[0, 8, 0x1000, 0x2000, 0x3000]),
        5 => random.below(1 << 16),
        6 => random.next() & random.next() & random.next(),
        _ => -(random.below(5) as i64) as u64,
    }
}

/// Calls that would end or signal the wrong process, or only make the child end early.
fn is_left_out(number: i64) -> bool {
    [
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
    .contains(&number)
}

fn misuse(seed: u64) -> ! {
    let mut random = Random(seed | 1);
    // SAFETY: this process has nothing that could be damaged.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for number in 0..3 {
            libc::dup2(null, number);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let memory = libc::mmap(std::ptr::null_mut(), 0x3000, protection, flags, -1, 0) as u64;
        libc::munmap((memory + 0x2000) as *mut libc::c_void, 0x1000);
        for word in 0..0x200 {
            let value = argument(&mut random, memory);
            ((memory + 8 * word) as *mut u64).write_volatile(value);
        }
        for _ in 0..CALLS {
            let number = match random.below(10) {
                0 => random.next() as i64,
                1 => random.below(600) as i64,
                _ => random.below(335) as i64,
            };
            let mut arguments = [0; 6];
            for value in &mut arguments {
                *value = argument(&mut random, memory);
            }
            if is_left_out(number & 0xffff_ffff) {
                continue;
            }
            let [a, b, c, d, e, f] = arguments;
            libc::syscall(number, a, b, c, d, e, f);
        }
        libc::_exit(0)
    }
}

fn main() -> ExitCode {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"));
    let seed: u64 = numbers.next().unwrap_or(1);
    let rounds: u64 = numbers.next().unwrap_or(20);
    let count: u64 = numbers.next().unwrap_or(3);
    println!("fuzz: seed {seed}, {rounds} rounds of {count} children");
    let mut ended = [0_u32; 3];
    for round in 0..rounds {
        let mix = |child: u64| (seed << 40 ^ round << 8 ^ child).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let children: Vec<i32> = (0..count)
            .map(|child| {
                // SAFETY: the program has one thread.
                match unsafe { libc::fork() } {
                    0 => misuse(mix(child)),
                    -1 => panic!("fork: {}", std::io::Error::last_os_error()),
                    process => process,
                }
            })
            .collect();
        let begin = Instant::now();
        let mut left = children;
        while !left.is_empty() {
            left.retain(|child| {
                let mut status = 0;
                // SAFETY: `status` is ours.
                let waited = unsafe { libc::waitpid(*child, &mut status, libc::WNOHANG) };
                if waited == *child {
                    ended[if libc::WIFEXITED(status) { 0 } else { 1 }] += 1;
                }
                waited == 0
            });
            if !left.is_empty() && begin.elapsed() > LIFE {
                for child in &left {
                    // SAFETY: no memory is involved.
                    unsafe { libc::kill(*child, libc::SIGKILL) };
                    ended[2] += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    println!(
        "fuzz: {} children ended, {} died, of these {} had to be killed",
        ended[0], ended[1], ended[2]
    );
    ExitCode::SUCCESS
}
