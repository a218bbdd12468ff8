//! `init`: the first process. It opens the boot modules, starts the console server and keeps it running, and runs the shell.
//!
//! With a boot module named `exec` the shell runs that script, and the machine powers off with the status of its last
//! command; otherwise the shell is interactive and started anew when it ends. What `init` has to say goes to the kernel's
//! log, because it must not depend on a service that it supervises.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod modules;
mod service;
mod shell;
mod supervisor;

use alloc::sync::Arc;
use alloc::vec;
use core::time::Duration;
use dragonet_abi::startup::{ROLE_CONSOLE, ROLE_ROOT_ARCHIVE, ROLE_SERVICE, ROLE_SUPERVISOR, ROLE_SYSTEM};
use dragonet_abi::system::PowerCommand;
use dragonet_abi::{Errno, Handle, Rights};
use dragonet_rt::{Arguments, ExitCode, archive, channel, error, startup, syscall, thread, time};
use modules::Modules;
use service::Service;

dragonet_rt::main!(main);

fn main(_arguments: Arguments) -> ExitCode {
    let Some(system) = startup::role(ROLE_SYSTEM) else {
        error!("started without the system handle; only the kernel can start it");
        return ExitCode::FAILURE;
    };
    let status = match run(system) {
        Ok(status) => status,
        Err(problem) => {
            error!("{problem}");
            1
        }
    };
    power_off(system, status)
}

/// Brings the system up and runs the shell; returns the status with which to power off.
fn run(system: Handle) -> Result<u8, Problem> {
    let mut modules =
        Modules::open(system).map_err(|errno| Problem("the boot modules cannot be opened", errno))?;
    let Some(root) = modules.take("root.tar") else {
        return Err(Problem(
            "no boot module named root.tar: there are no programs to run",
            Errno::ENOENT,
        ));
    };
    startup::install(ROLE_ROOT_ARCHIVE, root.object);
    archive::root().map_err(|errno| Problem("root.tar is not a ustar archive", errno))?;

    let console = start_console(system)?;
    let services = vec![console];
    supervisor::start(services)
        .map_err(|errno| Problem("the supervisor's thread cannot be started", errno))?;

    match modules.take("exec") {
        Some(script) => {
            let script = script
                .text()
                .map_err(|errno| Problem("the exec module is not text", errno))?;
            Ok(shell::run_script(&script))
        }
        None => shell::run_interactively(),
    }
}

/// Makes the console's channel and starts its server. The server end stays with `init` too, so that clients wait while the
/// server is being restarted.
fn start_console(system: Handle) -> Result<Arc<Service>, Problem> {
    let problem = |errno| Problem("the console service cannot be set up", errno);
    let (server, client) = channel::create().map_err(problem)?;
    startup::install(ROLE_CONSOLE, client);
    let handles = vec![
        (ROLE_SERVICE, server.get(), Rights::RECEIVE),
        (ROLE_SYSTEM, system, Rights::DEVICES),
    ];
    let service = Arc::new(Service::new("console", "console", handles, Some(server)));
    let supervised = Arc::clone(&service);
    thread::spawn(move || supervised.supervise()).map_err(problem)?;
    Ok(service)
}

/// Something without which the system cannot run.
struct Problem(&'static str, Errno);

impl core::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{}: {}", self.0, self.1)
    }
}

fn power_off(system: Handle, status: u8) -> ! {
    loop {
        let errno = syscall::power(system, PowerCommand::Off, status);
        error!("power off failed: {errno}");
        time::sleep(Duration::from_secs(10));
    }
}

/// The channel through which programs reach the supervisor becomes a role of its own.
fn install_supervisor(client: dragonet_rt::OwnedHandle) {
    startup::install(ROLE_SUPERVISOR, client);
}
