//! `vmm`: what the machine's CPUs offer for guest mode, and why not if they do not.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_abi::vmm::{VMX_REGISTERS, VmxRegisters};
use dragonet_programs::cpuid::Native;
use dragonet_programs::guest::STATUS_NO_GUEST_MODE;
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, println, syscall, system};
use vmx_model::capability::{Capabilities, Cpu, Refusal, Report};
use vmx_model::{Msr, Msrs};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vmm [-v]

Shows whether threads can run in guest mode on this machine, and if not, every reason.
  -v        also what the registers say that describe it
Status 69 if they cannot.";

const SYNTAX: Syntax = Syntax {
    flags: "v",
    ..Syntax::new(HELP)
};

const _: () = assert!(Msr::ALL.len() == VMX_REGISTERS);

/// Registers as the kernel has read them.
struct Recorded(VmxRegisters);

impl Msrs for Recorded {
    fn read(&self, msr: Msr) -> u64 {
        let place = Msr::ALL.iter().position(|&other| other == msr);
        place
            .and_then(|place| self.0.values.get(place))
            .copied()
            .unwrap_or(0)
    }
}

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let cpus = match all() {
        Ok(cpus) => cpus,
        Err(errno) => return fault("asking for the CPUs' registers", errno),
    };
    if show(&cpus, options.has('v')) {
        ExitCode::SUCCESS
    } else {
        ExitCode(STATUS_NO_GUEST_MODE)
    }
}

/// The capabilities of each CPU.
fn all() -> Result<Vec<Result<Capabilities, Refusal>>, Errno> {
    let system = system::handle()?;
    let mut all = Vec::new();
    loop {
        match syscall::vmm_info(system, all.len() as u64) {
            Ok(registers) => all.push(Capabilities::read(Cpu::read(&Native), &Recorded(registers))),
            Err(Errno::ENOENT) => return Ok(all),
            Err(errno) => return Err(errno),
        }
    }
}

/// Prints it all; true if there is guest mode.
fn show(cpus: &[Result<Capabilities, Refusal>], verbose: bool) -> bool {
    let first = match cpus.first() {
        Some(Ok(first)) => first,
        Some(Err(refusal)) => {
            println!("no guest mode: {refusal}");
            return false;
        }
        None => return false,
    };
    let support = first.support();
    match &support {
        Ok(_) => println!("guest mode: VMX with EPT"),
        Err(refusals) => println!("no guest mode: {refusals}"),
    }
    if verbose || support.is_ok() {
        println!("{}", Report(first));
    }
    let mut alike = true;
    for (index, other) in cpus.iter().enumerate().skip(1) {
        match other {
            Ok(other) => {
                for difference in first.differences(other) {
                    println!("CPU {index} differs from CPU 0: {difference}");
                    alike = false;
                }
            }
            Err(refusal) => {
                println!("CPU {index}: {refusal}");
                alike = false;
            }
        }
    }
    support.is_ok() && alike
}
