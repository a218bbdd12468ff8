//! Mappings with a virtual page table, through real faults and real tables. The walker itself is tested on the host.

use super::*;
use crate::vm::{Access, FaultError};
use dragonet_abi::memory::{Advice, Vpte};

const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
const AD: u64 = Vpte::ACCESSED | Vpte::DIRTY;
/// Where the memory is seen as it is.
const PHYSICAL: u64 = 0x1000_0000;
/// Where it is seen through its table.
const VIRTUAL: u64 = 0x40_0000_0000;
const PAGES: u64 = 1024;
const ROOT: u64 = PAGE | ALLOW;

/// A vmspace with an object mapped both ways. Tables in pages 1 to 4; the first pages of the mapping are pages 16 on.
struct Machine {
    space: Arc<Vmspace>,
    object: Arc<MemoryObject>,
}

impl Machine {
    fn new() -> Result<Self, &'static str> {
        let object = MemoryObject::anonymous(PAGES * PAGE).map_err(|_| "no object")?;
        let machine = Machine {
            space: space()?,
            object,
        };
        map(
            &machine.space,
            &of_object(PHYSICAL, PAGES, &machine.object, MapFlags::SHARED),
        )?;
        map(&machine.space, &machine.through_table(VIRTUAL, 0x1000, 0))?;
        demand!(machine.set_root(ROOT), "SetMap failed");
        for (table, entry) in [(1, 2), (2, 3), (3, 4)] {
            machine.set(table, 0, (entry * PAGE) | ALLOW);
        }
        for page in 0..8 {
            machine.set(4, page, ((16 + page) * PAGE) | ALLOW);
            demand!(
                write(&machine.space, PHYSICAL + (16 + page) * PAGE, 100 + page),
                "a write failed"
            );
        }
        Ok(machine)
    }

    fn through_table(&self, address: u64, pages: u64, offset: u64) -> MapArguments {
        MapArguments {
            offset,
            ..of_object(
                address,
                pages,
                &self.object,
                MapFlags::SHARED | MapFlags::VPAGETABLE,
            )
        }
    }

    fn set_root(&self, root: u64) -> bool {
        self.space
            .control(VIRTUAL, 0x1000 * PAGE, Advice::SetMap, root)
            .is_ok()
    }

    fn set(&self, table: u64, index: u64, entry: u64) {
        let written = write(&self.space, PHYSICAL + table * PAGE + index * 8, entry);
        assert!(written, "the table can be written");
    }

    fn entry(&self, table: u64, index: u64) -> u64 {
        read(&self.space, PHYSICAL + table * PAGE + index * 8).unwrap_or(0)
    }

    fn get(&self, page: u64) -> Option<u64> {
        read(&self.space, VIRTUAL + page * PAGE)
    }

    fn fault(&self, page: u64, access: Access) -> Result<(), FaultError> {
        self.space.handle_fault(VIRTUAL + page * PAGE, access)
    }

    fn invalidate(&self, page: u64, pages: u64) -> bool {
        self.space
            .advise(VIRTUAL + page * PAGE, pages * PAGE, Advice::Invalidate)
            .is_ok()
    }
}

const FETCH: Access = Access {
    execute: true,
    ..Access::READ
};

pub fn translation() -> Result<(), &'static str> {
    accounted(|| {
        let machine = Machine::new()?;
        demand!(machine.get(3) == Some(103), "the table is not followed");
        demand!(
            machine.entry(4, 3) & AD == Vpte::ACCESSED,
            "a load did not set A alone"
        );
        demand!(
            machine.entry(3, 0) & AD == Vpte::ACCESSED,
            "a directory is not marked"
        );
        let mapped = machine.space.pmap().translation(VIRTUAL + 3 * PAGE);
        let writable = mapped.is_some_and(|(_, rights)| rights.contains(page_table::Protection::WRITE));
        demand!(
            mapped.is_some() && !writable,
            "writable before the dirty bit is set"
        );
        demand!(write(&machine.space, VIRTUAL + 3 * PAGE, 7), "a write failed");
        demand!(machine.entry(4, 3) & AD == AD, "a store did not set D");
        demand!(
            read(&machine.space, PHYSICAL + 19 * PAGE) == Some(7),
            "the store went elsewhere"
        );
        // Aliases, as in the test of 2006: 23, 23, and the table's own entry.
        machine.set(4, 0, (16 * PAGE) | ALLOW);
        machine.set(4, 1, (16 * PAGE) | ALLOW);
        machine.set(4, 2, (3 * PAGE) | ALLOW);
        demand!(write(&machine.space, VIRTUAL, 23), "a write failed");
        demand!(
            machine.get(0) == Some(23) && machine.get(1) == Some(23),
            "aliases differ"
        );
        demand!(
            machine.get(2) == Some(machine.entry(3, 0)),
            "the table does not show itself"
        );
        machine.set(4, 2, 0);
        demand!(machine.invalidate(2, 1), "Invalidate failed");
        demand!(machine.get(2).is_none(), "an invalid entry is followed");
        demand!(
            machine.fault(2, Access::READ) == Err(FaultError::Vpagetable),
            "the wrong reason"
        );
        Ok(())
    })
}

pub fn rights() -> Result<(), &'static str> {
    accounted(|| {
        let machine = Machine::new()?;
        let page = |index: u64| (16 + index) * PAGE;
        machine.set(4, 0, page(0) | ALLOW & !Vpte::USER);
        machine.set(4, 1, page(1) | ALLOW & !Vpte::WRITE);
        machine.set(4, 2, page(2) | ALLOW | Vpte::NO_EXECUTE);
        machine.set(4, 3, (PAGES * PAGE) | ALLOW);
        machine.set(4, 4, Vpte::FRAME | ALLOW);
        for (index, access, result) in [
            (0, Access::READ, Err(FaultError::VpagetableDenied)),
            (0, Access::WRITE, Err(FaultError::VpagetableDenied)),
            (1, Access::READ, Ok(())),
            (1, Access::WRITE, Err(FaultError::VpagetableDenied)),
            (1, FETCH, Ok(())),
            (2, FETCH, Err(FaultError::VpagetableDenied)),
            (2, Access::WRITE, Ok(())),
            (3, Access::READ, Err(FaultError::VpagetableReserved)),
            (4, Access::WRITE, Err(FaultError::VpagetableReserved)),
            (9, Access::READ, Err(FaultError::Vpagetable)),
        ] {
            if machine.fault(index, access) != result {
                log::error!("page {index}, {access:?}: not {result:?}");
                return Err("rights or bounds are not honoured");
            }
        }
        let rights = |index: u64| {
            machine
                .space
                .pmap()
                .translation(VIRTUAL + index * PAGE)
                .map(|found| found.1)
        };
        let executable =
            |index| rights(index).is_some_and(|rights| rights.contains(page_table::Protection::EXECUTE));
        demand!(
            executable(1) && !executable(2),
            "NX does not reach the machine's own table"
        );
        // A large page, linear and bounded.
        machine.set(3, 1, Vpte::LARGE | ALLOW);
        demand!(machine.get(512 + 18) == Some(102), "a large page is not linear");
        machine.set(3, 2, Vpte::LARGE | ALLOW | 2 << 20);
        demand!(
            machine.fault(1024 + 511, Access::READ).is_ok(),
            "the last page of the object"
        );
        machine.set(3, 2, Vpte::LARGE | ALLOW | 4 << 20);
        demand!(machine.invalidate(1024, 512), "Invalidate failed");
        let outside = machine.fault(1024, Access::READ);
        demand!(
            outside == Err(FaultError::VpagetableReserved),
            "a large page beyond the object"
        );
        // Error codes as the vkernel's user would get them from hardware.
        demand!(
            FaultError::VpagetableDenied.error_code(Access::WRITE) == 7,
            "P, W and U"
        );
        demand!(FaultError::Vpagetable.error_code(FETCH) == 0x14, "U and I");
        Ok(())
    })
}

/// DragonFly's index rule: the walk uses (address - start + offset), and clipping moves both.
pub fn clipping() -> Result<(), &'static str> {
    accounted(|| {
        let machine = Machine::new()?;
        demand!(machine.space.unmap(VIRTUAL + PAGE, PAGE).is_ok(), "unmap failed");
        demand!(
            machine.get(0) == Some(100) && machine.get(2) == Some(102),
            "clipping moved the index"
        );
        demand!(machine.get(1).is_none(), "a hole was read");
        let shifted = 2 * VIRTUAL;
        map(&machine.space, &machine.through_table(shifted, 0x1000, 5 * PAGE))?;
        demand!(
            read(&machine.space, shifted).is_none(),
            "a mapping without a root was read"
        );
        let all = machine
            .space
            .control(shifted, 0x1000 * PAGE, Advice::SetMap, ROOT);
        demand!(
            all.is_ok() && read(&machine.space, shifted) == Some(105),
            "the offset is not the index base"
        );
        // SetMap on a part gives two roots.
        let part = machine
            .space
            .control(shifted + PAGE, PAGE, Advice::SetMap, ALLOW | Vpte::LARGE);
        demand!(part.is_ok(), "SetMap on a part failed");
        demand!(
            read(&machine.space, shifted) == Some(105),
            "the first part changed its root"
        );
        demand!(
            read(&machine.space, shifted + PAGE) == Some(machine.entry(6, 0)),
            "the second part kept its root"
        );
        demand!(
            read(&machine.space, shifted + 2 * PAGE) == Some(107),
            "the third part changed its root"
        );
        demand!(
            machine
                .space
                .control(PHYSICAL, PAGE, Advice::SetMap, ROOT)
                .is_err(),
            "SetMap on an ordinary mapping"
        );
        Ok(())
    })
}

pub fn invalidation() -> Result<(), &'static str> {
    accounted(|| {
        let machine = Machine::new()?;
        demand!(machine.get(0) == Some(100), "a read failed");
        machine.set(4, 0, (17 * PAGE) | ALLOW);
        demand!(
            machine.get(0) == Some(100),
            "a change is seen without Invalidate: nothing was cached"
        );
        demand!(
            machine.invalidate(0, 1) && machine.get(0) == Some(101),
            "a change is not seen after Invalidate"
        );
        // Clearing D needs Invalidate, and then the next store sets it again.
        demand!(
            write(&machine.space, VIRTUAL, 1) && machine.entry(4, 0) & AD == AD,
            "no dirty bit"
        );
        machine.set(4, 0, (17 * PAGE) | ALLOW);
        demand!(
            machine.invalidate(0, 1) && machine.get(0) == Some(1),
            "a read failed"
        );
        demand!(write(&machine.space, VIRTUAL, 2), "a write failed");
        demand!(machine.entry(4, 0) & AD == AD, "the dirty bit was not set again");
        // A new root makes everything new, no root makes everything fault.
        demand!(machine.set_root(ALLOW | Vpte::LARGE), "SetMap failed");
        demand!(machine.get(17) == Some(2), "a large root is not linear");
        demand!(machine.get(PAGES).is_none(), "beyond the object");
        demand!(
            machine.set_root(0) && machine.get(17).is_none(),
            "a root of 0 translates"
        );
        demand!(
            machine.set_root(ROOT) && machine.get(3) == Some(103),
            "SetMap failed"
        );
        demand!(
            machine.set_root((PAGES * PAGE) | ALLOW) && machine.get(3).is_none(),
            "a root beyond the object"
        );
        // A table that names itself, in a loop.
        machine.set(1, 0, PAGE | ALLOW);
        demand!(
            machine.set_root(ROOT) && machine.get(0) == Some(machine.entry(1, 0)),
            "a loop"
        );
        Ok(())
    })
}
