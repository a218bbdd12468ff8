//! Event counters: one set per CPU, read by `counters_read`.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What is counted. The number is the index in the array that `counters_read` fills.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter, by number.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// Short name for tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// System calls of programs.
    Syscall = "syscalls";
    /// Exceptions in user mode, page faults included.
    UserException = "exceptions";
    /// Page faults, by programs and by copies for them.
    PageFault = "page_faults";
    /// Page faults that a virtual page table resolved.
    VpagetableFault = "vpagetable_faults";
    /// Steps of virtual page table walks.
    VpagetableStep = "vpagetable_steps";
    /// Loads of CR3.
    Cr3Load = "cr3_loads";
    /// INVLPG instructions.
    FlushPage = "flush_page";
    /// Flushes of all non-global translations on one CPU (other than by switching).
    FlushAll = "flush_all";
    /// Invalidations that had to reach another CPU.
    Shootdown = "shootdowns";
    /// Inter-processor interrupts sent.
    IpiSent = "ipis_sent";
    /// Inter-processor interrupts received.
    IpiReceived = "ipis_received";
    /// Invalidations that needed no IPI because no other CPU runs the vmspace.
    IpiAvoided = "ipis_avoided";
    /// Switches to another thread.
    ContextSwitch = "context_switches";
    /// Thread moved to another CPU.
    Migration = "migrations";
    /// Timer interrupts.
    TimerInterrupt = "timer_interrupts";
    /// Device interrupts.
    DeviceInterrupt = "device_interrupts";
    /// Times a CPU went to sleep.
    Idle = "idle_entries";
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
    /// Virtual interrupts posted.
    VirtualInterruptPosted = "virqs_posted";
    /// Virtual interrupts delivered to a handler.
    VirtualInterruptDelivered = "virqs_delivered";
    /// Channel calls.
    ChannelCall = "channel_calls";
    /// Waits on a user word.
    UmtxSleep = "umtx_sleeps";
    /// Pages zero-filled.
    PageZeroed = "pages_zeroed";
    /// Pages copied on write.
    PageCopied = "pages_copied";
    /// Threads that ended.
    ThreadExit = "thread_exits";
    /// Processes that ended.
    ProcessExit = "process_exits";
    /// RUN ended because its vmspace was destroyed.
    RunDestroyed = "runs_destroyed";
    /// Pages mapped beside the one that faulted, because they were there.
    PageMappedAround = "pages_mapped_around";
    /// Pages that a fork gave a further owner.
    PageShared = "pages_shared_by_fork";
    /// Pages that had been shared by a fork and were made writable in place for the last owner.
    PageReused = "pages_reused_in_place";
}

/// Count of counters.
pub const COUNTERS: usize = Counter::ALL.len();
/// `cpu` argument of `counters_read` for the sum over all CPUs.
pub const ALL_CPUS: u64 = u64::MAX;
