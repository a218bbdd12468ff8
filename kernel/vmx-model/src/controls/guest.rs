//! The controls of a guest thread: a 64-bit guest that runs at CPL 3 only, under EPT, on a 64-bit host.
//!
//! What faults at CPL 3 does so before it would exit (SDM 3C 26.1.1): HLT, MOV to or from control registers, INVLPG, RDMSR, IN and so on are
//! general-protection faults and reach us through the exception bitmap. The controls for these instructions are wanted all the same:
//! if the guest's state ever let one through, it would end in an exit, not in the machine. Two kinds exit in spite of CPL 3: MOV to or
//! from debug registers, and VMX's own instructions.

use super::{ControlSet, EntryControls, ExitControls, PinControls, PrimaryControls, SecondaryControls};

/// Without these there is no guest mode.
pub const REQUIRED: ControlSet = ControlSet {
    // The host's interrupts and NMIs are taken at once, by the host's handlers, whatever the guest does.
    pin: PinControls::EXTERNAL_INTERRUPT_EXITING.union(PinControls::NMI_EXITING),
    // They carry "enable EPT".
    primary: PrimaryControls::SECONDARY_CONTROLS,
    // The guest's physical memory is its process's address space, and nothing else is within its reach.
    secondary: SecondaryControls::EPT,
    exit: ExitControls::HOST_64_BIT
        // DR7 and IA32_DEBUGCTL are the guest's; an exit clears both in the CPU (SDM 3C 28.5.1).
        .union(ExitControls::SAVE_DEBUG_CONTROLS)
        // The guest has its own EFER: without SYSCALL, so that the instruction is an undefined opcode, which is an exit.
        .union(ExitControls::SAVE_EFER)
        .union(ExitControls::LOAD_EFER),
    entry: EntryControls::GUEST_64_BIT
        .union(EntryControls::LOAD_EFER)
        .union(EntryControls::LOAD_DEBUG_CONTROLS),
};

/// Used where the CPU has them.
pub const WANTED: ControlSet = ControlSet {
    pin: PinControls::empty(),
    // None but MOV_DR_EXITING can happen at CPL 3. INTERRUPT_WINDOW_EXITING and NMI_WINDOW_EXITING are not here: the host neither injects
    // interrupts nor NMIs, it changes the guest's registers. RDTSC_EXITING and PAUSE_EXITING are not here:
    // guests read the host's TSC and spin as they like.
    primary: PrimaryControls::HLT_EXITING
        .union(PrimaryControls::INVLPG_EXITING)
        .union(PrimaryControls::MWAIT_EXITING)
        .union(PrimaryControls::RDPMC_EXITING)
        .union(PrimaryControls::CR3_LOAD_EXITING)
        .union(PrimaryControls::CR3_STORE_EXITING)
        .union(PrimaryControls::CR8_LOAD_EXITING)
        .union(PrimaryControls::CR8_STORE_EXITING)
        .union(PrimaryControls::MOV_DR_EXITING)
        // No bitmaps: every port and, since MSR_BITMAPS is off, every MSR exits.
        .union(PrimaryControls::UNCONDITIONAL_IO_EXITING)
        .union(PrimaryControls::MONITOR_EXITING),
    // A switch of address spaces by GUEST_CR3 keeps translations, and an exit drops none.
    secondary: SecondaryControls::VPID
        // Else RDTSCP and RDPID, which programs may use, are undefined opcodes.
        .union(SecondaryControls::RDTSCP)
        // SGDT, SIDT, SLDT and STR are legal at CPL 3 where there is no UMIP, and tell where the tables are.
        .union(SecondaryControls::DESCRIPTOR_TABLE_EXITING)
        .union(SecondaryControls::WBINVD_EXITING),
    // Left out on purpose. UNRESTRICTED_GUEST: no real mode. INVPCID, XSAVES, USER_WAIT_AND_PAUSE, VM_FUNCTIONS, PCONFIG:
    // the instructions stay undefined opcodes. PAUSE_LOOP_EXITING watches CPL 0 only.
    //
    // ACKNOWLEDGE_INTERRUPT: the interrupt stays pending and is taken through the IDT as soon as interrupts are on. SAVE_PAT and
    // LOAD_PAT: EPT entries ignore the guest's PAT, so guest and host share the host's. PERF_GLOBAL_CTRL, BNDCFGS,
    // RTIT_CTL, LBR_CTL, PKRS, CET: guests have none of these (see `cpuid`), so there is nothing to switch.
    exit: ExitControls::empty(),
    entry: EntryControls::empty(),
};

/// May be 1 although nobody asked: more exits that cannot happen at CPL 3 or that are handled anyway, and hints without a
/// field of their own.
pub const HARMLESS: ControlSet = ControlSet {
    pin: PinControls::empty(),
    primary: WANTED.primary,
    secondary: SecondaryControls::DESCRIPTOR_TABLE_EXITING
        .union(SecondaryControls::WBINVD_EXITING)
        .union(SecondaryControls::CONCEAL_FROM_PT),
    exit: ExitControls::CONCEAL_FROM_PT,
    entry: EntryControls::CONCEAL_FROM_PT,
};
