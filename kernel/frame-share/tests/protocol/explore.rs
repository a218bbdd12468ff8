//! All interleavings of a world's threads, each state looked at once.

use super::world::World;
use std::collections::HashSet;

/// Runs every order and returns the count of states.
///
/// # Errors
/// The first thing that must not be.
pub fn explore(first: World) -> Result<usize, String> {
    let mut seen = HashSet::new();
    seen.insert(first.key());
    let mut open = vec![first];
    while let Some(world) = open.pop() {
        let mut stuck = true;
        for thread in 0..world.threads() {
            let mut next = world.clone();
            if !next.step(thread)? {
                continue;
            }
            stuck = false;
            next.check()?;
            if seen.insert(next.key()) {
                open.push(next);
            }
        }
        if stuck {
            world.check_end()?;
        }
    }
    Ok(seen.len())
}

/// What [`explore`] finds wrong, if anything.
pub fn failure(first: World) -> Option<String> {
    explore(first).err()
}
