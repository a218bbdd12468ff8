//! Counts of what exists, before and after.

use crate::Problem;
use core::time::Duration;
use dragonet_abi::system::SystemInfo;
use dragonet_rt::{syscall, time};

/// How long the kernel may take to free what is no longer used.
const PATIENCE: Duration = Duration::from_secs(5);
/// Frames by which caches and the kernel's heap may have grown.
const TOLERANCE: u64 = 64;

/// What existed at one moment.
pub struct Ledger(Option<SystemInfo>);

impl Ledger {
    pub fn now() -> Self {
        Ledger(syscall::system_info().ok())
    }

    /// Waits until there is no more of anything than there was.
    pub fn settle(&self) -> Result<(), Problem> {
        let deadline = time::now() + PATIENCE;
        loop {
            match self.compare() {
                Err(_) if time::now() < deadline => time::sleep(Duration::from_millis(20)),
                outcome => return outcome,
            }
        }
    }

    fn compare(&self) -> Result<(), Problem> {
        let (Some(before), Ok(after)) = (&self.0, syscall::system_info()) else {
            return Err(Problem::Wrong("no system information".into()));
        };
        let counts = [
            ("processes", before.processes, after.processes),
            ("threads", before.threads, after.threads),
            ("vmspaces", before.vmspaces, after.vmspaces),
            ("memory objects", before.memory_objects, after.memory_objects),
            ("handles", before.handles, after.handles),
            ("channels", before.channels, after.channels),
        ];
        for (name, before, after) in counts {
            if after > before {
                return Err(Problem::Wrong(alloc::format!(
                    "{before} {name} before, {after} after"
                )));
            }
        }
        if after.frames_free + TOLERANCE < before.frames_free {
            let (before, after) = (before.frames_free, after.frames_free);
            return Err(Problem::Wrong(alloc::format!(
                "{before} free frames before, {after} after"
            )));
        }
        Ok(())
    }
}
