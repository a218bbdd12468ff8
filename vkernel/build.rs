//! For the bare machine: links with the runtime's linker script.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_DRAGONET_RT_LINKER_SCRIPT");
    if let Ok(script) = std::env::var("DEP_DRAGONET_RT_LINKER_SCRIPT") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
        println!("cargo::rerun-if-changed={script}");
    }
}
