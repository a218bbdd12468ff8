//! The promises, by subject. Each check is a function without arguments that returns why it failed.

pub mod answers;
pub mod files;
pub mod machine;
pub mod memory;
pub mod processors;
