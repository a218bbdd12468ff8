//! Children: each one is registered while it runs, so that a signal to xtask can end them all.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use super::shown;

/// What must be ended and removed before xtask may end.
#[derive(Default)]
struct Owned {
    /// Child process number -> whether it leads a process group of its own.
    children: BTreeMap<u32, bool>,
    scratch: Vec<PathBuf>,
}

static OWNED: LazyLock<Mutex<Owned>> = LazyLock::new(Mutex::default);

fn owned() -> MutexGuard<'static, Owned> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that ends every child when xtask is told to end. Called once, first thing in `main`.
pub fn end_children_on_signals() -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .context("could not install the handlers for SIGINT and SIGTERM")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal != SIGINT || !INTERRUPT_IS_THE_CHILDS.load(Ordering::Relaxed) {
                end_everything(128 + signal);
            }
        }
    });
    Ok(())
}

/// From now on SIGINT does not end xtask: the program in the foreground has a use of its own for it.
pub fn leave_interrupt_to_children() {
    INTERRUPT_IS_THE_CHILDS.store(true, Ordering::Relaxed);
}

static INTERRUPT_IS_THE_CHILDS: AtomicBool = AtomicBool::new(false);

/// Ends every child, waits a moment for them, removes the scratch folders, and exits. The lock is held to the end, so
/// that no other thread starts something new or reports that its child has gone.
fn end_everything(status: i32) -> ! {
    let owned = owned();
    for (&pid, &leads_group) in &owned.children {
        send(pid, leads_group, Signal::TERM);
    }
    let mut left: Vec<Pid> = owned.children.keys().filter_map(|&pid| number(pid)).collect();
    reap(&mut left, Duration::from_secs(3));
    for (&pid, _) in owned.children.iter().filter(|(_, leads_group)| **leads_group) {
        send(pid, true, Signal::KILL);
    }
    reap(&mut left, Duration::from_secs(1));
    for folder in &owned.scratch {
        let _ = std::fs::remove_dir_all(folder);
    }
    crate::terminal::restore();
    std::process::exit(status)
}

/// Waits for children, for at most `limit`; those that have ended are taken from the list.
fn reap(left: &mut Vec<Pid>, limit: Duration) {
    use rustix::process::{WaitOptions, waitpid};
    let deadline = Instant::now() + limit;
    loop {
        left.retain(|&pid| matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)));
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn send(pid: u32, leads_group: bool, signal: Signal) {
    let Some(pid) = number(pid) else { return };
    // A child that has just ended is no error: the aim is reached.
    let _ = if leads_group {
        rustix::process::kill_process_group(pid, signal)
    } else {
        rustix::process::kill_process(pid, signal)
    };
}

/// A folder for sockets, images and logs of one run, short enough for a UNIX socket's path. Removed when dropped,
/// and when a signal ends xtask.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes a new, empty folder.
    pub fn new() -> Result<Self> {
        Self::inside(&std::env::temp_dir())
            .context("could not use the temporary folder (TMPDIR); is it writable and not full?")
    }

    /// Makes a new, empty folder in `parent`, so that what it holds can be renamed to another name there.
    pub fn inside(parent: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("dragonet-")
            .tempdir_in(parent)
            .with_context(|| format!("could not make a scratch folder in {}", parent.display()))?;
        owned().scratch.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        owned().scratch.retain(|path| path != self.0.path());
    }
}

/// A child process that does not outlive this value.
pub struct Running {
    /// The child, for its pipes.
    pub child: Child,
    leads_group: bool,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command`. With `own_group` it leads a new process group and the whole group is ended with it (for
    /// programs in the background); without, it stays in the terminal's foreground group and may read from it.
    pub fn start(command: &mut Command, own_group: bool) -> Result<Self> {
        if own_group {
            command.process_group(0);
        }
        let mut owned = owned();
        let child = command.spawn().with_context(|| {
            format!(
                "could not start a program\n  ran: {}\n  what to do: see whether it is installed; `cargo xtask setup` installs \
                 what is needed",
                shown(command)
            )
        })?;
        owned.children.insert(child.id(), own_group);
        Ok(Self {
            child,
            leads_group: own_group,
            status: None,
        })
    }

    /// The exit status, if the child has ended.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let mut owned = owned();
            self.status = self
                .child
                .try_wait()
                .context("could not wait for a child process")?;
            if self.status.is_some() {
                owned.children.remove(&self.child.id());
            }
        }
        Ok(self.status)
    }

    /// Waits for the end of the child, for at most `limit`. `None`: it still runs.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.poll()? {
                return Ok(Some(status));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Sends SIGINT (Bochs' debugger takes it as "stop").
    pub fn interrupt(&self) {
        if self.status.is_none() {
            send(self.child.id(), self.leads_group, Signal::INT);
        }
    }

    /// Ends the child: SIGTERM, and after two seconds SIGKILL.
    pub fn end(&mut self) {
        if matches!(self.poll(), Ok(Some(_))) {
            return;
        }
        send(self.child.id(), self.leads_group, Signal::TERM);
        if matches!(self.wait(Some(Duration::from_secs(2))), Ok(Some(_))) {
            return;
        }
        send(self.child.id(), self.leads_group, Signal::KILL);
        let _ = self.wait(Some(Duration::from_secs(5)));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        owned().children.remove(&self.child.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::command;

    #[test]
    fn a_dropped_child_is_gone_with_its_group() {
        let mut command = command("sh");
        command
            .args(["-c", "sleep 1000 & wait"])
            .stdin(std::process::Stdio::null());
        let running = Running::start(&mut command, true).unwrap();
        let group = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
        drop(running);
        let deadline = Instant::now() + Duration::from_secs(5);
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(Instant::now() < deadline, "the group outlived its guard");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
