//! The shell, run once for a script or again and again for a person.

use core::time::Duration;
use dragonet_rt::process::Command;
use dragonet_rt::{error, time, warning};

/// Pause before the shell is started again after it died or could not be started.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a script and returns its status.
pub fn run_script(script: &str) -> u8 {
    let outcome = Command::new("sh").argument("-c").argument(script).spawn();
    let ending = match outcome {
        Ok(child) => child.wait(),
        Err(problem) => {
            error!("init: the shell cannot be started: {problem}");
            return 1;
        }
    };
    match ending {
        Ok(ending) => {
            if !ending.is_exit() {
                error!("init: the shell ended: {ending}");
            }
            ending.status()
        }
        Err(errno) => {
            error!("init: the shell cannot be waited for: {errno}");
            1
        }
    }
}

/// Runs shells for ever.
pub fn run_interactively() -> ! {
    loop {
        match Command::new("sh").spawn().map(|child| child.wait()) {
            Ok(Ok(ending)) if ending.is_exit() => {}
            Ok(Ok(ending)) => {
                warning!("init: the shell ended: {ending}");
                time::sleep(PAUSE);
            }
            Ok(Err(errno)) => {
                error!("init: the shell cannot be waited for: {errno}");
                time::sleep(PAUSE);
            }
            Err(problem) => {
                error!("init: the shell cannot be started: {problem}");
                time::sleep(PAUSE);
            }
        }
    }
}
