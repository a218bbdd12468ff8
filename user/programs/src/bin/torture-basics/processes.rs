//! Processes that are killed at any moment of what they do.

use crate::{Problem, doing};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use dragonet_abi::process::{ENDED_EXIT, ENDED_KILLED};
use dragonet_abi::time::FOREVER;
use dragonet_programs::random::Random;
use dragonet_rt::process::{Child, Command};
use dragonet_rt::{ExitCode, channel, memory::Mapping, syscall, system, thread, time};

const CHILDREN: usize = 4;
const ROUNDS: usize = 6;
const MODES: [&str; 6] = ["spin", "sleep", "threads", "memory", "channel", "vmspaces"];
/// The status with which children are killed.
const KILLED: u8 = 77;
/// The status of a child that could not do its work.
const BROKEN: u8 = 3;

/// Starts children, kills them after a random time, and checks that they died of that.
pub fn run(random: &mut Random) -> Result<(), Problem> {
    for _ in 0..ROUNDS {
        let mut children = alloc::vec::Vec::new();
        for _ in 0..CHILDREN {
            let mode = MODES[random.below(MODES.len() as u64) as usize];
            let child = Command::new("torture-basics")
                .argument("-c")
                .argument(mode)
                .spawn();
            children.push((
                mode,
                child.map_err(|error| Problem::Wrong(alloc::format!("starting a child: {error}")))?,
            ));
        }
        for (mode, child) in children {
            time::sleep(Duration::from_micros(random.below(4000)));
            child.kill(KILLED).map_err(doing("killing a child"))?;
            check_end(mode, &child)?;
        }
    }
    Ok(())
}

fn check_end(mode: &str, child: &Child) -> Result<(), Problem> {
    let ending = child.wait().map_err(doing("waiting for a child"))?;
    if ending.0.reason == ENDED_KILLED && ending.0.status == u32::from(KILLED) {
        return Ok(());
    }
    let hint = if ending.0.reason == ENDED_EXIT && ending.status() == BROKEN {
        ", the kernel refused it something"
    } else {
        ""
    };
    Err(Problem::Wrong(alloc::format!(
        "a child doing {mode} ended with: {ending}{hint}"
    )))
}

/// What a child does until it is killed.
pub fn be_a_child(mode: &str) -> ExitCode {
    let outcome = match mode {
        "spin" => loop {
            core::hint::spin_loop();
        },
        "sleep" => loop {
            time::sleep(Duration::from_micros(300));
        },
        "threads" => threads(),
        "memory" => memory(),
        "channel" => channels(),
        "vmspaces" => vmspaces(),
        "self" => crate::own_handles::be_a_child(),
        _ => return ExitCode::USAGE,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode(BROKEN),
    }
}

/// Threads that sleep for ever beside others that come and go.
fn threads() -> Result<(), dragonet_abi::Errno> {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    for _ in 0..6 {
        thread::spawn(|| {
            while NEVER.load(Ordering::Relaxed) == 0 {
                let _ = syscall::umtx_sleep(&NEVER, 0, FOREVER);
            }
        })?;
    }
    loop {
        let _ = thread::spawn(thread::yield_now)?.join();
    }
}

/// Memory that is mapped, touched and unmapped.
fn memory() -> Result<(), dragonet_abi::Errno> {
    let kept = Mapping::anonymous(64 * 4096)?;
    loop {
        let short = Mapping::anonymous(32 * 4096)?;
        for page in 0..32 {
            short.write(page * 4096, &[1])?;
            kept.write(page * 2 * 4096, &[2])?;
        }
    }
}

/// Calls that are never answered.
fn channels() -> Result<(), dragonet_abi::Errno> {
    let (server, client) = channel::create()?;
    thread::spawn(move || {
        // Calls are received and kept, so that every caller waits.
        let mut calls = alloc::vec::Vec::new();
        while let Ok(call) = server.receive(FOREVER) {
            calls.push(call);
        }
    })?;
    for _ in 0..4 {
        let client = client.get();
        thread::spawn(move || channel::call(client, 1, [0; 6]).is_ok())?;
    }
    channel::call(client.get(), 1, [0; 6]).map(drop)
}

/// vmspaces that come and go.
fn vmspaces() -> Result<(), dragonet_abi::Errno> {
    let system = system::handle()?;
    loop {
        let _unused = syscall::vmspace_create(system)?;
        let destroyed = syscall::vmspace_create(system)?;
        syscall::vmspace_destroy(destroyed).map_err(|(_, errno)| errno)?;
    }
}
