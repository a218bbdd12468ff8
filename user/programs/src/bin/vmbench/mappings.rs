//! Private memory: first touch, mapping, unmapping, protection.

use crate::Results;
use crate::meter::{Meter, without};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_programs::bench::Row;
use dragonet_rt::atomic_memory::AtomicMemory;

const OPERATIONS: u64 = 64;
/// Pages of a large mapping, 8 MiB.
const MANY: u64 = 2048;
/// Large mappings that are measured together.
const LARGE_OPERATIONS: u64 = 2;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// Memory whose first `pages` pages have been written to.
fn touched(pages: u64) -> Result<AtomicMemory, Errno> {
    let memory = AtomicMemory::anonymous(pages * PAGE_SIZE)?;
    (0..pages).try_for_each(|page| touch(&memory, page))?;
    Ok(memory)
}

fn touch(memory: &AtomicMemory, page: u64) -> Result<(), Errno> {
    memory.word(page * PAGE_SIZE)?.store(1, Ordering::Relaxed);
    Ok(())
}

pub fn measure(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    first_touch(meter, results)?;
    for (pages, operations) in [(1, OPERATIONS), (MANY, LARGE_OPERATIONS)] {
        whole_mappings(meter, results, pages, operations)?;
        protection(meter, results, pages, operations)?;
    }
    sequences(meter, results)
}

fn first_touch(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let clear = meter.measure(
        OPERATIONS,
        || Ok(Box::new([1_u8; PAGE_SIZE as usize])),
        |page, _| {
            black_box(&mut **page).fill(0);
            Ok(())
        },
    )?;
    let touch = meter.measure(
        OPERATIONS,
        || AtomicMemory::anonymous(OPERATIONS * PAGE_SIZE),
        |memory, page| touch(memory, page),
    )?;
    results.exactly(
        "a first touch is one fault",
        touch.count(Counter::PageFault),
        OPERATIONS,
    );
    results.exactly(
        "a first touch makes one page",
        touch.count(Counter::PageZeroed),
        OPERATIONS,
    );
    let flushes = touch.count(Counter::FlushPage) + touch.count(Counter::FlushAll);
    results.exactly("a first touch flushes nothing", flushes, 0);
    let rest = without(&touch, &clear);
    results.rows.push(Row::new("first-touch", touch).peer(4133));
    results
        .rows
        .push(Row::new("first-touch-less-clear", rest).goal(300));
    results.rows.push(Row::new("clear-a-page", clear));
    Ok(())
}

fn whole_mappings(meter: &Meter, results: &mut Results, pages: u64, operations: u64) -> Result<(), Errno> {
    let map = meter.measure(
        operations,
        || Ok(Vec::with_capacity(operations as usize)),
        |mapped, _| {
            mapped.push(AtomicMemory::anonymous(pages * PAGE_SIZE)?);
            Ok(())
        },
    )?;
    results.exactly(
        &alloc::format!("mapping {pages} pages faults and flushes nothing"),
        map.count(Counter::PageFault) + map.count(Counter::FlushPage) + map.count(Counter::FlushAll),
        0,
    );
    results.rows.push(Row::new(alloc::format!("map-{pages}"), map));
    for (name, written) in [("unmap-untouched", 0), ("unmap", pages)] {
        let unmap = meter.measure(
            operations,
            || {
                let one = |_| {
                    let memory = AtomicMemory::anonymous(pages * PAGE_SIZE)?;
                    (0..written).try_for_each(|page| touch(&memory, page))?;
                    Ok(memory)
                };
                (0..operations).map(one).collect::<Result<Vec<_>, Errno>>()
            },
            |mapped, _| {
                drop(mapped.pop());
                Ok(())
            },
        )?;
        results
            .rows
            .push(Row::new(alloc::format!("{name}-{pages}"), unmap));
    }
    Ok(())
}

fn protection(meter: &Meter, results: &mut Results, pages: u64, operations: u64) -> Result<(), Errno> {
    // Side by side in one mapping, each protected by itself.
    let length = pages * PAGE_SIZE;
    let each = |protection| {
        move |memory: &mut AtomicMemory, index: u64| memory.protect(index * length, length, protection)
    };
    let narrow = meter.measure(operations, || touched(pages * operations), each(Protection::READ))?;
    results
        .rows
        .push(Row::new(alloc::format!("protect-{pages}"), narrow));
    let narrowed = || {
        let memory = touched(pages * operations)?;
        memory.protect(0, length * operations, Protection::READ)?;
        Ok(memory)
    };
    let widen = meter.measure(operations, narrowed, each(READ_WRITE))?;
    let flushes = widen.count(Counter::FlushPage) + widen.count(Counter::FlushAll);
    results.exactly(
        &alloc::format!("allowing more of {pages} pages flushes nothing"),
        flushes,
        0,
    );
    results
        .rows
        .push(Row::new(alloc::format!("allow-{pages}"), widen));
    Ok(())
}

fn sequences(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let whole = meter.measure(
        OPERATIONS,
        || Ok(()),
        |(), _| {
            let memory = AtomicMemory::anonymous(PAGE_SIZE)?;
            touch(&memory, 0)
        },
    )?;
    results.rows.push(Row::new("map-touch-unmap", whole).peer(19_864));
    let twice = meter.measure(
        OPERATIONS,
        || touched(1),
        |memory, _| {
            memory.protect(0, PAGE_SIZE, Protection::READ)?;
            memory.protect(0, PAGE_SIZE, READ_WRITE)?;
            touch(memory, 0)
        },
    )?;
    results.exactly(
        "protecting twice and touching is one fault",
        twice.count(Counter::PageFault),
        OPERATIONS,
    );
    results
        .rows
        .push(Row::new("protect-twice-touch", twice).peer(5946));
    Ok(())
}
