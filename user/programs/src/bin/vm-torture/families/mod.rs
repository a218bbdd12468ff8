//! The families of torture, one a file: a stage, those who change it, those who use it, and an oracle.
//!
//! Each is a function of a [`Team`]. Nothing is shared between teams, so that any of them run side by side.

mod destroy;
mod downgrade;
mod entries;
mod forks;
mod harvest;
mod invalidation;
mod mappings;
mod remap;
mod reuse;
mod roots;
mod stacks;
mod switching;
mod unmap;

use dragonet_programs::torture::Family;

/// All families.
pub const ALL: [Family; 13] = [
    ("invalidation", invalidation::play),
    ("roots", roots::play),
    ("remap", remap::play),
    ("unmap", unmap::play),
    ("downgrade", downgrade::play),
    ("harvest", harvest::play),
    ("reuse", reuse::play),
    ("switching", switching::play),
    ("destroy", destroy::play),
    ("entries", entries::play),
    ("mappings", mappings::play),
    ("stacks", stacks::play),
    ("forks", forks::play),
];
