//! Why a kernel cannot be entered, in words for the person in front of the machine.
#![forbid(unsafe_code)]

use dragonet_boot::elf_plan::PlanError;
use dragonet_boot::memory_map::MapError;
use dragonet_boot::page_table::TableError;
use dragonet_boot::requests::ScanError;
use dragonet_boot::responses::ArenaFull;

/// Why the kernel cannot be entered.
#[derive(Clone, Copy, Debug)]
pub enum StageError {
    /// No module is named `kernel`; this many have other names.
    NoKernel(usize),
    /// The kernel module is empty or out of reach.
    Unreadable,
    /// The kernel's file.
    Plan(PlanError),
    /// The kernel's requests.
    Scan(ScanError),
    /// The memory map.
    Map(MapError),
    /// The page tables.
    Table(TableError),
    /// The answers did not fit.
    Answers,
    /// The kernel asks for this entry point, which is not executable.
    EntryPoint(u64),
    /// The kernel asks for a stack of this many bytes.
    Stack(u64),
    /// The kernel wants more than four levels of page tables.
    PagingMode,
}

impl core::fmt::Display for StageError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StageError::NoKernel(0) => write!(formatter, "the loader passed no module, so no kernel"),
            StageError::NoKernel(others) => {
                write!(formatter, "none of the {others} modules is named `kernel`")
            }
            StageError::Unreadable => write!(formatter, "the module `kernel` is empty"),
            StageError::Plan(error) => error.fmt(formatter),
            StageError::Scan(error) => error.fmt(formatter),
            StageError::Map(error) => error.fmt(formatter),
            StageError::Table(TableError::OutOfMemory) => {
                write!(formatter, "too little memory for page tables")
            }
            StageError::Table(TableError::Occupied(address)) => {
                write!(
                    formatter,
                    "the kernel's page at {address:#x} is in the way of the direct map"
                )
            }
            StageError::Answers => write!(formatter, "the answers to the kernel's requests need more room"),
            StageError::EntryPoint(address) => {
                write!(
                    formatter,
                    "the requested entry point {address:#x} is in no executable segment"
                )
            }
            StageError::Stack(size) => write!(formatter, "the kernel asks for a stack of {size} bytes"),
            StageError::PagingMode => write!(formatter, "the kernel needs five levels of page tables"),
        }
    }
}

impl From<MapError> for StageError {
    fn from(error: MapError) -> Self {
        StageError::Map(error)
    }
}

impl From<TableError> for StageError {
    fn from(error: TableError) -> Self {
        StageError::Table(error)
    }
}

impl From<ArenaFull> for StageError {
    fn from(_: ArenaFull) -> Self {
        StageError::Answers
    }
}
