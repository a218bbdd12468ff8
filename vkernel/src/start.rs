//! From the command line to running CPUs.

use crate::host::{self, Mode};
use crate::kernel::Kernel;
use crate::linux::Errno;
use crate::linux::flags::O_RDWR;
use crate::memory::PhysicalMemory;
use crate::options::{HELP, Options, Refusal};
use crate::process::spawn::start_first;
use crate::process::stack::Arguments;
use crate::vfs::fd::FileTable;
use crate::vfs::inode::{Content, Device, Inode};
use crate::vfs::open_file::{Kind, OpenFile};
use crate::vfs::path::Location;
use crate::vfs::{FileContext, archive};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::system::{MODE_EXIT, MODE_SOFT};

/// Exit status for a wrong command line.
const STATUS_USAGE: u8 = 2;
/// Exit status if the vkernel cannot start.
const STATUS_FAILURE: u8 = 1;
/// What the first program finds in its environment.
const ENVIRONMENT: [&str; 4] = ["PATH=/bin:/sbin:/usr/bin", "HOME=/", "TERM=vt100", "USER=root"];

/// Runs a vkernel with the arguments behind the program's name. Returns only if it cannot start, with the exit status; otherwise the process
/// ends with the status of the first program.
pub fn main<'a>(arguments: impl IntoIterator<Item = &'a str>) -> u8 {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(Refusal::Help) => {
            host::console_write(HELP.as_bytes());
            return 0;
        }
        Err(Refusal::Wrong(text)) => {
            host::console_write(format!("vkernel: {text}\nvkernel: try -h\n").as_bytes());
            return STATUS_USAGE;
        }
    };
    let Err(text) = start(options);
    host::console_write(format!("vkernel: {text}\n").as_bytes());
    STATUS_FAILURE
}

fn start(options: Options) -> Result<core::convert::Infallible, String> {
    let (mode, name, why) = choose_mode(host::modes(), options.no_vmm)?;
    let size = options.memory;
    let ram =
        host::map_ram(size, mode).map_err(|error| format!("no memory object of {size} bytes: {error}"))?;
    let memory: &'static PhysicalMemory = Box::leak(Box::new(PhysicalMemory::new(ram, host::back_ram)));
    let image = host::root_image(&options.root).ok_or_else(|| {
        format!(
            "there is no root image '{}' in the host's root archive",
            options.root
        )
    })?;
    let root = archive::root(memory, image)
        .map_err(|error| format!("the root image '{}' cannot be used: {error}", options.root))?;
    let kernel = Kernel::install(options, memory, root);
    if kernel.options().verbose {
        let cpus = kernel.options().cpus;
        crate::message!("{name} mode, {cpus} CPUs, {} KiB of memory{why}", size / 1024);
    }
    for index in 0..kernel.options().cpus {
        let thread = host::spawn_thread(move || crate::kernel::kernel().cpu(index).run())
            .map_err(|error| no_cpu(index, mode, error))?;
        kernel.cpu(index).set_host_thread(thread);
    }
    start_first_program(kernel)?;
    kernel.console().serve_input()
}

/// Why a CPU cannot come up, for a person.
fn no_cpu(index: usize, mode: Mode, error: Errno) -> String {
    let hint = match (mode, error) {
        (_, Errno::EAGAIN) => " (the host's limit of threads is reached; try a smaller -n)",
        (Mode::Exit, _) => " (in guest mode; -d does without it)",
        (Mode::Soft, _) => "",
    };
    format!("no host thread for cpu{index}: {error}{hint}")
}

/// The best way to run programs among those that the host offers (`MODE_*`), unless hardware is not to be used. With words for a person: its
/// name, and in brackets why it is no better one.
fn choose_mode(offered: u64, no_vmm: bool) -> Result<(Mode, &'static str, &'static str), String> {
    if offered & MODE_EXIT != 0 && !no_vmm {
        Ok((Mode::Exit, "exit", ""))
    } else if offered & MODE_SOFT == 0 {
        Err("the host cannot run vkernels".into())
    } else if no_vmm {
        Ok((Mode::Soft, "soft", " (-d)"))
    } else {
        Ok((Mode::Soft, "soft", " (the host has no guest mode)"))
    }
}

fn start_first_program(kernel: &Kernel) -> Result<(), String> {
    let command = &kernel.options().command;
    let name = String::from_utf8_lossy(&command[0]);
    let failed = |error| format!("cannot run '{name}': {error}");

    let root = Location::root(kernel.root().clone());
    let place = root
        .walk(&command[0], true)
        .and_then(|found| found.location())
        .map_err(failed)?;
    let Content::File(object) = &place.node().content else {
        return Err(format!("cannot run '{name}': it is not a file"));
    };
    let files = FileTable::new();
    let console = Inode::new(Content::Device(Device::Console), 0o600).map_err(failed)?;
    let terminal = OpenFile::new(Kind::Device(console, Device::Console), O_RDWR).map_err(failed)?;
    for _ in 0..3 {
        files.add(terminal.clone(), 0, false).map_err(failed)?;
    }
    let strings = Arguments {
        arguments: command.clone(),
        environment: ENVIRONMENT
            .iter()
            .map(|entry| Vec::from(entry.as_bytes()))
            .collect(),
    };
    let context = FileContext::new(root.clone());
    start_first(object, &place.path(), &strings, files, context).map_err(failed)
}

const _: () = assert!(PAGE_SIZE as usize == crate::memory::ram::FRAME_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_mode_is_used_where_it_is_offered_and_wanted() {
        let both = MODE_SOFT | MODE_EXIT;
        for (offered, no_vmm, mode) in [
            (both, false, Some(Mode::Exit)),
            (both, true, Some(Mode::Soft)),
            (MODE_SOFT, false, Some(Mode::Soft)),
            (MODE_SOFT, true, Some(Mode::Soft)),
            (MODE_EXIT, false, Some(Mode::Exit)),
            (MODE_EXIT, true, None),
            (0, false, None),
        ] {
            let chosen = choose_mode(offered, no_vmm).ok().map(|(mode, ..)| mode);
            assert_eq!(chosen, mode, "{offered} {no_vmm}");
        }
    }
}
