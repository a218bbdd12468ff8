//! Starting a program.

#![forbid(unsafe_code)]

use super::ending::Ending;
use super::loader;
use crate::startup::{self, role};
use crate::{OwnedHandle, archive, start_block, syscall};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use dragonet_abi::layout::MAX_NAME;
use dragonet_abi::startup::{ROLE_CONSOLE, ROLE_ROOT_ARCHIVE, ROLE_SUPERVISOR, ROLE_SYSTEM, StartupHandle};
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Handle, Rights};
use elf_image::ImageError;

/// What a program started by another one may do with the system, at most.
const SYSTEM_RIGHTS: Rights = Rights::INSPECT
    .union(Rights::OPEN_PROCESS)
    .union(Rights::POWER)
    .union(Rights::VKERNEL)
    .union(Rights::DUPLICATE)
    .union(Rights::TRANSFER);
const CHANNEL_RIGHTS: Rights = Rights::CALL.union(Rights::DUPLICATE).union(Rights::TRANSFER);
const ARCHIVE_RIGHTS: Rights = Rights::READ.union(Rights::DUPLICATE).union(Rights::TRANSFER);

/// The handles that a program passes on to those it starts, and with which rights.
pub(super) const INHERITED: [(u32, Rights); 4] = [
    (ROLE_SYSTEM, SYSTEM_RIGHTS),
    (ROLE_CONSOLE, CHANNEL_RIGHTS),
    (ROLE_ROOT_ARCHIVE, ARCHIVE_RIGHTS),
    (ROLE_SUPERVISOR, CHANNEL_RIGHTS),
];

/// Why a program could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The root archive has no such file.
    NotFound,
    /// The file is not a program.
    NotAProgram(ImageError),
    /// The kernel refused something.
    Kernel(Errno),
}

impl From<Errno> for SpawnError {
    fn from(errno: Errno) -> Self {
        SpawnError::Kernel(errno)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NotFound => formatter.write_str("not found"),
            SpawnError::NotAProgram(error) => error.fmt(formatter),
            SpawnError::Kernel(errno) => errno.fmt(formatter),
        }
    }
}

/// A program to be started.
#[derive(Clone, Debug)]
pub struct Command {
    program: String,
    bytes: Option<Cow<'static, [u8]>>,
    arguments: Vec<String>,
    environment: Option<Vec<(String, String)>>,
    inherits: bool,
    handles: Vec<(u32, Handle, Rights)>,
}

impl Command {
    /// The program at a path of the root archive; a name without `/` is looked up in `bin/`.
    #[must_use]
    pub fn new(program: &str) -> Self {
        Command {
            program: String::from(program),
            bytes: None,
            arguments: Vec::new(),
            environment: None,
            inherits: true,
            handles: Vec::new(),
        }
    }

    /// Uses these bytes as the program instead of looking for a file.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        self.bytes = Some(bytes.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Gives the program this environment instead of the caller's own.
    #[must_use]
    pub fn environment(mut self, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = Some(environment.into_iter().collect());
        self
    }

    /// Passes none of the caller's handles on, only those of [`Command::handle`].
    #[must_use]
    pub fn without_inheritance(mut self) -> Self {
        self.inherits = false;
        self
    }

    /// Gives the program a copy of a handle in this role, in place of an inherited one; rights that the caller lacks are
    /// left out. The handle must be open when the program is started.
    #[must_use]
    pub fn handle(mut self, role: u32, handle: Handle, rights: Rights) -> Self {
        self.handles.push((role, handle, rights));
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// Why it could not be started; nothing is left of it then.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let bytes = match &self.bytes {
            Some(bytes) => Cow::Borrowed(&**bytes),
            None => Cow::Borrowed(self.find()?),
        };
        let image = loader::check(&bytes).map_err(SpawnError::NotAProgram)?;
        // Killed and freed if something below fails.
        let child = Child {
            process: syscall::process_create(self.name())?,
        };
        child.build(self, &bytes, &image).inspect_err(|_| {
            let _ = child.kill(0);
        })?;
        Ok(child)
    }

    fn find(&self) -> Result<&'static [u8], SpawnError> {
        let archive = archive::root()?;
        let file = if self.program.contains('/') {
            archive.find(&self.program)
        } else {
            archive.find(&alloc::format!("bin/{}", self.program))
        };
        file.map(|file| file.bytes).ok_or(SpawnError::NotFound)
    }

    /// The process's name: the file's, as much of it as fits.
    fn name(&self) -> &str {
        let name = self.program.rsplit('/').next().unwrap_or(&self.program);
        let mut length = name.len().min(MAX_NAME);
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        &name[..length]
    }

    /// The handles to give, by role: those named for this program come before inherited ones.
    fn all_handles(&self) -> Vec<(u32, Handle, Rights)> {
        let mut all = self.handles.clone();
        if self.inherits {
            for (number, rights) in INHERITED {
                if let Some(handle) = role(number)
                    && !all.iter().any(|(other, ..)| *other == number)
                {
                    all.push((number, handle, rights));
                }
            }
        }
        all
    }
}

/// A program that was started. Dropping it lets the program go on by itself.
#[derive(Debug)]
pub struct Child {
    process: OwnedHandle,
}

impl Child {
    /// A program that someone else started.
    #[must_use]
    pub const fn from_handle(process: OwnedHandle) -> Self {
        Child { process }
    }

    fn build(&self, command: &Command, program: &[u8], image: &elf_image::Image) -> Result<(), SpawnError> {
        let mut handles = Vec::new();
        for (role, handle, rights) in command.all_handles() {
            let handle = self.give(handle, rights)?;
            handles.push(StartupHandle { role, handle });
        }
        let arguments =
            core::iter::once(command.program.as_str()).chain(command.arguments.iter().map(String::as_str));
        let environment: Vec<String> = match &command.environment {
            Some(list) => list
                .iter()
                .map(|(name, value)| alloc::format!("{name}={value}"))
                .collect(),
            None => startup::environment()
                .map(|(name, value)| alloc::format!("{name}={value}"))
                .collect(),
        };
        let block = start_block::encode(&handles, arguments, environment.iter().map(String::as_str))?;
        let vmspace = syscall::process_vmspace(self.process.get())?;
        let start = loader::build(vmspace.get(), program, image, &block)?;
        syscall::process_start(self.process.get(), start.entry, start.stack_pointer, start.block)?;
        Ok(())
    }

    /// Gives the process a copy of a handle, without rights that the caller lacks, and returns its number there.
    pub(super) fn give(&self, handle: Handle, rights: Rights) -> Result<Handle, Errno> {
        let owned = Rights::from_bits_truncate(syscall::handle_info(handle)?.rights);
        syscall::process_give(self.process.get(), handle, rights & owned)
    }

    /// The process's handle.
    #[must_use]
    pub const fn handle(&self) -> Handle {
        self.process.get()
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.process.info().map_or(0, |info| info.id)
    }

    /// Kills the process. Wait for the end afterwards.
    ///
    /// # Errors
    /// `ESRCH` if it has ended.
    pub fn kill(&self, status: u8) -> Result<(), Errno> {
        syscall::process_kill(self.process.get(), status)
    }

    /// Waits until the process has ended and all it owned is freed.
    ///
    /// # Errors
    /// None for a handle with the right to wait.
    pub fn wait(&self) -> Result<Ending, Errno> {
        loop {
            match self.wait_for(FOREVER) {
                Err(Errno::EINTR | Errno::ETIMEDOUT) => {}
                outcome => return outcome,
            }
        }
    }

    /// As [`Child::wait`], for at most `timeout` nanoseconds.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `EINTR`.
    pub fn wait_for(&self, timeout: u64) -> Result<Ending, Errno> {
        syscall::process_wait(self.process.get(), timeout).map(Ending)
    }
}
