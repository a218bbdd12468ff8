//! The bits of the five control fields by name: SDM 3C 25.6.1 to 25.8.1, tables 25-5 to 25-15.

macro_rules! control_bits {
    ($(#[$outer:meta])* $type:ident { $($flag:ident = $bit:literal, $name:literal;)* }) => {
        bitflags::bitflags! {
            $(#[$outer])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $type: u32 {
                $(#[doc = $name] const $flag = 1 << $bit;)*
                /// Bits whose meaning depends on what the CPU reports.
                const _ = !0;
            }
        }

        impl $type {
            /// Bits that have a name here.
            pub(super) const NAMED: u32 = 0 $(| 1 << $bit)*;

            /// The manual's name of a bit.
            pub(super) const fn bit_name(bit: u32) -> Option<&'static str> {
                match bit {
                    $($bit => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

control_bits! {
    /// Pin-based VM-execution controls (25.6.1).
    PinControls {
        EXTERNAL_INTERRUPT_EXITING = 0, "external-interrupt exiting";
        NMI_EXITING = 3, "NMI exiting";
        VIRTUAL_NMIS = 5, "virtual NMIs";
        PREEMPTION_TIMER = 6, "activate VMX-preemption timer";
        POSTED_INTERRUPTS = 7, "process posted interrupts";
    }
}

control_bits! {
    /// Primary processor-based VM-execution controls (25.6.2).
    PrimaryControls {
        INTERRUPT_WINDOW_EXITING = 2, "interrupt-window exiting";
        TSC_OFFSETTING = 3, "use TSC offsetting";
        HLT_EXITING = 7, "HLT exiting";
        INVLPG_EXITING = 9, "INVLPG exiting";
        MWAIT_EXITING = 10, "MWAIT exiting";
        RDPMC_EXITING = 11, "RDPMC exiting";
        RDTSC_EXITING = 12, "RDTSC exiting";
        CR3_LOAD_EXITING = 15, "CR3-load exiting";
        CR3_STORE_EXITING = 16, "CR3-store exiting";
        TERTIARY_CONTROLS = 17, "activate tertiary controls";
        CR8_LOAD_EXITING = 19, "CR8-load exiting";
        CR8_STORE_EXITING = 20, "CR8-store exiting";
        TPR_SHADOW = 21, "use TPR shadow";
        NMI_WINDOW_EXITING = 22, "NMI-window exiting";
        MOV_DR_EXITING = 23, "MOV-DR exiting";
        UNCONDITIONAL_IO_EXITING = 24, "unconditional I/O exiting";
        IO_BITMAPS = 25, "use I/O bitmaps";
        MONITOR_TRAP_FLAG = 27, "monitor trap flag";
        MSR_BITMAPS = 28, "use MSR bitmaps";
        MONITOR_EXITING = 29, "MONITOR exiting";
        PAUSE_EXITING = 30, "PAUSE exiting";
        SECONDARY_CONTROLS = 31, "activate secondary controls";
    }
}

control_bits! {
    /// Secondary processor-based VM-execution controls (25.6.2).
    SecondaryControls {
        VIRTUALIZE_APIC_ACCESSES = 0, "virtualize APIC accesses";
        EPT = 1, "enable EPT";
        DESCRIPTOR_TABLE_EXITING = 2, "descriptor-table exiting";
        RDTSCP = 3, "enable RDTSCP";
        VIRTUALIZE_X2APIC_MODE = 4, "virtualize x2APIC mode";
        VPID = 5, "enable VPID";
        WBINVD_EXITING = 6, "WBINVD exiting";
        UNRESTRICTED_GUEST = 7, "unrestricted guest";
        APIC_REGISTER_VIRTUALIZATION = 8, "APIC-register virtualization";
        VIRTUAL_INTERRUPT_DELIVERY = 9, "virtual-interrupt delivery";
        PAUSE_LOOP_EXITING = 10, "PAUSE-loop exiting";
        RDRAND_EXITING = 11, "RDRAND exiting";
        INVPCID = 12, "enable INVPCID";
        VM_FUNCTIONS = 13, "enable VM functions";
        VMCS_SHADOWING = 14, "VMCS shadowing";
        ENCLS_EXITING = 15, "enable ENCLS exiting";
        RDSEED_EXITING = 16, "RDSEED exiting";
        PAGE_MODIFICATION_LOGGING = 17, "enable PML";
        EPT_VIOLATION_EXCEPTION = 18, "EPT-violation #VE";
        CONCEAL_FROM_PT = 19, "conceal VMX from PT";
        XSAVES = 20, "enable XSAVES/XRSTORS";
        PASID_TRANSLATION = 21, "PASID translation";
        MODE_BASED_EXECUTE = 22, "mode-based execute control for EPT";
        SUB_PAGE_WRITE = 23, "sub-page write permissions for EPT";
        PT_GUEST_PHYSICAL = 24, "Intel PT uses guest physical addresses";
        TSC_SCALING = 25, "use TSC scaling";
        USER_WAIT_AND_PAUSE = 26, "enable user wait and pause";
        PCONFIG = 27, "enable PCONFIG";
        ENCLV_EXITING = 28, "enable ENCLV exiting";
        BUS_LOCK_DETECTION = 30, "VMM bus-lock detection";
        INSTRUCTION_TIMEOUT = 31, "instruction timeout";
    }
}

control_bits! {
    /// Primary VM-exit controls (25.7.1).
    ExitControls {
        SAVE_DEBUG_CONTROLS = 2, "save debug controls";
        HOST_64_BIT = 9, "host address-space size";
        LOAD_PERF_GLOBAL_CTRL = 12, "load IA32_PERF_GLOBAL_CTRL";
        ACKNOWLEDGE_INTERRUPT = 15, "acknowledge interrupt on exit";
        SAVE_PAT = 18, "save IA32_PAT";
        LOAD_PAT = 19, "load IA32_PAT";
        SAVE_EFER = 20, "save IA32_EFER";
        LOAD_EFER = 21, "load IA32_EFER";
        SAVE_PREEMPTION_TIMER = 22, "save VMX-preemption timer value";
        CLEAR_BNDCFGS = 23, "clear IA32_BNDCFGS";
        CONCEAL_FROM_PT = 24, "conceal VMX from PT";
        CLEAR_RTIT_CTL = 25, "clear IA32_RTIT_CTL";
        CLEAR_LBR_CTL = 26, "clear IA32_LBR_CTL";
        CLEAR_UINV = 27, "clear UINV";
        LOAD_CET = 28, "load CET state";
        LOAD_PKRS = 29, "load PKRS";
        SAVE_PERF_GLOBAL_CTRL = 30, "save IA32_PERF_GLOBAL_CTRL";
        SECONDARY_CONTROLS = 31, "activate secondary controls";
    }
}

control_bits! {
    /// VM-entry controls (25.8.1).
    EntryControls {
        LOAD_DEBUG_CONTROLS = 2, "load debug controls";
        GUEST_64_BIT = 9, "IA-32e mode guest";
        ENTRY_TO_SMM = 10, "entry to SMM";
        DEACTIVATE_DUAL_MONITOR = 11, "deactivate dual-monitor treatment";
        LOAD_PERF_GLOBAL_CTRL = 13, "load IA32_PERF_GLOBAL_CTRL";
        LOAD_PAT = 14, "load IA32_PAT";
        LOAD_EFER = 15, "load IA32_EFER";
        LOAD_BNDCFGS = 16, "load IA32_BNDCFGS";
        CONCEAL_FROM_PT = 17, "conceal VMX from PT";
        LOAD_RTIT_CTL = 18, "load IA32_RTIT_CTL";
        LOAD_UINV = 19, "load UINV";
        LOAD_CET = 20, "load CET state";
        LOAD_LBR_CTL = 21, "load guest IA32_LBR_CTL";
        LOAD_PKRS = 22, "load PKRS";
    }
}
