//! The last attempt of a fault, which nobody can refuse: that it does what the others do, and that it is there when they fail.

use super::shootdown::{load, oracle, work};
use super::*;
use crate::arch::{clock, cpu};
use crate::debug::counters;
use crate::pmap::View;
use crate::vm::Access;
use crate::vm::fault::Around;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::STACK_STEP;
use dragonet_abi::memory::{Advice, Vpte};

const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
/// The root entry.
const ROOT: u64 = PAGE | ALLOW;
/// Where an object is seen as it is, and through the table in it.
const PHYSICAL: u64 = 0x1000_0000;
const VIRTUAL: u64 = 0x2000_0000;
/// Private memory.
const PLAIN: u64 = 0x3000_0000;
/// A private mapping of the object.
const COPIES: u64 = 0x4000_0000;
const STACK: u64 = 0x5000_0000;
const GUARD: u64 = 0x6000_0000;
const NOWHERE: u64 = 0x7000_0000;
/// Page of the object that the table leads to; the next one is there for loads, the one behind not at all.
const FRAME: u64 = 16;
const VALUE: u64 = 2006;

const FETCH: Access = Access {
    execute: true,
    ..Access::READ
};

/// A vmspace with memory of every kind.
fn scene() -> Result<Arc<Vmspace>, &'static str> {
    let space = space()?;
    let object = MemoryObject::anonymous(64 * PAGE).map_err(|_| "no object")?;
    map(&space, &of_object(PHYSICAL, 64, &object, MapFlags::SHARED))?;
    let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
    map(&space, &of_object(VIRTUAL, 3, &object, flags))?;
    map(&space, &anonymous(PLAIN, 4))?;
    map(&space, &of_object(COPIES, 4, &object, MapFlags::PRIVATE))?;
    for (address, flag, protection) in [
        (STACK, MapFlags::STACK, READ_WRITE),
        (GUARD, MapFlags::GUARD, Protection::empty()),
    ] {
        let reserved = anonymous(address, 4 * STACK_STEP / PAGE);
        let flags = reserved.flags | flag;
        map(
            &space,
            &MapArguments {
                flags,
                protection,
                ..reserved
            },
        )?;
    }
    let set = |page: u64, index: u64, value| write(&space, PHYSICAL + page * PAGE + 8 * index, value);
    let mut good = [(1, 2), (2, 3), (3, 4)]
        .into_iter()
        // Indices of `VIRTUAL`, which is looked up from 0 on.
        .all(|(table, entry)| set(table, 0, (entry * PAGE) | ALLOW));
    good &= set(4, 0, (FRAME * PAGE) | ALLOW);
    good &= set(4, 1, ((FRAME + 1) * PAGE) | Vpte::VALID | Vpte::USER);
    good &= set(FRAME, 0, VALUE);
    demand!(good, "a write failed");
    demand!(
        space.control(VIRTUAL, 3 * PAGE, Advice::SetMap, ROOT).is_ok(),
        "SetMap failed"
    );
    Ok(space)
}

/// Every fault has the same end, and leaves the same rights, with its first attempt and with the last.
pub fn alike() -> Result<(), &'static str> {
    accounted(|| {
        let (first, last) = (scene()?, scene()?);
        // Pages with two owners.
        let children = [super::fork::child_of(&first)?, super::fork::child_of(&last)?];
        let places = [
            (PHYSICAL + FRAME * PAGE, "an object"),
            (PHYSICAL + 63 * PAGE, "a new page of an object"),
            (VIRTUAL, "a page of a table"),
            (VIRTUAL + PAGE, "a read-only page of a table"),
            (VIRTUAL + 2 * PAGE, "nothing in a table"),
            (PLAIN, "private memory"),
            (COPIES + 2 * PAGE, "a private mapping"),
            (STACK + 2 * STACK_STEP, "a stack that has not grown"),
            (STACK, "the guard below a stack"),
            (GUARD, "a guard"),
            (NOWHERE, "nothing"),
        ];
        for (place, name) in places {
            for access in [Access::READ, FETCH, Access::WRITE] {
                let outcomes = [(&first, 1), (&last, 0)].map(|(space, attempts)| {
                    // Growing a stack is an attempt of its own.
                    let attempts = if place == STACK + 2 * STACK_STEP {
                        2 * attempts
                    } else {
                        attempts
                    };
                    let result = space.resolve(place, access, Around::No, View::Regular, attempts);
                    let rights = space.pmap().translation(place).map(|(_, rights)| rights);
                    (result, rights)
                });
                if outcomes[0] != outcomes[1] {
                    log::error!("{name}, {access:?}: {outcomes:?}");
                    return Err("the last attempt ends otherwise than the first");
                }
            }
        }
        for space in [first, last] {
            demand!(
                read(&space, VIRTUAL) == Some(VALUE) && read(&space, STACK + 2 * STACK_STEP) == Some(0),
                "what was entered is not what is there"
            );
        }
        drop(children);
        Ok(())
    })
}

/// Invalidates what the driver touches, in every way that leaves it accessible.
fn storm_worker() {
    work(|space| {
        for _ in 0..20 {
            let results = [
                space.control(VIRTUAL, PAGE, Advice::SetMap, ROOT),
                space.advise(VIRTUAL, PAGE, Advice::Invalidate),
                space.advise(PLAIN, PAGE, Advice::DontNeed),
                space.protect(PLAIN, PAGE, READ_WRITE),
            ];
            if results.iter().any(Result::is_err) {
                super::shootdown::STALE.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            }
        }
        load(space, PHYSICAL);
    });
}

/// All other CPUs invalidate the same pages without a pause. Each fault here has one attempt before the last; every round goes on until one
/// was refused, and no fault is given up.
pub fn storm() -> Result<(), &'static str> {
    accounted(|| {
        let space = scene()?;
        let total = counters::total;
        let abandoned = total(Counter::FaultAbandoned);
        let alone = cpu::count() == 1;
        oracle(&space, storm_worker, |_| {
            let refused = total(Counter::FaultRetry);
            let end = clock::now() + 20_000_000_000;
            loop {
                for place in [VIRTUAL, PLAIN] {
                    for access in [Access::READ, Access::WRITE] {
                        let result = space.resolve(place, access, Around::No, View::Regular, 1);
                        demand!(result.is_ok(), "a fault failed in a storm");
                    }
                }
                demand!(
                    read(&space, VIRTUAL) == Some(VALUE) && read(&space, PLAIN) == Some(0),
                    "a page cannot be read in a storm"
                );
                demand!(
                    write(&space, VIRTUAL, VALUE),
                    "a page cannot be written in a storm"
                );
                if alone || total(Counter::FaultRetry) != refused {
                    break;
                }
                demand!(clock::now() < end, "nobody refuses a fault");
            }
            demand!(
                total(Counter::FaultAbandoned) == abandoned,
                "a fault was given up, and its access faults again"
            );
            Ok(())
        })
    })
}
