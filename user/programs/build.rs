//! Links every program with the runtime's linker script.

fn main() {
    let script =
        std::env::var("DEP_DRAGONET_RT_LINKER_SCRIPT").expect("dragonet-rt tells where its linker script is");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rerun-if-changed={script}");
}
