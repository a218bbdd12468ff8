//! The program `vkernel`: everything is in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
dragonet_rt::main!(bare_main);

#[cfg(target_os = "none")]
fn bare_main(arguments: dragonet_rt::Arguments) -> dragonet_rt::ExitCode {
    dragonet_rt::ExitCode(dragonet_vkernel::main(arguments.rest().iter().copied()))
}

/// On Linux, for developers: the same kernel over ptrace(2).
#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    dragonet_vkernel::main(arguments.iter().map(String::as_str)).into()
}
