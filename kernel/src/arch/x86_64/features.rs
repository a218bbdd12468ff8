//! What the CPU can do, read once from CPUID. Nothing is assumed beyond what [`missing`] refuses to run without.

use raw_cpuid::{CpuId, CpuIdReaderNative};
use spin::Once;

/// Features that change what the kernel does. All of the boot CPU.
#[derive(Clone, Debug)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention: SGDT, SIDT, SLDT, SMSW, STR fault in programs.
    pub umip: bool,
    /// Machine check exceptions.
    pub machine_check: bool,
    /// SYSENTER, which the kernel does not offer.
    pub sysenter: bool,
    /// 1 GiB pages.
    pub huge_pages: bool,
    /// x2APIC mode.
    pub x2apic: bool,
    /// The APIC timer can fire at a TSC value.
    pub tsc_deadline: bool,
    /// The TSC ticks at one rate in all power states.
    pub invariant_tsc: bool,
    /// XSAVE and XCR0.
    pub xsave: bool,
    /// Process-context identifiers.
    pub pcid: bool,
    /// INVPCID.
    pub invpcid: bool,
    /// Page attribute table.
    pub pat: bool,
    /// Physical address width in bits.
    pub physical_bits: u8,
    /// TSC frequency in Hz that CPUID claims; a claim, because emulators pass on a model's figures.
    pub claimed_tsc_frequency: Option<u64>,
    /// VMX instructions.
    pub vmx: bool,
    /// SVM instructions.
    pub svm: bool,
    /// The kernel runs under a hypervisor that says so.
    pub hypervisor: bool,
}

static FEATURES: Once<Features> = Once::new();

/// The features of the boot CPU.
///
/// # Panics
/// Before `detect`, which runs first thing at boot.
pub(super) fn get() -> &'static Features {
    FEATURES
        .get()
        .expect("CPU features are read before anything else")
}

/// Reads the features on the boot CPU.
pub(super) fn detect() -> &'static Features {
    FEATURES.call_once(|| read(&CpuId::new()))
}

fn read(cpuid: &CpuId<CpuIdReaderNative>) -> Features {
    let basic = cpuid.get_feature_info();
    let extended = cpuid.get_extended_feature_info();
    let processor = cpuid.get_extended_processor_and_feature_identifiers();
    let basic_has = |test: fn(&raw_cpuid::FeatureInfo) -> bool| basic.as_ref().is_some_and(test);
    let extended_has = |test: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(test);
    Features {
        smep: extended_has(|info| info.has_smep()),
        smap: extended_has(|info| info.has_smap()),
        umip: extended_has(|info| info.has_umip()),
        machine_check: basic_has(|info| info.has_mce()),
        sysenter: basic_has(|info| info.has_sysenter_sysexit()),
        huge_pages: processor.as_ref().is_some_and(|info| info.has_1gib_pages()),
        x2apic: basic_has(|info| info.has_x2apic()),
        tsc_deadline: basic_has(|info| info.has_tsc_deadline()),
        invariant_tsc: cpuid
            .get_advanced_power_mgmt_info()
            .is_some_and(|info| info.has_invariant_tsc()),
        xsave: basic_has(|info| info.has_xsave()),
        pcid: basic_has(|info| info.has_pcid()),
        invpcid: extended_has(|info| info.has_invpcid()),
        pat: basic_has(|info| info.has_pat()),
        physical_bits: cpuid
            .get_processor_capacity_feature_info()
            .map_or(36, |info| info.physical_address_bits()),
        claimed_tsc_frequency: claimed_tsc_frequency(cpuid),
        vmx: basic_has(|info| info.has_vmx()),
        svm: processor.as_ref().is_some_and(|info| info.has_svm()),
        hypervisor: basic_has(|info| info.has_hypervisor()),
    }
}

/// SDM 3B 20.7.3: leaf 15H gives the ratio to a crystal; leaf 16H the base frequency in MHz.
fn claimed_tsc_frequency(cpuid: &CpuId<CpuIdReaderNative>) -> Option<u64> {
    if let Some(frequency) = cpuid.get_tsc_info().and_then(|info| info.tsc_frequency()) {
        return Some(frequency);
    }
    let megahertz = cpuid.get_processor_frequency_info()?.processor_base_frequency();
    (megahertz != 0).then(|| u64::from(megahertz) * 1_000_000)
}

/// A feature without which the kernel cannot run, if the CPU lacks one. The text goes into the refusal.
pub(super) fn missing() -> Option<&'static str> {
    let cpuid = CpuId::new();
    let Some(basic) = cpuid.get_feature_info() else {
        return Some("CPUID leaf 1");
    };
    let processor = cpuid.get_extended_processor_and_feature_identifiers();
    let required = [
        (basic.has_tsc(), "a time stamp counter (TSC)"),
        (basic.has_msr(), "model-specific registers (MSR)"),
        (basic.has_apic(), "a local APIC"),
        (basic.has_cmpxchg16b(), "CMPXCHG16B"),
        (basic.has_fxsave_fxstor(), "FXSAVE"),
        (basic.has_sse() && basic.has_sse2(), "SSE2"),
        (basic.has_pge(), "global pages (PGE)"),
        (
            processor.as_ref().is_some_and(|info| info.has_64bit_mode()),
            "64-bit mode",
        ),
        (
            processor.as_ref().is_some_and(|info| info.has_syscall_sysret()),
            "SYSCALL",
        ),
        (
            processor.as_ref().is_some_and(|info| info.has_execute_disable()),
            "no-execute pages (NX)",
        ),
    ];
    required
        .iter()
        .find(|(present, _)| !present)
        .map(|&(_, name)| name)
}

impl Features {
    /// The features by name, for the log.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let named = [
            (self.smep, "smep"),
            (self.smap, "smap"),
            (self.umip, "umip"),
            (self.huge_pages, "1gib-pages"),
            (self.x2apic, "x2apic"),
            (self.tsc_deadline, "tsc-deadline"),
            (self.invariant_tsc, "invariant-tsc"),
            (self.xsave, "xsave"),
            (self.pcid, "pcid"),
            (self.invpcid, "invpcid"),
            (self.pat, "pat"),
            (self.machine_check, "mce"),
            (self.vmx, "vmx"),
            (self.svm, "svm"),
            (self.hypervisor, "hypervisor"),
        ];
        named
            .into_iter()
            .filter_map(|(present, name)| present.then_some(name))
    }
}

/// Writes the brand string or, without one, the vendor's name with `print`.
pub fn with_name(print: impl FnOnce(&str)) {
    let cpuid = CpuId::new();
    if let Some(brand) = cpuid.get_processor_brand_string() {
        print(brand.as_str().trim());
    } else if let Some(vendor) = cpuid.get_vendor_info() {
        print(vendor.as_str());
    } else {
        print("unknown CPU");
    }
}
