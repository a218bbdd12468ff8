//! Whether what a CPU has is enough for guest threads, and what of it they use.

use super::{Capabilities, EptVpid, FeatureControl, InveptTypes, InvvpidTypes, Refusal, Refusals};
use crate::controls::{ControlSet, Controls, EntryControls, ExitControls, Group, SecondaryControls, guest};
use crate::controls::{Missing, PinControls, PrimaryControls};
use arrayvec::ArrayVec;

/// What guest threads use on a CPU that can run them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The negotiated controls.
    pub controls: Controls,
    /// What the firmware decided; if [`FeatureControl::to_write`] gives a value, it is written before VMXON.
    pub feature_control: FeatureControl,
    /// What the first four bytes of VMXON regions and VMCSs hold.
    pub revision: u32,
    /// Regions must lie below 4 GiB.
    pub regions_below_4g: bool,
    /// EPT's accessed and dirty flags; without them they are emulated.
    pub accessed_dirty: bool,
    /// EPT entries that allow fetches only.
    pub execute_only: bool,
    /// EPT pages of 2 MiB.
    pub pages_2m: bool,
    /// EPT pages of 1 GiB.
    pub pages_1g: bool,
    /// The types of INVEPT; one of them drops a table.
    pub invept: InveptTypes,
    /// VPIDs are in use, with these types of INVVPID, one of which drops a tag. `None`: every entry and exit drops
    /// the guest's translations.
    pub invvpid: Option<InvvpidTypes>,
    /// The VMX-preemption timer is there; it counts at the TSC's rate divided by 2 to this.
    pub preemption_timer_shift: Option<u8>,
    /// Guests without paging are possible; they are not used.
    pub unrestricted_guest: bool,
}

impl Capabilities {
    /// What guest threads can use here.
    ///
    /// # Errors
    /// Every reason why there can be none.
    #[expect(
        clippy::result_large_err,
        reason = "asked once at boot, and nothing here allocates"
    )]
    pub fn support(&self) -> Result<Support, Refusals> {
        let mut refusals = ArrayVec::new();
        let mut demand = |satisfied: bool, refusal| {
            if !satisfied {
                refusals.push(refusal);
            }
        };
        let (basic, ept) = (self.basic(), self.ept_vpid());
        let may = |group: Group, control: u32| self.allowed(group).may & control == control;

        if let FeatureControl::LockedWithoutVmx(value) = self.feature_control() {
            demand(false, Refusal::LockedOff(value));
        }
        demand(
            basic.region_size() <= 4096,
            Refusal::RegionTooLarge(basic.region_size()),
        );
        demand(
            basic.is_write_back(),
            Refusal::RegionMemoryType(basic.memory_type()),
        );
        let secondary = may(Group::Primary, PrimaryControls::SECONDARY_CONTROLS.bits());
        let has_ept = may(Group::Secondary, SecondaryControls::EPT.bits());
        demand(secondary, Refusal::NoSecondaryControls);
        if secondary {
            demand(has_ept, Refusal::NoEpt);
        }
        if has_ept {
            demand(ept.contains(EptVpid::FOUR_LEVELS), Refusal::NoFourLevelWalk);
            demand(ept.contains(EptVpid::WRITE_BACK), Refusal::NoWriteBackTables);
            demand(ept.contains(EptVpid::INVEPT), Refusal::NoInvept);
            demand(
                !ept.contains(EptVpid::INVEPT) || ept.invept().is_some(),
                Refusal::NoInveptType,
            );
        }
        demand(
            may(Group::Exit, ExitControls::HOST_64_BIT.bits()),
            Refusal::No64BitHost,
        );
        demand(
            may(Group::Entry, EntryControls::GUEST_64_BIT.bits()),
            Refusal::No64BitGuest,
        );

        let controls = Controls::choose(self, &wanted(ept), &guest::REQUIRED);
        if let Err(missing) = controls
            && let Some(rest) = without_own_refusal(missing)
        {
            refusals.push(Refusal::Controls(rest));
        }
        let (Ok(controls), Some(invept), true) = (controls, ept.invept(), refusals.is_empty()) else {
            return Err(Refusals(refusals));
        };
        let uses_vpid = controls.setting().secondary.contains(SecondaryControls::VPID);
        Ok(Support {
            controls,
            feature_control: self.feature_control(),
            revision: basic.revision(),
            regions_below_4g: basic.is_limited_to_32_bits(),
            accessed_dirty: ept.contains(EptVpid::ACCESSED_DIRTY),
            execute_only: ept.contains(EptVpid::EXECUTE_ONLY),
            pages_2m: ept.contains(EptVpid::PAGES_2M),
            pages_1g: ept.contains(EptVpid::PAGES_1G),
            invept,
            invvpid: ept.invvpid().filter(|_| uses_vpid),
            preemption_timer_shift: may(Group::Pin, PinControls::PREEMPTION_TIMER.bits())
                .then(|| self.misc().preemption_timer_shift()),
            unrestricted_guest: may(Group::Secondary, SecondaryControls::UNRESTRICTED_GUEST.bits()),
        })
    }
}

/// [`guest::WANTED`], but VPIDs only if INVVPID can drop one.
fn wanted(ept: EptVpid) -> ControlSet {
    let mut wanted = guest::WANTED;
    if ept.invvpid().is_none() {
        wanted.secondary.remove(SecondaryControls::VPID);
    }
    wanted
}

/// The controls that are missing but for those that have a refusal of their own.
fn without_own_refusal(mut missing: Missing) -> Option<Missing> {
    let set = &mut missing.cannot_be_set;
    set.primary.remove(PrimaryControls::SECONDARY_CONTROLS);
    set.secondary.remove(SecondaryControls::EPT);
    set.exit.remove(ExitControls::HOST_64_BIT);
    set.entry.remove(EntryControls::GUEST_64_BIT);
    (!missing.is_empty()).then_some(missing)
}
