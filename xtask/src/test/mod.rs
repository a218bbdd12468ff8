//! `cargo xtask test`: host tests and lints, then the scenarios; one line for each, a summary, one closing line.
//!
//! `host` runs cargo and counts what it reports, `boot` runs the scenarios, `report` collects. Nothing outside
//! this folder uses it but `main`.

mod boot;
mod host;
mod report;

use anyhow::Result;
use clap::ValueEnum;

use report::Report;

use crate::setup::{self, Consent};

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What runs on this machine: unit tests, formatting, lints
    Host,
    /// Whole machines in emulators
    Boot,
    /// Both
    All,
}

/// Options of `test`.
#[derive(Clone, Debug, clap::Args)]
pub struct TestOptions {
    /// What is tested
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// Only tests and scenarios whose name contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Seconds per scenario, instead of each one's own limit
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Only list the scenarios
    #[arg(long)]
    list: bool,
}

/// `cargo xtask test`; returns xtask's exit status.
pub fn command(options: &TestOptions) -> Result<u8> {
    let filter = options.filter.as_deref().unwrap_or_default();
    if options.list {
        boot::selected(filter)
            .iter()
            .for_each(|scenario| println!("{}", scenario.name));
        return Ok(0);
    }
    let toolchain = setup::kernel_toolchain(Consent::of(false))?;
    let mut report = Report::default();
    if options.part != Part::Boot {
        host::run(&toolchain, filter, &mut report)?;
    }
    if options.part != Part::Host {
        boot::run(&toolchain, filter, options.timeout, &mut report)?;
    }
    report.print();
    Ok(u8::from(!report.is_good()))
}
