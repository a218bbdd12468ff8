//! Event counters: one set per CPU, read by `counters_read`.

macro_rules! counters {
    ($($(#[$group_doc:meta])* $group:ident = $title:literal {
        $($(#[$doc:meta])* $name:ident = $text:literal;)*
    })*) => {
        /// What is counted. The number is the index in the array that `counters_read` fills.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($($(#[$doc])* $name,)*)* }

        impl Counter {
            /// Every counter, by number; those of a group side by side.
            pub const ALL: &'static [Counter] = &[$($(Counter::$name,)*)*];

            /// Short name for tables, at most [`LONGEST_NAME`] characters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Counter::$name => $text,)*)* }
            }

            /// What it belongs to.
            #[must_use]
            pub const fn group(self) -> Group {
                match self { $($(Counter::$name => Group::$group,)*)* }
            }
        }

        /// Counters that are read together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Group { $($(#[$group_doc])* $group,)* }

        impl Group {
            /// Every group, in the order of the counters.
            pub const ALL: &'static [Group] = &[$(Group::$group,)*];

            /// Heading for tables.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Group::$group => $title,)* }
            }
        }
    };
}

counters! {
    /// How programs get into the kernel.
    Entries = "entries into the kernel" {
        /// System calls of programs.
        Syscall = "syscalls";
        /// Exceptions in user mode, page faults included.
        UserException = "exceptions";
        /// Page faults, by programs and by copies for them.
        PageFault = "page_faults";
        /// Timer interrupts.
        TimerInterrupt = "timer_interrupts";
        /// Device interrupts.
        DeviceInterrupt = "device_interrupts";
    }
    /// What accesses faults were for, and what became of them. Transfers between vmspaces and `MADV_WILLNEED` fault too,
    /// without an exception. Every fault is counted as one access, and has one outcome.
    Faults = "faults" {
        /// Loads.
        FaultRead = "fault_reads";
        /// Stores.
        FaultWrite = "fault_writes";
        /// Instruction fetches.
        FaultFetch = "fault_fetches";
        /// Outcome: a page of zeroes was made and mapped.
        FaultZeroFilled = "fault_zero_filled";
        /// Outcome: the page was there already and was mapped.
        FaultResident = "fault_resident";
        /// Outcome: the page was copied and the copy mapped.
        FaultCopied = "fault_copied";
        /// Outcome: the translation was there and now allows more.
        FaultWidened = "fault_widened";
        /// Outcome: the translation was there and allowed the access; somebody else was first, or a TLB was behind.
        FaultSpurious = "fault_spurious";
        /// Outcome: a translation to another page, or one that allowed something else, was replaced.
        FaultReplaced = "fault_replaced";
        /// Outcome: none, the access is not allowed or there is no memory.
        FaultUnresolved = "fault_unresolved";
        /// Outcome: none, the address was invalidated all the time; the access faults again.
        FaultAbandoned = "fault_abandoned";
        /// Attempts that were repeated, because the address was invalidated meanwhile, a virtual page table changed, or a stack grew.
        FaultRetry = "fault_retries";
    }
    /// Walks of virtual page tables.
    Vpagetable = "virtual page tables" {
        /// Walks.
        VpagetableWalk = "vpagetable_walks";
        /// Walks that found a translation.
        VpagetableFault = "vpagetable_faults";
        /// Entries read by the walks that found a translation.
        VpagetableStep = "vpagetable_steps";
    }
    /// Pages.
    Pages = "pages" {
        /// Pages zero-filled.
        PageZeroed = "pages_zeroed";
        /// Pages copied on write.
        PageCopied = "pages_copied";
        /// Pages mapped beside the one that faulted, because they were there.
        PageMappedAround = "pages_mapped_around";
        /// Pages that a fork gave a further owner.
        PageShared = "pages_shared_by_fork";
        /// Pages that had been shared by a fork and were made writable in place for the last owner.
        PageReused = "pages_reused_in_place";
    }
    /// Switches between address spaces.
    Spaces = "address spaces" {
        /// Loads of CR3 that switch to another address space.
        Cr3Load = "cr3_loads";
        /// Those of them that kept what the CPU had of the new address space: its tag (PCID) was still good.
        PcidHit = "pcid_hits";
        /// Those that dropped everything under the tag, or without tags everything that is not global.
        PcidMiss = "pcid_misses";
        /// Tags taken from one address space for another.
        PcidEviction = "pcid_evictions";
    }
    /// Instructions that drop translations, by kind; loads of CR3 that switch are above.
    Flushes = "flushes by kind" {
        /// INVLPG instructions.
        FlushPage = "flush_page";
        /// Flushes of all translations of the address space that runs (without tags: of all that are not global).
        FlushAll = "flush_all";
        /// Those of them that were INVPCID instructions, and no loads of CR3.
        FlushInvpcid = "flush_invpcid";
    }
    /// Removals and restrictions of translations that owed a flush, by cause.
    Invalidations = "invalidations by cause" {
        /// `munmap`, or the end of an address space.
        InvalidateUnmap = "inval_unmap";
        /// `mprotect`.
        InvalidateProtect = "inval_protect";
        /// `MADV_INVAL`.
        InvalidateAdvice = "inval_madv_inval";
        /// `MADV_SETMAP`.
        InvalidateSetMap = "inval_madv_setmap";
        /// `MADV_DONTNEED` and the like.
        InvalidateDontNeed = "inval_madv_dontneed";
        /// Something else was mapped over it, or another page came to the address.
        InvalidateReplace = "inval_replace";
        /// A copy on write took the page's place.
        InvalidateCopy = "inval_copy";
        /// The address space was copied and its private pages became read-only.
        InvalidateFork = "inval_fork";
    }
    /// How CPUs reach each other.
    Processors = "between CPUs" {
        /// Invalidations that had to reach another CPU.
        Shootdown = "shootdowns";
        /// Invalidations that needed no IPI because no other CPU runs the vmspace.
        IpiAvoided = "ipis_avoided";
        /// Invalidations answered before the flush, which the CPU does before it next uses the address space.
        EarlyAcknowledgement = "early_acks";
        /// Inter-processor interrupts sent, for whatever reason.
        IpiSent = "ipis_sent";
        /// Inter-processor interrupts received.
        IpiReceived = "ipis_received";
    }
    /// Threads and what they wait for.
    Threads = "threads" {
        /// Switches to another thread.
        ContextSwitch = "context_switches";
        /// Thread moved to another CPU.
        Migration = "migrations";
        /// Times a CPU went to sleep.
        Idle = "idle_entries";
        /// Channel calls.
        ChannelCall = "channel_calls";
        /// Waits on a user word.
        UmtxSleep = "umtx_sleeps";
        /// Virtual interrupts posted.
        VirtualInterruptPosted = "virqs_posted";
        /// Virtual interrupts delivered to a handler.
        VirtualInterruptDelivered = "virqs_delivered";
        /// Threads that ended.
        ThreadExit = "thread_exits";
        /// Processes that ended.
        ProcessExit = "process_exits";
    }
    /// What vkernels do.
    Vkernels = "vkernels" {
        /// Entries of `vmspace_ctl(RUN)`.
        VmspaceRun = "vmspace_runs";
        /// RUN ended by a system call of the vkernel's user.
        RunSyscall = "run_syscalls";
        /// RUN ended by an exception.
        RunException = "run_exceptions";
        /// RUN ended by a virtual interrupt.
        RunVirtualInterrupt = "run_virtual_interrupts";
        /// RUN ended by its time-out.
        RunTimeout = "run_timeouts";
        /// RUN ended because its vmspace was destroyed.
        RunDestroyed = "runs_destroyed";
    }
    /// Why guests left for the host.
    GuestExits = "guest exits by reason" {
        /// All of them.
        GuestExit = "guest_exits";
        /// An exception in the guest.
        ExitException = "exit_exceptions";
        /// An interrupt of the host, or an NMI or a machine check.
        ExitInterrupt = "exit_interrupts";
        /// `VMCALL`: a system call of the vkernel.
        ExitHostCall = "exit_host_calls";
        /// `CPUID`.
        ExitCpuid = "exit_cpuid";
        /// The nested page table had no translation, or one that allows less.
        ExitNestedFault = "exit_nested_faults";
        /// An instruction that the guest may not use and that exits before its privilege is checked.
        ExitInstruction = "exit_instructions";
        /// One that ended the guest's process: an entry that failed, or what nothing foresees.
        ExitFatal = "exit_fatal";
    }
    /// What guests cost the host.
    Guests = "guests" {
        /// Fields of a VMCS that were read.
        VmcsRead = "vmcs_reads";
        /// Fields of a VMCS that were written: the guest's registers, CR3 and segment bases.
        VmcsWriteRegister = "vmcs_writes_registers";
        /// All others.
        VmcsWriteOther = "vmcs_writes_other";
        /// A VMCS came to a CPU where it was not before.
        VmcsMove = "vmcs_moves";
        /// Flushes of all that comes from a nested page table (INVEPT).
        FlushNested = "flush_nested";
        /// Flushes of linear addresses of a guest, all or one (INVVPID).
        FlushGuest = "flush_guest";
    }
}

/// Count of counters.
pub const COUNTERS: usize = Counter::ALL.len();
/// Characters of the longest name.
pub const LONGEST_NAME: usize = 22;
/// `cpu` argument of `counters_read` for the sum over all CPUs.
pub const ALL_CPUS: u64 = u64::MAX;
