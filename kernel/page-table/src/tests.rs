//! Host tests of formats, mapper, interlock and the walker of virtual page tables.

mod format;
mod interlock;
mod mapper;
mod vpagetable;
