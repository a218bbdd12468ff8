//! Tests.

mod driver;
mod fault;
mod litmus;
mod machine;
mod model;
mod mutations;
mod oracle;
mod program;
mod random;
mod run;
mod universe;
mod weak_memory;
