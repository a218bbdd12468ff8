//! The families of torture.

mod arguments;
mod floods;
mod host;
mod instructions;
mod invalidation;
mod killing;
mod random_code;
mod registers;
mod tables;
mod unmap;

use dragonet_programs::torture::Family;

/// All families.
pub const ALL: [Family; 10] = [
    ("instructions", instructions::play),
    ("invalidation", invalidation::play),
    ("random-code", random_code::play),
    ("registers", registers::play),
    ("unmap", unmap::play),
    ("floods", floods::play),
    ("arguments", arguments::play),
    ("tables", tables::play),
    ("killing", killing::play),
    ("host", host::play),
];
