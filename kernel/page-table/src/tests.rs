//! Host tests of formats, page tables, interlock and the walker of virtual page tables.

mod cpu;
mod format;
mod hardware;
mod interlock;
mod machine;
mod operations;
mod pitfalls;
mod programs;
mod resizing;
mod vpagetable;
