//! Address spaces that translate through a page table in RAM: one traced process for each host thread that runs in the space.
//!
//! A translation is a page that is mapped in a traced process. Invalidation raises the generation, stops the processes that
//! run, and waits until each has either stopped or dropped its pages; a process that is not running drops them before it runs again.

use super::interrupts::{self, kick};
use super::ram::RamFile;
use super::tracee::{Stop, Tracee};
use crate::linux::Errno;
use crate::linux::signal::FPE_INTDIV;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dragonet_abi::layout::{PAGE_SIZE, USER_END, USER_START};
use dragonet_abi::memory::Vpte;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RUN_VIRTUAL_INTERRUPT, RunState};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

std::thread_local! {
    /// The calling thread's traced processes, by space.
    static TRACEES: RefCell<HashMap<u64, Local>> = RefCell::new(HashMap::new());
}

/// A traced process with what its thread knows about it.
struct Local {
    tracee: Tracee,
    shared: Arc<Shared>,
    /// Pages that it has mapped, and whether writable.
    pages: HashMap<u64, bool>,
}

/// What other threads see of a traced process.
struct Shared {
    process: i32,
    running: AtomicBool,
    /// The generation of the pages that it has mapped.
    generation: AtomicU64,
    /// The space is gone, and so is the process.
    gone: AtomicBool,
}

/// An address space.
pub struct Vmspace {
    id: u64,
    root: Vpte,
    generation: AtomicU64,
    tracees: Mutex<Vec<Arc<Shared>>>,
}

/// What a walk found.
struct Translation {
    frame: u64,
    writable: bool,
    executable: bool,
}

impl Vmspace {
    /// A space whose whole user range shows what the table of `root` says.
    pub fn new(root: Vpte) -> Result<Self, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Vmspace {
            id,
            root,
            generation: AtomicU64::new(0),
            tracees: Mutex::new(Vec::new()),
        })
    }

    /// Runs the calling thread in the space until something happens.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        let registers = &state.registers;
        let highest = registers.rsp.max(registers.fs_base).max(registers.gs_base);
        if registers.rip >= USER_END || highest >= 1 << 47 {
            return Err(Errno::EINVAL);
        }
        TRACEES.with_borrow_mut(|tracees| {
            if !tracees.contains_key(&self.id) {
                tracees.retain(|_, local| !local.shared.gone.load(Ordering::SeqCst));
                tracees.insert(self.id, self.new_tracee()?);
            }
            match tracees.get_mut(&self.id) {
                Some(local) => self.run_tracee(local, state),
                None => Err(Errno::ENOMEM),
            }
        })
    }

    fn new_tracee(&self) -> Result<Local, Errno> {
        let tracee = Tracee::new()?;
        let shared = Arc::new(Shared {
            process: tracee.process,
            running: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        self.tracees.lock().expect("lock").push(shared.clone());
        Ok(Local {
            tracee,
            shared,
            pages: HashMap::new(),
        })
    }

    fn run_tracee(&self, local: &mut Local, state: &mut RunState) -> Result<(), Errno> {
        let own = interrupts::own();
        local.tracee.set_registers(&state.registers);
        local.tracee.set_fpu();
        state.vector = 0;
        state.error_code = 0;
        state.fault_address = 0;
        loop {
            // First say that it runs, then look whether it may: who wants it to stop does it the other way round.
            own.running.store(local.shared.process, Ordering::SeqCst);
            local.shared.running.store(true, Ordering::SeqCst);
            let current = self.generation.load(Ordering::SeqCst);
            if local.shared.generation.load(Ordering::SeqCst) != current {
                local.tracee.forget_pages()?;
                local.pages.clear();
                local.shared.generation.store(current, Ordering::SeqCst);
                local.shared.running.store(false, Ordering::SeqCst);
                continue;
            }
            let stop = if own.is_due() {
                Stop::Kicked
            } else {
                local.tracee.run()
            };
            local.shared.running.store(false, Ordering::SeqCst);
            own.running.store(0, Ordering::SeqCst);
            match stop {
                Stop::Kicked if !own.is_due() => {}
                Stop::Kicked => {
                    state.reason = RUN_VIRTUAL_INTERRUPT;
                    break;
                }
                Stop::Syscall => {
                    state.reason = RUN_SYSCALL;
                    break;
                }
                Stop::Fault(information) => {
                    if self.explain(local, &information, state)? {
                        break;
                    }
                }
            }
        }
        state.registers = local.tracee.frame(state.reason == RUN_SYSCALL);
        local.tracee.take_fpu();
        Ok(())
    }

    /// Resolves a page fault with the table, or fills in the exception. True if the run is over.
    fn explain(
        &self,
        local: &mut Local,
        information: &libc::siginfo_t,
        state: &mut RunState,
    ) -> Result<bool, Errno> {
        /// `si_code` of faults without an address.
        const SI_KERNEL: i32 = 0x80;
        state.reason = RUN_EXCEPTION;
        state.vector = match (information.si_signo, information.si_code) {
            (libc::SIGSEGV, SI_KERNEL) => 13,
            (libc::SIGSEGV, _) => 14,
            (libc::SIGILL, _) => 6,
            (libc::SIGFPE, FPE_INTDIV) => 0,
            (libc::SIGFPE, _) => 19,
            (libc::SIGBUS, _) => 17,
            (libc::SIGTRAP, SI_KERNEL) => 3,
            (libc::SIGTRAP, _) => 1,
            _ => 13,
        };
        if state.vector != 14 {
            return Ok(true);
        }
        // SAFETY: a SIGSEGV with such a code has an address.
        let address = unsafe { information.si_addr() }.addr() as u64;
        let page = address & !(PAGE_SIZE - 1);
        // The kernel does not say what the access was: a fetch faults at the instruction pointer, a page that can be read faults on a store, and
        // everything else is taken for a load, which faults again if it is not.
        let execute = local.tracee.frame(false).rip == address;
        let write = !execute && local.pages.contains_key(&page);
        state.fault_address = address;
        state.error_code = 4 | if write { 2 } else { 0 } | if execute { 0x10 } else { 0 };
        if !(USER_START..USER_END).contains(&page) {
            return Ok(true);
        }
        // The generation was looked at before the run: if it moved since, the next round drops the page again.
        match self.walk(page, write, execute) {
            Some(found) => {
                local
                    .tracee
                    .map_page(page, found.frame, found.writable, found.executable)?;
                local.pages.insert(page, found.writable);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// The walk of the microkernel, see the design record of memory: every level must allow the access; accessed and dirty are set by
    /// compare-and-swap; a page is writable only once it is dirty.
    fn walk(&self, address: u64, write: bool, execute: bool) -> Option<Translation> {
        let ram = RamFile::get();
        let mut entry = self.root.0;
        let (mut writable, mut executable) = (true, true);
        for level in (0..4).rev() {
            let frame = Vpte(entry).offset() / PAGE_SIZE;
            if frame >= ram.frames() {
                return None;
            }
            let slot = ram.word(frame, (address >> (12 + 9 * level)) as usize & 511);
            let seen = slot.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| {
                let vpte = Vpte(value);
                let allowed = vpte.has(Vpte::VALID | Vpte::USER)
                    && (!write || writable && vpte.has(Vpte::WRITE))
                    && (!execute || executable && !vpte.has(Vpte::NO_EXECUTE));
                let dirty = if write && level == 0 { Vpte::DIRTY } else { 0 };
                allowed.then_some(value | Vpte::ACCESSED | dirty)
            });
            entry = seen.ok()?;
            writable &= Vpte(entry).has(Vpte::WRITE);
            executable &= !Vpte(entry).has(Vpte::NO_EXECUTE);
        }
        let dirty = write || Vpte(entry).has(Vpte::DIRTY);
        let frame = Vpte(entry).offset() / PAGE_SIZE;
        (frame < ram.frames()).then_some(Translation {
            frame,
            writable: writable && dirty,
            executable,
        })
    }

    /// Makes every thread forget translations. When this returns, none can use an old one.
    pub fn invalidate(&self, _range: Range<u64>) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let tracees = self.tracees.lock().expect("lock").clone();
        for tracee in tracees {
            while tracee.running.load(Ordering::SeqCst)
                && tracee.generation.load(Ordering::SeqCst) < generation
            {
                kick(tracee.process);
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Vmspace {
    fn drop(&mut self) {
        for tracee in self.tracees.lock().expect("lock").drain(..) {
            tracee.gone.store(true, Ordering::SeqCst);
            let mut status = 0;
            // SAFETY: a child of ours that nobody runs any more; `status` is ours.
            unsafe {
                libc::kill(tracee.process, libc::SIGKILL);
                libc::waitpid(tracee.process, &mut status, libc::__WALL);
            }
        }
    }
}
