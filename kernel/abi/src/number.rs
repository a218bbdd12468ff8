//! The system-call table: number, name, arguments, result and rights of every call.

macro_rules! syscalls {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal;)*) => {
        /// Every system call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u64)]
        pub enum SyscallNumber { $($(#[doc = $doc])* $name = $number,)* }

        impl SyscallNumber {
            /// Every call.
            pub const ALL: &'static [SyscallNumber] = &[$(SyscallNumber::$name,)*];

            /// The call with this number.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(SyscallNumber::$name),)* _ => None }
            }

            /// Arguments, result and rights in words: the text from which the reference in the book is made.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(SyscallNumber::$name => concat!($($doc),*),)* }
            }
        }
    };
}

syscalls! {
    /// `()` -> 0. Does nothing, for measuring.
    Null = 0;

    /// `(name, name_length)` -> process. A new process with an empty vmspace and no handles; all rights.
    ProcessCreate = 1;
    /// `(process, entry, stack_pointer, argument)` -> thread. Starts the first thread: `rdi` = argument, `rsp` as given. MANAGE.
    ProcessStart = 2;
    /// `(status)`, does not return. Ends the calling process with status & 0xff.
    ProcessExit = 3;
    /// `(process, status)` -> 0. Ends another process (ENDED_KILLED). Returns at once; wait for the end. KILL.
    ProcessKill = 4;
    /// `(process, timeout, *mut WaitStatus)` -> 0. Waits until every thread is gone and everything is freed. WAIT.
    ProcessWait = 5;
    /// `(process)` -> vmspace handle of that process. MANAGE.
    ProcessVmspace = 6;
    /// `(process, handle, rights)` -> handle number in that process. Copies the caller's handle there with fewer or equal rights. MANAGE; TRANSFER on the handle. EBUSY for one process that was not started in another.
    ProcessGive = 7;
    /// `(system, *mut ProcessInfo, count)` -> rows written. INSPECT.
    ProcessList = 8;
    /// `(system, id)` -> process. OPEN_PROCESS.
    ProcessOpen = 9;

    /// `(entry, stack_pointer, argument, affinity)` -> thread. A new thread in the caller's process; affinity 0 = inherit.
    ThreadCreate = 10;
    /// `()`, does not return. Ends the calling thread; the last one ends the process with status 0.
    ThreadExit = 11;
    /// `(thread, operation, value)` -> by operation, see [`crate::process::ThreadControl`]. MANAGE to change.
    ThreadControl = 12;
    /// `()` -> 0. Lets others of the same priority run.
    ThreadYield = 13;
    /// `(thread, timeout)` -> 0. Waits until the thread has ended. WAIT.
    ThreadWait = 14;

    /// `(handle)` -> 0.
    HandleClose = 15;
    /// `(handle, rights)` -> handle with these rights, which must be a subset. DUPLICATE. Of SELF_PROCESS or SELF_THREAD it makes a handle that others can be given.
    HandleDuplicate = 16;
    /// `(handle, *mut HandleInfo)` -> 0.
    HandleInfo = 17;
    /// `(process, kind, value)` -> old value, see [`crate::process::LimitKind`]; LIMIT_READ as value changes nothing. EPERM above the caller's own limit. MANAGE.
    ProcessLimit = 18;

    /// `(address, length, protection, flags, object, offset)` -> address. See [`crate::memory`].
    Mmap = 20;
    /// `(address, length)` -> 0. Holes are allowed.
    Munmap = 21;
    /// `(address, length, protection)` -> 0. ENOMEM if there is a hole; EACCES beyond the object's rights, and for guards and what a stack has not grown to.
    Mprotect = 22;
    /// `(address, length, advice)` -> 0. Not SetMap. ENOMEM if memory runs out in WillNeed.
    Madvise = 23;
    /// `(address, length, advice, value)` -> 0. With SetMap the value is the root [`crate::memory::Vpte`].
    Mcontrol = 24;
    /// `(size)` -> memory object, zeroed, sparse. ENOMEM above [`crate::layout::MAX_OBJECT_SIZE`].
    ObjectCreate = 25;
    /// `(address, length, inheritance)` -> 0. What a copy made by `vmspace_fork` has there, see [`crate::memory::Inheritance`]. ENOMEM if there is a hole; EINVAL if it is not for memory of that kind.
    Minherit = 26;

    /// `(system)` -> vmspace, empty. VKERNEL.
    VmspaceCreate = 30;
    /// `(vmspace)` -> 0. Closes the handle, ends every RUN in the vmspace (RUN_DESTROYED) and empties it when the last thread has left it; other handles of it are EBADF from now on. MANAGE.
    VmspaceDestroy = 31;
    /// `(vmspace, VMSPACE_CTL_RUN, *mut RunState)` -> 0. Runs a user; see [`crate::vmspace`]. The state's timeout is 0 afterwards and must be set before each call. RUN. In guest mode the first argument is the address of the root of the user's page table instead.
    VmspaceCtl = 32;
    /// `(vmspace, *const MapRequest)` -> address. MANAGE.
    VmspaceMmap = 33;
    /// `(vmspace, address, length)` -> 0. MANAGE.
    VmspaceMunmap = 34;
    /// `(vmspace, address, length, protection)` -> 0. MANAGE.
    VmspaceMprotect = 35;
    /// `(vmspace, address, length, advice, value)` -> 0. MANAGE.
    VmspaceMcontrol = 36;
    /// `(vmspace, *mut buffer, length, address)` -> bytes read, short at the first bad page; EFAULT if the first is bad. READ.
    VmspacePread = 37;
    /// `(vmspace, *const buffer, length, address)` -> bytes written. WRITE.
    VmspacePwrite = 38;
    /// `(vmspace, address, *mut EntryInfo, count)` -> rows written, 0 at the end: mappings from the one that contains `address` on, or the next. Fewer rows than asked for do not mean the end; go on at the last one's end. READ.
    VmspaceEntries = 39;
    /// `(source, target)` -> 0. Fills an empty vmspace with a copy of another: private memory is copied when one side writes to it. EINVAL if both are one; EBUSY if the target is not empty; EBADF if one is destroyed meanwhile; ENOMEM. After an error the target is left as it was. Nothing interrupts it but the end of the caller's process. READ and MANAGE on the source; MANAGE on the target.
    VmspaceFork = 40;
    /// `(vmspace, address, length, inheritance)` -> 0. MANAGE.
    VmspaceMinherit = 41;
    /// `(process, position, *mut VmspaceInfo)` -> position to go on at. Totals of one of the vmspaces that the process has created and has a handle of, from position 0 on; several handles of one show it several times. ENOENT behind the last. MANAGE.
    VmspaceList = 42;

    /// `(*const u32, expected, timeout)` -> 0 when woken. EBUSY if the word differs, ETIMEDOUT, EINTR. Any shared mapping of the word will do.
    UmtxSleep = 50;
    /// `(*const u32, count)` -> threads woken; count 0 = all.
    UmtxWakeup = 51;
    /// `(clock)` -> nanoseconds.
    ClockGet = 52;
    /// `(deadline)` -> 0. Monotonic nanoseconds; in the past returns at once. EINTR.
    SleepUntil = 53;
    /// `(thread, bits)` -> 0. Posts virtual interrupts. POST.
    VirqPost = 54;
    /// `(mask)` -> pending bits of the mask, which are then no longer pending.
    VirqTake = 55;
    /// `(mask, timeout)` -> bits taken, at least one. ETIMEDOUT. Waits for bits of the mask whether or not they are enabled.
    VirqWait = 56;
    /// `(handler, enabled_mask)` -> old enabled mask. handler 0 = none. See [`crate::virtual_interrupt`].
    VirqControl = 57;
    /// `(*const InterruptFrame)`, returns to the interrupted code. EFAULT or EINVAL for a bad frame.
    VirqReturn = 58;
    /// `(deadline, period, bit)` -> 0. The thread's own timer posts `bit` (0..=63) at the monotonic deadline and then every period (0 = once; at least 100 us). deadline FOREVER disarms.
    TimerSet = 59;

    /// `(*mut [Handle; 2])` -> 0. Server end, client end. See [`crate::channel`].
    ChannelCreate = 60;
    /// `(client, info, words...)` -> 0 and the reply. CALL.
    ChannelCall = 61;
    /// `(server, timeout)` -> reply token and the message. RECEIVE.
    ChannelReceive = 62;
    /// `(token, info, words...)` -> 0. Only the process that received the call.
    ChannelReply = 63;

    /// `(system, kind, base, length)` -> handle. DEVICES. See [`crate::device`].
    DeviceOpen = 70;
    /// `(interrupt, thread, bit)` -> 0. From now on the line posts virtual interrupt `bit` to the thread; the line is masked until acknowledged. INTERRUPT; POST on the thread.
    InterruptBind = 71;
    /// `(interrupt)` -> 0. Unmasks the line. INTERRUPT.
    InterruptAcknowledge = 72;
    /// `(ports, offset, width)` -> value. Width 1, 2 or 4. READ.
    PortRead = 73;
    /// `(ports, offset, width, value)` -> 0. WRITE.
    PortWrite = 74;

    /// `(system, cpu, *mut u64, count)` -> counters written. INSPECT.
    CountersRead = 80;
    /// `(level, text, length)` -> 0. A line in the kernel's log, marked with the process.
    LogWrite = 81;
    /// `(system, position, buffer, length)` -> bytes of [`crate::system::LogRecord`]s from that sequence number on. INSPECT.
    LogRead = 82;
    /// `(system, command, status)`: see [`crate::system::PowerCommand`]. POWER.
    Power = 83;
    /// `(*mut SystemInfo)` -> 0.
    SystemInfo = 84;
    /// `(system, index, *mut ModuleInfo)` -> memory object (read and execute rights). ENOENT behind the last. MODULES.
    BootModule = 85;

    /// `(operation, *const GuestOptions)` -> 0, in guest mode or out of it. See [`crate::vmm`]. ENODEV where the machine has none; ENOENT without a master; EBUSY for a second master, or in guest mode already; EAGAIN at the limit; EINVAL for options that cannot be, or an operation that is none.
    VmmGuestCtl = 90;
    /// `(*mut u64, *mut u64)` -> 0. Exchanges the second word with the first while no other CPU is in this guest, and drops what they know of the guest's translations; a null first word only does the latter. EINVAL if not in guest mode or misaligned; EFAULT.
    VmmGuestSyncAddr = 91;
    /// `(system, cpu, *mut VmxRegisters)` -> 0. What a CPU says about VMX, see [`crate::vmm::VmxRegisters`]. INSPECT. ENOENT behind the last CPU.
    VmmInfo = 92;
}
