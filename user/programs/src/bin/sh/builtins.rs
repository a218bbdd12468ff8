//! Commands of the shell itself: those that change it, and those that need its jobs.

use crate::jobs;
use crate::shell::{Shell, USAGE, run_in_foreground};
use alloc::string::String;
use dragonet_programs::shell_syntax::assignment;
use dragonet_rt::{eprintln, println};

/// Runs a command of the shell and returns its status.
pub type Builtin = fn(&mut Shell, &[String]) -> u8;

/// The command with this name.
pub fn find(name: &str) -> Option<Builtin> {
    Some(match name {
        "exit" => exit,
        "export" => export,
        "false" => |_, _| 1,
        "fg" => foreground,
        "history" => history,
        "jobs" => list_jobs,
        "set" => set,
        "true" | ":" => |_, _| 0,
        "unset" => unset,
        "wait" => wait,
        _ => return None,
    })
}

fn misused(usage: &str) -> u8 {
    eprintln!("sh: usage: {usage}");
    USAGE
}

fn exit(shell: &mut Shell, arguments: &[String]) -> u8 {
    let status = match arguments {
        [] => shell.status(),
        [status] => match status.parse() {
            Ok(status) => status,
            Err(_) => return misused("exit [STATUS], with a status of 0 to 255"),
        },
        _ => return misused("exit [STATUS]"),
    };
    shell.finish(status);
    status
}

fn export(shell: &mut Shell, arguments: &[String]) -> u8 {
    for argument in arguments {
        let Some((name, value)) = assignment(argument) else {
            return misused("export NAME=VALUE...");
        };
        shell.variables.insert(name.into(), value.into());
    }
    0
}

fn unset(shell: &mut Shell, arguments: &[String]) -> u8 {
    for name in arguments {
        shell.variables.remove(name);
    }
    0
}

fn set(shell: &mut Shell, arguments: &[String]) -> u8 {
    if !arguments.is_empty() {
        return misused("set");
    }
    for (name, value) in &shell.variables {
        println!("{name}={value}");
    }
    0
}

fn history(shell: &mut Shell, _: &[String]) -> u8 {
    for (index, line) in shell.history.iter().enumerate() {
        println!("{:4}  {line}", index + 1);
    }
    0
}

fn list_jobs(shell: &mut Shell, _: &[String]) -> u8 {
    shell.jobs.report_ended();
    for job in shell.jobs.iter() {
        println!("[{}] running, process {}: {}", job.number, job.process, job.text);
    }
    0
}

/// Waits for the jobs named by process id, or for all; the status is that of the last one named.
fn wait(shell: &mut Shell, arguments: &[String]) -> u8 {
    if arguments.is_empty() {
        while let Some(job) = shell.jobs.take_oldest() {
            wait_for(&job);
        }
        return 0;
    }
    let mut status = 0;
    for argument in arguments {
        let Ok(process) = argument.parse() else {
            return misused("wait [PROCESS|%JOB]...");
        };
        status = match shell.jobs.take(process) {
            Some(job) => wait_for(&job),
            None => {
                eprintln!("sh: wait: process {process} is not a job of this shell");
                127
            }
        };
    }
    status
}

fn wait_for(job: &jobs::Job) -> u8 {
    match job.child.wait() {
        Ok(ending) => {
            jobs::report(job, ending);
            ending.status()
        }
        Err(errno) => {
            eprintln!("[{}] {}: cannot be waited for: {errno}", job.number, job.text);
            1
        }
    }
}

fn foreground(shell: &mut Shell, arguments: &[String]) -> u8 {
    let job = match arguments {
        [] => shell.jobs.take_newest(),
        [argument] => match argument.parse() {
            Ok(process) => shell.jobs.take(process),
            Err(_) => return misused("fg [PROCESS|%JOB]"),
        },
        _ => return misused("fg [PROCESS|%JOB]"),
    };
    match job {
        Some(job) => run_in_foreground(&job.child, &job.text),
        None => {
            eprintln!("sh: fg: no such job");
            1
        }
    }
}
