//! What guests see of mappings.

use super::*;
use crate::pmap::NestedKind;
use crate::vm::Access;

const BASE: u64 = 0x1000_0000;
const FETCH: Access = Access {
    write: false,
    execute: true,
    user: true,
};

/// Only what is mapped as a virtual machine's memory can be executed by guests beyond its protection, and only with the right to.
pub fn execution() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        space
            .make_nested(NestedKind {
                accessed_dirty: true,
                large_pages: true,
            })
            .map_err(|_| "no nested table")?;
        let object = MemoryObject::anonymous(PAGE).map_err(|_| "no object")?;
        let machine = of_object(2 * BASE, 1, &object, MapFlags::SHARED | MapFlags::GUEST_MEMORY);
        let without_right = MapArguments {
            address: 3 * BASE,
            maximum: READ_WRITE,
            ..machine.clone()
        };
        map(&space, &of_object(BASE, 1, &object, MapFlags::SHARED))?;
        map(&space, &machine)?;
        map(&space, &without_right)?;
        for (address, guest_executes) in [(BASE, false), (2 * BASE, true), (3 * BASE, false)] {
            demand!(
                space.handle_nested_fault(address, FETCH).is_ok() == guest_executes,
                "a guest executes what it must not, or not what it may"
            );
            demand!(
                space.handle_nested_fault(address, Access::WRITE).is_ok(),
                "a guest cannot write"
            );
            demand!(
                space.handle_fault(address, FETCH).is_err(),
                "the process executes its data"
            );
        }
        Ok(())
    })
}
