//! Counts of what exists on the machine, before and after: a test that ends with more than it began with has leaked.

use alloc::format;
use alloc::string::String;
use core::time::Duration;
use dragonet_abi::system::SystemInfo;
use dragonet_rt::{syscall, time};

/// How long the kernel may take to free what is no longer used.
const PATIENCE: Duration = Duration::from_secs(5);
/// Frames by which caches and the kernel's heap may have grown.
const TOLERANCE: u64 = 64;

/// What existed at one moment.
#[derive(Debug)]
pub struct Ledger(Option<SystemInfo>);

impl Ledger {
    /// What exists now.
    #[must_use]
    pub fn now() -> Self {
        Ledger(syscall::system_info().ok())
    }

    /// Waits until there is no more of anything than there was.
    ///
    /// # Errors
    /// What there is too much of, after seconds of waiting.
    pub fn settle(&self) -> Result<(), String> {
        let deadline = time::now() + PATIENCE;
        loop {
            match self.compare() {
                Err(_) if time::now() < deadline => time::sleep(Duration::from_millis(20)),
                outcome => return outcome,
            }
        }
    }

    fn compare(&self) -> Result<(), String> {
        let (Some(before), Ok(after)) = (&self.0, syscall::system_info()) else {
            return Err("no system information".into());
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
                return Err(format!("{before} {name} before, {after} after"));
            }
        }
        if after.frames_free + TOLERANCE < before.frames_free {
            let (before, after) = (before.frames_free, after.frames_free);
            return Err(format!("{before} free frames before, {after} after"));
        }
        Ok(())
    }
}
