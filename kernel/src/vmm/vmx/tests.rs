//! In-kernel tests of virtual CPUs, with a guest of a few instructions and no process. On a machine without guest mode they check
//! that it is refused.

use super::vcpu::{Context, Vcpu};
use super::{broken, support, turn_on};
use crate::arch::irq::IrqGuard;
use crate::arch::segments;
use crate::arch::trap::TrapFrame;
#[cfg(debug_assertions)]
use crate::arch::vmx;
use crate::arch::vmx::host::ThreadHostState;
use crate::mm::physical;
use crate::pmap;
use crate::test::Test;
use crate::vm::Vmspace;
use crate::vm::tests::{accounted, anonymous, map, space, write};
use crate::vmm::{Exit, new_guest_process};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::memory::{Protection, Vpte};
use guest_mode::Gate;
use invalidation::Space;
use vmx_model::Field;
use x86_64::PhysAddr;

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "vmm::bug_2013_08_10_host_cr3_and_fs_base_follow_the_thread",
        run: host_state_follows,
    },
    Test {
        name: "vmm::tables_and_linear_addresses_never_share_an_id",
        run: ids_differ,
    },
    Test {
        name: "vmm::a_change_of_users_writes_registers_and_cr3_alone",
        run: only_registers,
    },
    Test {
        name: "vmm::an_instruction_pointer_that_is_no_address_is_the_guests_fault",
        run: bad_instruction_pointer,
    },
];

/// Tests that Bochs comments, so that its log cannot be held against them.
pub const ALONE: &[Test] = &[
    Test {
        name: "vmm::checker_and_cpu_agree",
        run: checker_and_cpu_agree,
    },
    Test {
        name: "vmm::a_misconfigured_nested_table_ends_the_guest_alone",
        run: misconfigured,
    },
];

/// Where the guest's pages are: its page table, a page of code, a second root with the same tables below.
const BASE: u64 = 0x40_0000;
const CODE: u64 = BASE + 3 * 0x1000;
const SECOND_ROOT: u64 = BASE + 4 * 0x1000;
/// `1: vmcall; jmp 1b`.
const CALLS: u64 = 0x00fb_ebc1_010f;
const CALL_LENGTH: u64 = 3;

/// A guest that does nothing but call the host.
struct Caller {
    vmspace: Arc<Vmspace>,
    linear: Space<AtomicU64>,
    gate: Gate<AtomicU64>,
    vcpu: Vcpu,
    frame: TrapFrame,
    root: u64,
    bases: (u64, u64),
}

impl Caller {
    fn new() -> Result<Self, &'static str> {
        let kind = turn_on().map_err(|_| "guest mode cannot be turned on")?;
        let vmspace = space()?;
        map(&vmspace, &anonymous(BASE, 5))?;
        let allow = Vpte::VALID | Vpte::WRITE | Vpte::USER | Vpte::ACCESSED | Vpte::DIRTY;
        let filled = write(&vmspace, BASE, (BASE + 0x1000) | allow)
            && write(&vmspace, BASE + 0x1000, (BASE + 0x2000) | allow)
            // The 2 MiB around the code lead to themselves.
            && write(&vmspace, BASE + 0x2000 + 2 * 8, BASE | allow | Vpte::LARGE)
            && write(&vmspace, SECOND_ROOT, (BASE + 0x1000) | allow)
            && write(&vmspace, CODE, CALLS);
        if !filled {
            return Err("the guest's memory cannot be written");
        }
        vmspace
            .protect(CODE, 0x1000, Protection::READ | Protection::EXECUTE)
            .map_err(|_| "the code cannot be made executable")?;
        let made = vmspace.make_nested(kind).is_ok();
        let nested = vmspace.nested().filter(|_| made).ok_or("no nested table")?;
        Ok(Caller {
            vcpu: Vcpu::new(nested, 0).map_err(|_| "no virtual CPU")?,
            vmspace,
            linear: Space::new(u64::MAX),
            gate: Gate::new(),
            frame: TrapFrame::new_user(CODE, 0, 0),
            root: BASE,
            bases: (0, 0),
        })
    }

    /// One entry, and for faults of its memory more, until the next exit of another kind.
    fn run(&mut self, before: impl Fn()) -> Result<(Exit, ThreadHostState, ThreadHostState), &'static str> {
        for _ in 0..64 {
            let interrupts = IrqGuard::new();
            let irqs = interrupts.witness();
            before();
            let nested = self.vmspace.nested().ok_or("no nested table")?;
            let context = Context {
                root: self.root,
                bases: Some(self.bases),
                nested,
                linear: &self.linear,
                gate: &self.gate,
            };
            let state = ThreadHostState::now(irqs);
            let exit = self.vcpu.enter(irqs, &mut self.frame, &context);
            let after = ThreadHostState::now(irqs);
            drop(interrupts);
            match exit {
                Exit::Resume => {}
                Exit::Nested(fault) => self
                    .vmspace
                    .handle_nested_fault(fault.address, fault.access)
                    .map_err(|_| "a fault of the guest's memory is not resolved")?,
                exit => return Ok((exit, state, after)),
            }
        }
        Err("the guest does not get anywhere")
    }

    /// Runs to the next call of the host, which must come, and passes it.
    fn call(&mut self, before: impl Fn()) -> Result<(), &'static str> {
        let (exit, state, after) = self.run(before)?;
        if exit != Exit::HostCall(CALL_LENGTH) {
            log::error!("{exit:x?} at {:#x}", self.frame.rip);
            return Err("the guest did not call");
        }
        if state != after {
            log::error!("{state:x?} before, {after:x?} after");
            return Err("the exit brought another thread's state");
        }
        self.frame.rip += CALL_LENGTH;
        Ok(())
    }
}

/// Runs `test` where there is guest mode; elsewhere it must be refused.
fn with_guest_mode(test: impl FnOnce() -> Result<(), &'static str>) -> Result<(), &'static str> {
    match (support(), turn_on()) {
        // What VMX itself takes stays, so it comes before the count.
        (Ok(_), Ok(_)) => accounted(test),
        (Err(_), Err(Errno::ENODEV)) => Ok(()),
        (Ok(_), _) => Err("guest mode cannot be turned on"),
        (Err(_), _) => Err("guest mode is not refused"),
    }
}

/// CPUs know spaces by their ids: with one id for a table and for a guest's linear addresses, an invalidation of the one would count as one of the
/// other, and pages that were unmapped could still be used.
fn ids_differ() -> Result<(), &'static str> {
    let mut ids = alloc::vec::Vec::new();
    for _ in 0..4 {
        ids.push(space()?.pmap().id());
        ids.push(new_guest_process().linear().id());
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() == 8 {
        Ok(())
    } else {
        Err("two spaces have one id")
    }
}

/// Between two entries the thread gets another address space and another FS base, as a thread does that is switched away, or makes a
/// call that sets its base; the exit must bring back the new ones.
fn host_state_follows() -> Result<(), &'static str> {
    with_guest_mode(|| {
        let mut caller = Caller::new()?;
        let other = space()?;
        caller.call(|| {})?;
        for round in 1..4 {
            let vmspace = (round % 2 == 1).then_some(&*other);
            let result = caller.call(|| {
                let guard = IrqGuard::new();
                pmap::switch_to(guard.witness(), vmspace);
                segments::set_user_bases(round << 12, 0);
            });
            {
                let guard = IrqGuard::new();
                pmap::switch_to(guard.witness(), None);
                segments::set_user_bases(0, 0);
            }
            result?;
        }
        Ok(())
    })
}

/// As a RUN and its end do: other registers, another root, other segment bases. Counted in debug builds; the host's stack pointer has
/// its field too, which the crossing itself writes if the stack is another one.
fn only_registers() -> Result<(), &'static str> {
    with_guest_mode(|| {
        let mut caller = Caller::new()?;
        caller.call(|| {})?;
        for round in 1..9u64 {
            let before = writes();
            caller.frame.rip = CODE;
            caller.frame.rsp = round << 4;
            caller.root = if round % 2 == 0 { BASE } else { SECOND_ROOT };
            caller.bases = (round << 12, round << 13);
            caller.call(|| {})?;
            for (index, (was, is)) in before.iter().zip(writes()).enumerate() {
                let register = REGISTERS.iter().any(|field| field.index() == index);
                if *was != is && !register {
                    log::error!("{:?} was written", Field::ALL.get(index));
                    return Err("a field was written that is no register");
                }
            }
        }
        Ok(())
    })
}

/// Fields that a change of users writes.
const REGISTERS: [Field; 6] = [
    Field::GuestRip,
    Field::GuestRsp,
    Field::GuestRflags,
    Field::GuestCr3,
    Field::GuestFsBase,
    Field::GuestGsBase,
];

/// Writes of each field so far; without debug assertions nobody counts.
fn writes() -> [u64; Field::COUNT] {
    #[cfg(debug_assertions)]
    return core::array::from_fn(|index| Field::ALL.get(index).map_or(0, |&field| vmx::writes_of(field)));
    #[cfg(not(debug_assertions))]
    [0; Field::COUNT]
}

fn bad_instruction_pointer() -> Result<(), &'static str> {
    const GENERAL_PROTECTION: u8 = 13;
    with_guest_mode(|| {
        let mut caller = Caller::new()?;
        caller.call(|| {})?;
        caller.frame.rip = 1 << 47;
        let (exit, ..) = caller.run(|| {})?;
        let right = matches!(
            exit,
            Exit::Exception {
                vector: GENERAL_PROTECTION,
                error_code: 0,
                ..
            }
        );
        caller.frame.rip = CODE;
        caller.call(|| {})?;
        if right {
            Ok(())
        } else {
            Err("it is not a fault of the guest")
        }
    })
}

/// Breaks one field at a time of a VMCS that was just entered, tries to enter it again, and compares how that fails with what our checker
/// says. Bochs leaves out some checks; those are not tried.
fn checker_and_cpu_agree() -> Result<(), &'static str> {
    with_guest_mode(|| {
        let mut caller = Caller::new()?;
        caller.call(|| {})?;
        let tally = broken::try_all(&mut caller.vcpu, &caller.frame).ok_or("the VMCS cannot be loaded")?;
        // All is as it was.
        caller.call(|| {})?;
        log::info!("ways to break a VMCS: {tally:?}");
        if tally.disagreed == 0 && tally.agreed > 100 {
            Ok(())
        } else {
            Err("checker and CPU do not agree")
        }
    })
}

/// An entry that allows stores and no loads, which no code here makes: the guest ends with a dump of the walk, the host goes on.
fn misconfigured() -> Result<(), &'static str> {
    const STORES_ALONE: u64 = 2;
    with_guest_mode(|| {
        let mut caller = Caller::new()?;
        caller.call(|| {})?;
        let vmspace = caller.vmspace.clone();
        let nested = vmspace.nested().ok_or("no nested table")?;
        let mut table = nested.ept_pointer() & !0xfff;
        let mut leaf = None;
        nested.trace(CODE, |level, entry| {
            if level == 1 {
                leaf = Some((table, entry));
            }
            table = entry & 0x000f_ffff_ffff_f000;
        });
        let (table, entry) = leaf.ok_or("the code is not mapped for the guest")?;
        // SAFETY: the last table on the way to the code, which stays while the vmspace is there and nobody else uses it.
        let words = unsafe { physical::words(PhysAddr::new(table)) };
        let slot = &words[(CODE >> 12 & 511) as usize];
        slot.store(entry & !7 | STORES_ALONE, Ordering::Relaxed);
        // A CPU that has the old entry need not look at the new one; the change must be one that owes a flush.
        vmspace
            .protect(CODE, 0x1000, Protection::READ)
            .and_then(|()| vmspace.protect(CODE, 0x1000, Protection::READ | Protection::EXECUTE))
            .map_err(|_| "the protection cannot be changed")?;
        slot.store(entry & !7 | STORES_ALONE, Ordering::Relaxed);
        let (exit, ..) = caller.run(|| {})?;
        slot.store(0, Ordering::Relaxed);
        if exit != Exit::Dead {
            return Err("the guest goes on");
        }
        // The next guest is as good as any.
        drop(caller);
        let mut other = Caller::new()?;
        other.call(|| {})
    })
}
