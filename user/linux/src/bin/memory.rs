//! Uses memory: `memory [MIB]`, 8 by default. Fills it with a pattern, checks it, gives it back, and tries mappings of several kinds.

use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::process::ExitCode;

const PAGE: usize = 4096;

fn check(what: &str, good: bool) -> bool {
    println!("memory: {what}: {}", if good { "ok" } else { "FAILED" });
    good
}

fn pattern(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn fill_and_check(bytes: usize) -> bool {
    let mut words = vec![0_u64; bytes / 8];
    let zero = words.iter().all(|word| *word == 0);
    words
        .iter_mut()
        .enumerate()
        .for_each(|(index, word)| *word = pattern(index));
    zero && words
        .iter()
        .enumerate()
        .all(|(index, word)| *word == pattern(index))
}

/// Maps memory; null if that fails.
fn map(length: usize, protection: i32, flags: i32, file: i32) -> *mut u8 {
    // SAFETY: without MAP_FIXED nothing that exists is replaced.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file, 0) };
    if address == libc::MAP_FAILED {
        std::ptr::null_mut()
    } else {
        address.cast()
    }
}

/// Anonymous memory that a child shares.
fn shared_with_a_child() -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let shared = map(2 * PAGE, protection, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    if shared.is_null() {
        return false;
    }
    // SAFETY: two pages of ours; the child ends at once and is waited for before the pages are read again.
    unsafe {
        shared.write_volatile(1);
        match libc::fork() {
            0 => {
                let seen = shared.read_volatile() == 1;
                shared.add(PAGE).write_volatile(2);
                libc::_exit(i32::from(!seen))
            }
            child => {
                let mut status = 0;
                let waited = libc::waitpid(child, &mut status, 0) == child && status == 0;
                waited && shared.add(PAGE).read_volatile() == 2 && libc::munmap(shared.cast(), 2 * PAGE) == 0
            }
        }
    }
}

/// A file mapped shared and private at once.
fn mapped_file() -> std::io::Result<bool> {
    let path = "/tmp/dragonet-memory-test";
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.write_all(&vec![b'f'; PAGE + 100])?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let shared = map(2 * PAGE, protection, libc::MAP_SHARED, file.as_raw_fd());
    let private = map(2 * PAGE, protection, libc::MAP_PRIVATE, file.as_raw_fd());
    if shared.is_null() || private.is_null() {
        return Ok(false);
    }
    // SAFETY: two mappings of two pages each; volatile accesses, as both show the same file.
    let good = unsafe {
        private.write_volatile(b'p');
        shared.add(1).write_volatile(b's');
        let seen = shared.read_volatile() == b'f' && private.add(PAGE + 99).read_volatile() == b'f';
        seen && private.add(PAGE + 100).read_volatile() == 0 && private.read_volatile() == b'p'
    };
    let mut start = [0; 3];
    file.rewind()?;
    file.read_exact(&mut start)?;
    file.set_len(10)?;
    let length = file.metadata()?.len();
    std::fs::remove_file(path)?;
    Ok(good && &start == b"fsf" && length == 10)
}

/// Half of a mapping is given back and its neighbour is not touched.
fn holes() -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let start = map(4 * PAGE, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    if start.is_null() {
        return false;
    }
    // SAFETY: four pages of ours, of which only those that remain are used.
    unsafe {
        for page in 0..4 {
            start.add(page * PAGE).write_volatile(page as u8 + 1);
        }
        let cut = libc::munmap(start.add(PAGE).cast(), PAGE) == 0;
        let dropped = libc::madvise(start.add(2 * PAGE).cast(), PAGE, libc::MADV_DONTNEED) == 0;
        let locked = libc::mprotect(start.add(3 * PAGE).cast(), PAGE, libc::PROT_READ) == 0;
        cut && dropped
            && locked
            && start.read_volatile() == 1
            && start.add(2 * PAGE).read_volatile() == 0
            && start.add(3 * PAGE).read_volatile() == 4
    }
}

fn main() -> ExitCode {
    let mib: usize = std::env::args()
        .nth(1)
        .map_or(8, |word| word.parse().expect("a number"));
    let mut good = check(&format!("{mib} MiB"), fill_and_check(mib << 20));
    // Freed memory is used again, or the second round would need as much once more.
    good &= check("once more", fill_and_check(mib << 20));
    good &= check("shared with a child", shared_with_a_child());
    good &= check("a mapped file", mapped_file().is_ok_and(|good| good));
    good &= check("holes", holes());
    ExitCode::from(u8::from(!good))
}
