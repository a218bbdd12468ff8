//! Copy-on-write in every order: stores, forks and dropped pages of several threads in several address spaces, over one page, step by
//! step in all interleavings. The counts and the interlock are the real ones; the steps between them are those of the
//! kernel's `vm` and `pmap` (design record, "Copies of address spaces").
//!
//! The flush is one step with the change of the table: that part has a proof of its own. A frame has two words, copied one after the
//! other. What must hold: every thread reads what it stored, a store is never seen in another space, a frame that is free is
//! in no slot and no table, and in the end none is missing. Each rule is also broken once, to see that this is noticed.

mod explore;
mod steps;
mod world;

use explore::{explore, failure};
use world::{Action, Plant, Thread, World};

/// Stores a value to a word and reads it back.
fn store(space: usize, word: usize, value: u8) -> [Action; 2] {
    [
        Action::Store(space, word, value),
        Action::Expect(space, word, value),
    ]
}

fn thread(actions: impl IntoIterator<Item = Action>) -> Thread {
    Thread::new(actions.into_iter().collect())
}

/// The situations, by name. Space 0 has one page; forks go from one space to the next.
fn situations() -> Vec<(&'static str, World)> {
    vec![
        (
            "a fork while two threads store",
            World::new(
                3,
                [
                    thread(store(0, 0, 1)),
                    thread(store(0, 1, 2)),
                    thread(
                        [
                            vec![Action::Fork(0, 1), Action::Still(1)],
                            store(1, 0, 9).to_vec(),
                        ]
                        .concat(),
                    ),
                ],
            ),
        ),
        (
            "stores after a fork on its side, and one that is late",
            World::new(
                3,
                [
                    thread([vec![Action::Fork(0, 1)], store(0, 0, 1).to_vec()].concat()),
                    thread(store(0, 1, 2)),
                    thread([Action::Await(1), Action::Still(1), Action::Still(1)]),
                ],
            ),
        ),
        (
            "two threads of one space and the last other owner",
            World::forked(
                4,
                [
                    thread(store(0, 0, 1)),
                    thread(store(0, 1, 2)),
                    thread(store(1, 0, 9)),
                ],
            ),
        ),
        (
            "two threads of one space while the other owner drops the page",
            World::forked(
                4,
                [
                    thread(store(0, 0, 1)),
                    thread(store(0, 1, 2)),
                    thread([Action::Drop(1)]),
                ],
            ),
        ),
        (
            "a store while the page is dropped under it",
            World::forked(
                4,
                [
                    thread([Action::Store(0, 0, 1)]),
                    thread([Action::Drop(0)]),
                    thread([vec![Action::Still(1)], store(1, 1, 9).to_vec()].concat()),
                ],
            ),
        ),
        (
            "a load that is late while the page is copied",
            World::forked(
                4,
                [
                    thread([store(0, 0, 1).to_vec(), vec![Action::Expect(0, 0, 1)]].concat()),
                    thread([Action::Load(0, 1)]),
                    thread([Action::Load(1, 0)]),
                ],
            ),
        ),
        (
            "a copy is copied while all store",
            World::forked(
                5,
                [
                    thread([vec![Action::Fork(1, 2)], store(1, 0, 7).to_vec()].concat()),
                    thread(store(0, 0, 1)),
                    thread([vec![Action::Await(2), Action::Still(2)], store(2, 0, 5).to_vec()].concat()),
                ],
            ),
        ),
        (
            "a second fork while a thread stores in place after the first",
            World::forked(
                5,
                [
                    thread(store(0, 0, 1)),
                    thread([
                        Action::Drop(1),
                        Action::Fork(0, 2),
                        Action::Still(2),
                        Action::Still(2),
                    ]),
                    thread(store(0, 1, 2)),
                ],
            ),
        ),
    ]
}

#[test]
fn every_order_is_right() {
    for (name, world) in situations() {
        match explore(world) {
            Ok(states) => println!("{name}: {states} states"),
            Err(problem) => panic!("{name}: {problem}"),
        }
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    for plant in Plant::ALL {
        let noticed = situations()
            .into_iter()
            .find_map(|(name, world)| Some((name, failure(world.with(plant))?)));
        let (name, problem) = noticed.unwrap_or_else(|| panic!("{plant:?} is not noticed"));
        println!("{plant:?}: {problem} ({name})");
    }
}
