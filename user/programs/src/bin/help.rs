//! `help`: lists the commands.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_programs::options::Syntax;
use dragonet_rt::{Arguments, ExitCode, println};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: help

Lists the commands.";

const COMMANDS: &str = "\
Programs ('NAME --help' tells more):
  cat FILE...            print files of the root archive
  echo TEXT...           print text
  kill PROCESS...        end processes
  log                    show the kernel's log
  ls [PATH...]           list the root archive
  poweroff, reboot       end it all
  ps, top                show processes
  service                list or restart services
  sh -c SCRIPT           run a script
  sleep SECONDS          wait
  time COMMAND           run a command and time it
  vkernel                run a virtual kernel
  vmmap PROCESS          show what a process has mapped
  vmstat                 show memory, objects and counters

Tests:
  crash KIND|all         do something fatal in many ways
  syscall-errors         check the answer to every wrong system call
  vmbench                measure what operations cost
  torture-basics         create and end threads and processes in a hurry
  vm-torture             torture the virtual memory system
  vmm-torture            torture guest mode
  vpagetable-basic       map memory through page tables stored in it
  vpagetable-nested      run a vkernel in a vkernel

Of the shell: exit export fg history jobs set unset wait true false; 'sh --help' explains its language.
Keys: arrows, Home, End, Ctrl-A E U K W L; Ctrl-C ends the program in the foreground.";

fn main(arguments: Arguments) -> ExitCode {
    match Syntax::new(HELP).parse(&arguments) {
        Ok(_) => {
            println!("{COMMANDS}");
            ExitCode::SUCCESS
        }
        Err(status) => status,
    }
}
