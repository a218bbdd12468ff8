//! What programs that test virtual memory share: the parts of a small vkernel.
//!
//! [`Ram`] is a memory object that is seen as it is, [`PageTable`] a page table in it, [`Guest`] a vmspace whose users make the
//! accesses of [`code`], one or a million at a time. Accesses that must fault are made by such users: the fault
//! comes back as a value. Only programs of this package call in here.

pub mod code;
mod guest;
mod ram;
mod table;

pub use guest::{Guest, Seen, fixed, run_for};
pub use ram::Ram;
pub use table::{ALLOW, PageTable};
