//! Tests.

mod driver;
mod fault;
mod machine;
mod model;
mod oracle;
mod mutations;
mod program;
mod random;
mod run;
mod universe;
mod weak_memory;
