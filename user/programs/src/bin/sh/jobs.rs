//! Programs in the background, by number.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_rt::process::{Child, Ending};
use dragonet_rt::{eprintln, println};

/// A program in the background.
pub struct Job {
    pub number: u32,
    pub process: u64,
    pub child: Child,
    /// The command as it was written.
    pub text: String,
}

/// All of them, oldest first.
#[derive(Default)]
pub struct Jobs(Vec<Job>);

impl Jobs {
    /// Adds a program; returns its job number and process id.
    pub fn add(&mut self, child: Child, text: &str) -> (u32, u64) {
        let number = self.0.last().map_or(1, |job| job.number + 1);
        let process = child.id();
        self.0.push(Job {
            number,
            process,
            child,
            text: String::from(text),
        });
        (number, process)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.0.iter()
    }

    /// Takes the job with this process id.
    pub fn take(&mut self, process: u64) -> Option<Job> {
        let index = self.0.iter().position(|job| job.process == process)?;
        Some(self.0.remove(index))
    }

    /// Takes the newest job.
    pub fn take_newest(&mut self) -> Option<Job> {
        self.0.pop()
    }

    /// Takes the oldest job.
    pub fn take_oldest(&mut self) -> Option<Job> {
        if self.0.is_empty() {
            None
        } else {
            Some(self.0.remove(0))
        }
    }

    /// Tells about jobs that have ended, and forgets them.
    pub fn report_ended(&mut self) {
        self.0.retain(|job| match job.child.wait_for(0) {
            Ok(ending) => {
                report(job, ending);
                false
            }
            Err(Errno::ETIMEDOUT | Errno::EINTR) => true,
            Err(errno) => {
                eprintln!("[{}] {}: cannot be waited for: {errno}", job.number, job.text);
                false
            }
        });
    }

    /// For commands that take processes, replaces `%NUMBER` by the job's process id.
    pub fn replace_numbers(&self, command: &str, arguments: &[String]) -> Result<Vec<String>, String> {
        if !matches!(command, "kill" | "wait" | "fg") {
            return Ok(arguments.to_vec());
        }
        let replace = |argument: &String| {
            let Some(number) = argument.strip_prefix('%') else {
                return Ok(argument.clone());
            };
            let job = self.0.iter().find(|job| job.number.to_string() == number);
            job.map(|job| job.process.to_string())
                .ok_or_else(|| alloc::format!("%{number}: no such job"))
        };
        arguments.iter().map(replace).collect()
    }
}

/// Tells how a job ended.
pub fn report(job: &Job, ending: Ending) {
    if ending.is_success() {
        println!("[{}] done: {}", job.number, job.text);
    } else {
        println!("[{}] {ending}: {}", job.number, job.text);
    }
}
