//! Accounts: every page and every byte is charged once, to the right one, and given back; limits are exact.

use super::fork::child_of;
use super::*;
use crate::mm::Account;
use crate::vm::{Access, FaultError};
use dragonet_abi::Errno;
use dragonet_abi::memory::Advice;

const BASE: u64 = 0x1000_0000;

fn used(space: &Vmspace) -> (u64, u64) {
    (
        space.account().pages.used(),
        space.account().addresses.used() / PAGE,
    )
}

pub fn pages() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let account = space.account().clone();
        account.pages.set_limit(100);
        map(&space, &anonymous(BASE, 1000))?;
        let touch = |page: u64| space.handle_fault(BASE + page * PAGE, Access::WRITE);
        demand!(
            (0..100).all(|page| touch(page).is_ok()),
            "a page within the limit is refused"
        );
        demand!(
            touch(100) == Err(FaultError::OutOfMemory) && touch(99).is_ok(),
            "the hundred-and-first page is not refused"
        );
        demand!(
            space.write(BASE + 500 * PAGE, &[1]) == Err(Errno::ENOMEM),
            "a write for a program passes the limit"
        );
        demand!(used(&space).0 == 100, "the charge is wrong");
        demand!(
            space.advise(BASE, 10 * PAGE, Advice::DontNeed).is_ok() && used(&space).0 == 90,
            "dropped pages stay charged"
        );
        demand!(
            (200..210).all(|page| touch(page).is_ok()),
            "pages that were given back are not there"
        );
        demand!(
            touch(300) == Err(FaultError::OutOfMemory),
            "a page above the limit"
        );
        // A lower limit takes nothing away.
        account.pages.set_limit(50);
        demand!(
            touch(50).is_ok() && touch(300).is_err(),
            "a page is lost, or new above the limit"
        );
        account.pages.set_limit(200);
        // Objects that the process created are its own, whoever touches them; the first store to a private mapping of
        // one takes another page.
        let object = MemoryObject::anonymous_for(50 * PAGE, &account).map_err(|_| "no object")?;
        let other = super::space()?;
        map(&other, &of_object(BASE, 50, &object, MapFlags::SHARED))?;
        demand!(
            (0..50).all(|page| write(&other, BASE + page * PAGE, 1)),
            "a write failed"
        );
        demand!(
            used(&space).0 == 150 && used(&other).0 == 0,
            "an object is charged to who touches it"
        );
        map(&space, &of_object(2 * BASE, 50, &object, MapFlags::PRIVATE))?;
        demand!(
            (0..50).all(|page| read(&space, 2 * BASE + page * PAGE) == Some(1)) && used(&space).0 == 150,
            "a load of a private mapping is charged"
        );
        demand!(
            (0..50).all(|page| write(&space, 2 * BASE + page * PAGE, 2)) && used(&space).0 == 200,
            "a copy is not charged"
        );
        demand!(
            touch(300) == Err(FaultError::OutOfMemory),
            "a page above the limit"
        );
        // Part of a mapping goes, and its pages with it.
        demand!(
            space.unmap(2 * BASE, 20 * PAGE).is_ok() && used(&space).0 == 180,
            "the pages of what is unmapped stay charged"
        );
        demand!(
            space.unmap(BASE + 20 * PAGE, 20 * PAGE).is_ok() && used(&space).0 == 160,
            "the pages of what is unmapped stay charged"
        );
        drop(space);
        demand!(account.pages.used() == 50, "a vmspace that is gone stays charged");
        drop(object);
        demand!(account.pages.used() == 50, "a mapped object is not charged");
        drop(other);
        demand!(
            account.pages.used() == 0 && account.addresses.used() == 0,
            "something stays charged"
        );
        Ok(())
    })
}

pub fn addresses() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        space.account().addresses.set_limit(100 * PAGE);
        map(&space, &anonymous(BASE, 60))?;
        map(&space, &anonymous(2 * BASE, 40))?;
        demand!(used(&space) == (0, 100), "the charge is wrong");
        demand!(
            space.map(&anonymous(3 * BASE, 1)) == Err(Errno::ENOMEM),
            "a mapping above the limit"
        );
        // What takes the place of something only needs the difference.
        map(&space, &anonymous(BASE + 10 * PAGE, 20))?;
        demand!(used(&space) == (0, 100), "what is replaced stays charged");
        demand!(
            space.map(&anonymous(BASE + 50 * PAGE, 11)) == Err(Errno::ENOMEM),
            "a replacement above the limit"
        );
        demand!(
            read(&space, BASE + 55 * PAGE) == Some(0),
            "a refused replacement unmapped something"
        );
        demand!(space.unmap(BASE + 5 * PAGE, 10 * PAGE).is_ok(), "unmap failed");
        demand!(used(&space).1 == 90, "what is unmapped stays charged");
        map(&space, &anonymous(BASE + 50 * PAGE, 20))?;
        demand!(used(&space).1 == 100, "the charge is wrong");
        // Virtual page tables map what they like.
        let object = MemoryObject::anonymous(PAGE).map_err(|_| "no object")?;
        let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
        map(&space, &of_object(4 * BASE, 1 << 20, &object, flags))?;
        demand!(used(&space).1 == 100, "a virtual page table's mapping is charged");
        let child = child_of(&space)?;
        demand!(used(&child).1 == 100, "a copy is not charged for its addresses");
        child.clear();
        space.clear();
        demand!(
            used(&space) == (0, 0) && used(&child) == (0, 0),
            "something stays charged"
        );
        Ok(())
    })
}

/// A process's vmspaces have one account; a child has the limits and its own use.
pub fn accounts() -> Result<(), &'static str> {
    accounted(|| {
        let one = space()?;
        let two = Vmspace::charged_to(one.account().clone()).map_err(|_| "no vmspace")?;
        one.account().pages.set_limit(10);
        for space in [&one, &two] {
            map(space, &anonymous(BASE, 20))?;
        }
        let touch = |space: &Vmspace, page: u64| space.handle_fault(BASE + page * PAGE, Access::WRITE);
        demand!(
            (0..5).all(|page| touch(&one, page).is_ok() && touch(&two, page).is_ok()),
            "a page within the limit is refused"
        );
        demand!(
            touch(&one, 6).is_err() && touch(&two, 6).is_err(),
            "two vmspaces of one process have a limit each"
        );
        let account = Account::new();
        account.inherit(one.account());
        demand!(
            account.pages.limit() == 10 && account.pages.used() == 0 && account.pages.charge(11).is_err(),
            "limits are not inherited"
        );
        Ok(())
    })
}
