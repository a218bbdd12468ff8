//! What faults and invalidations are counted as.

use super::*;
use crate::debug::counters;
use crate::vm::Access;
use dragonet_abi::counters::{Counter, Group};

const BASE: u64 = 0x1000_0000;

/// Runs `action` and returns by how much the counters have grown.
fn growth<const COUNT: usize>(of: [Counter; COUNT], action: impl FnOnce() -> bool) -> Option<[u64; COUNT]> {
    let before = of.map(counters::total);
    let good = action();
    let after = of.map(counters::total);
    good.then(|| core::array::from_fn(|index| after[index] - before[index]))
}

pub fn outcomes() -> Result<(), &'static str> {
    use Counter as C;
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&space, &anonymous(BASE, 4))?;
        map(&space, &of_object(2 * BASE, 8, &object, MapFlags::SHARED))?;
        map(&space, &of_object(3 * BASE, 8, &object, MapFlags::PRIVATE))?;
        let faults = Group::Faults;
        let all = || C::ALL.iter().filter(|counter| counter.group() == faults).copied();
        let is_access = |counter: &C| matches!(counter, C::FaultRead | C::FaultWrite | C::FaultFetch);
        let sum = |of: &dyn Fn(&C) -> bool| -> u64 {
            all().filter(|counter| of(counter)).map(counters::total).sum()
        };
        let accesses = || sum(&is_access);
        let ends = || sum(&|counter| !is_access(counter) && *counter != C::FaultRetry);
        let before = (accesses(), ends());
        demand!(
            growth([C::FaultRead, C::FaultZeroFilled], || read(&space, BASE)
                == Some(0))
                == Some([1, 1]),
            "a first load"
        );
        demand!(
            growth([C::FaultWrite, C::FaultZeroFilled], || write(&space, 2 * BASE, 1)) == Some([1, 1]),
            "a first store"
        );
        demand!(
            growth([C::FaultRead, C::FaultResident], || read(&space, 3 * BASE)
                == Some(1))
                == Some([1, 1]),
            "a page that is there"
        );
        demand!(
            growth([C::FaultWrite, C::FaultCopied, C::InvalidateCopy], || write(
                &space,
                3 * BASE,
                2
            )) == Some([1, 1, 1]),
            "a copy on write"
        );
        let narrow = || space.protect(BASE, 4 * PAGE, READ).is_ok();
        demand!(
            growth([C::InvalidateProtect, C::FaultWrite], narrow) == Some([1, 0]),
            "a restriction"
        );
        let widen = || space.protect(BASE, 4 * PAGE, READ_WRITE).is_ok() && write(&space, BASE, 3);
        demand!(
            growth([C::InvalidateProtect, C::FaultWidened], widen) == Some([0, 1]),
            "a widening"
        );
        demand!(
            growth([C::FaultSpurious], || space
                .handle_fault(BASE, Access::WRITE)
                .is_ok())
                == Some([1]),
            "a translation that is there"
        );
        demand!(
            growth([C::FaultUnresolved], || space
                .handle_fault(0, Access::READ)
                .is_err())
                == Some([1]),
            "an address without a mapping"
        );
        demand!(
            growth([C::InvalidateUnmap], || space.unmap(BASE, 4 * PAGE).is_ok()) == Some([1]),
            "an unmapping"
        );
        let after = (accesses(), ends());
        demand!(
            after.0 - before.0 == 7 && after.1 - before.1 == 7,
            "faults without an outcome, or with two"
        );
        Ok(())
    })
}
