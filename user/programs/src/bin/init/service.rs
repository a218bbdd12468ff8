//! One supervised service: started, watched, reported when it dies, started again.

use alloc::vec::Vec;
use core::time::Duration;
use dragonet_abi::{Handle, Rights};
use dragonet_rt::channel::Server;
use dragonet_rt::process::{Child, Command};
use dragonet_rt::supervisor_protocol::{STATE_FAILED, STATE_RUNNING, STATE_WAITING};
use dragonet_rt::sync::Mutex;
use dragonet_rt::{error, info, time, warning};

/// A service that fails this often in a row is given up.
const MAX_FAILURES: u32 = 5;
/// A service that ran for this long did not fail at the start: the count begins anew.
const STEADY: Duration = Duration::from_secs(10);
/// Pause before the first restart in a row; every further one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How often a service that was given up looks whether someone wants it back.
const POLL: Duration = Duration::from_millis(200);

/// What can be asked about a service.
#[derive(Clone, Copy)]
pub struct Report {
    pub state: u64,
    pub process: u64,
    pub restarts: u64,
}

struct Status {
    report: Report,
    child: Option<Child>,
    /// Someone asked for a restart that has not happened yet.
    restart_wanted: bool,
}

/// A service.
pub struct Service {
    name: &'static str,
    program: &'static str,
    handles: Vec<(u32, Handle, Rights)>,
    /// The server end of its channel, if it has one: calls are refused here while the service is given up.
    server: Option<Server>,
    status: Mutex<Status>,
}

impl Service {
    pub fn new(
        name: &'static str,
        program: &'static str,
        handles: Vec<(u32, Handle, Rights)>,
        server: Option<Server>,
    ) -> Self {
        let report = Report {
            state: STATE_WAITING,
            process: 0,
            restarts: 0,
        };
        let status = Mutex::new(Status {
            report,
            child: None,
            restart_wanted: false,
        });
        Service {
            name,
            program,
            handles,
            server,
            status,
        }
    }

    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub fn report(&self) -> Report {
        self.status.lock().report
    }

    /// Has the service started anew.
    pub fn restart(&self) {
        let mut status = self.status.lock();
        status.restart_wanted = true;
        if let Some(child) = &status.child {
            // If it has just ended, it is about to be started again anyway.
            let _ = child.kill(0);
        }
    }

    /// Keeps the service running, for ever. Called by a thread of its own.
    pub fn supervise(&self) -> ! {
        let mut failures = 0;
        loop {
            let started = time::now();
            self.run_once();
            let wanted = core::mem::take(&mut self.status.lock().restart_wanted);
            failures = match () {
                () if wanted => 0,
                () if time::now() - started >= STEADY => 1,
                () => failures + 1,
            };
            if failures > MAX_FAILURES {
                error!(
                    "service {} failed {failures} times in a row and is given up",
                    self.name
                );
                self.stay_down();
                failures = 0;
            } else if failures > 0 {
                time::sleep(FIRST_PAUSE * (1 << (failures - 1)));
            }
            self.status.lock().report.restarts += 1;
        }
    }

    /// Starts the service, waits for its end, and says why it ended.
    fn run_once(&self) {
        let mut command = Command::new(self.program).without_inheritance();
        for (role, handle, rights) in &self.handles {
            command = command.handle(*role, *handle, *rights);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(problem) => {
                error!("service {} cannot be started: {problem}", self.name);
                return;
            }
        };
        let process = child.id();
        let Ok(waiter) = dragonet_rt::syscall::handle_duplicate(child.handle(), Rights::WAIT) else {
            error!("service {}: no handle is free to wait for it", self.name);
            let _ = child.kill(0);
            return;
        };
        {
            let mut status = self.status.lock();
            status.report.state = STATE_RUNNING;
            status.report.process = process;
            status.child = Some(child);
        }
        let ending = Child::from_handle(waiter).wait();
        let mut status = self.status.lock();
        status.report.state = STATE_WAITING;
        status.report.process = 0;
        status.child = None;
        match ending {
            Ok(_) if status.restart_wanted => info!("service {} is restarted on request", self.name),
            Ok(ending) => warning!("service {} (process {process}) ended: {ending}", self.name),
            Err(errno) => error!("service {} cannot be waited for: {errno}", self.name),
        }
    }

    /// Waits until someone asks for the service again. Its clients' calls are answered with an error meanwhile.
    fn stay_down(&self) {
        self.status.lock().report.state = STATE_FAILED;
        while !core::mem::take(&mut self.status.lock().restart_wanted) {
            match &self.server {
                Some(server) => drop(server.receive(time::nanoseconds(POLL))),
                None => time::sleep(POLL),
            }
        }
        self.status.lock().report.state = STATE_WAITING;
    }
}
