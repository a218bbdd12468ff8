//! The shell, run once for a script or again and again for a person.

use core::time::Duration;
use dragonet_rt::process::Command;
use dragonet_rt::{error, time, warning};

/// A shell that ends sooner than this after its start is not started again at once ...
const SHORT: Duration = Duration::from_secs(1);
/// ... but after a pause that doubles from one time to the next, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// Runs a script and returns its status.
pub fn run_script(script: &str) -> u8 {
    let outcome = Command::new("sh").argument("-c").argument(script).spawn();
    let ending = match outcome {
        Ok(child) => child.wait(),
        Err(problem) => {
            error!("the shell cannot be started: {problem}");
            return 1;
        }
    };
    match ending {
        Ok(ending) => {
            if !ending.is_exit() {
                error!("the shell ended: {ending}");
            }
            ending.status()
        }
        Err(errno) => {
            error!("the shell cannot be waited for: {errno}");
            1
        }
    }
}

/// Runs shells for ever.
pub fn run_interactively() -> ! {
    let mut pause = Duration::ZERO;
    loop {
        let started = time::now();
        match Command::new("sh").spawn().map(|child| child.wait()) {
            Ok(Ok(ending)) if ending.is_exit() => {}
            Ok(Ok(ending)) => warning!("the shell ended: {ending}"),
            Ok(Err(errno)) => error!("the shell cannot be waited for: {errno}"),
            Err(problem) => error!("the shell cannot be started: {problem}"),
        }
        let lasted = time::now() - started;
        pause = if lasted < SHORT {
            (pause * 2).clamp(SHORT, LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
        time::sleep(pause);
    }
}
