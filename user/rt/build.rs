//! Tells the build scripts of programs where the linker script is.

use std::path::PathBuf;

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    println!(
        "cargo::metadata=LINKER_SCRIPT={}",
        root.join("program.ld").display()
    );
    println!("cargo::rerun-if-changed=program.ld");
}
