//! Checks on the guest's segment registers: SDM 3C 27.3.1.2, without the rules for virtual-8086 mode and unrestricted guests.

use super::{Check, rule};
use crate::Field;

const SECTION: &str = "27.3.1.2";

const TYPE: u64 = 0xf;
const ACCESSED: u64 = 1;
const READABLE_CODE: u64 = 1 << 1;
const CODE: u64 = 1 << 3;
const CODE_OR_DATA: u64 = 1 << 4;
const PRESENT: u64 = 1 << 7;
const LONG: u64 = 1 << 13;
const DEFAULT_BIG: u64 = 1 << 14;
const GRANULAR: u64 = 1 << 15;
const UNUSABLE: u64 = 1 << 16;
const RESERVED: u64 = 0xf << 8 | !0x1_ffff;

const LDT: u64 = 2;
const BUSY_TSS: u64 = 11;
/// RPL and table indicator of a selector.
const RPL: u64 = 3;
const LOCAL: u64 = 1 << 2;

/// The fields of one segment register.
#[derive(Clone, Copy)]
struct Segment {
    selector: Field,
    base: Field,
    limit: Field,
    rights: Field,
}

macro_rules! segment {
    ($selector:ident, $base:ident, $limit:ident, $rights:ident) => {
        Segment {
            selector: Field::$selector,
            base: Field::$base,
            limit: Field::$limit,
            rights: Field::$rights,
        }
    };
}

const CS: Segment = segment!(GuestCsSelector, GuestCsBase, GuestCsLimit, GuestCsRights);
const SS: Segment = segment!(GuestSsSelector, GuestSsBase, GuestSsLimit, GuestSsRights);
const DS: Segment = segment!(GuestDsSelector, GuestDsBase, GuestDsLimit, GuestDsRights);
const ES: Segment = segment!(GuestEsSelector, GuestEsBase, GuestEsLimit, GuestEsRights);
const FS: Segment = segment!(GuestFsSelector, GuestFsBase, GuestFsLimit, GuestFsRights);
const GS: Segment = segment!(GuestGsSelector, GuestGsBase, GuestGsLimit, GuestGsRights);
const TR: Segment = segment!(GuestTrSelector, GuestTrBase, GuestTrLimit, GuestTrRights);
const LDTR: Segment = segment!(GuestLdtrSelector, GuestLdtrBase, GuestLdtrLimit, GuestLdtrRights);

const fn privilege(rights: u64) -> u64 {
    rights >> 5 & 3
}

impl Check<'_> {
    pub(super) fn guest_segments(&mut self) {
        self.system_segments();
        for segment in [FS, GS] {
            self.demand_canonical(segment.base, SECTION);
        }
        self.code_segment();
        self.stack_segment();
        for segment in [DS, ES, FS, GS] {
            self.data_segment(segment);
        }
        for segment in [CS, SS, DS, ES] {
            let base = self.get(segment.base);
            self.demand_of(
                segment,
                base >> 32 == 0,
                segment.base,
                "bits 63:32 of the base are set",
            );
        }
    }

    pub(super) fn is_in_64_bit_mode(&self) -> bool {
        self.is_64_bit_guest() && self.get(Field::GuestCsRights) & LONG != 0
    }

    pub(super) fn guest_privilege(&self) -> u64 {
        privilege(self.get(Field::GuestSsRights))
    }

    /// Complains unless the rule holds or does not matter: CS is checked always, the others if they are usable.
    fn demand_of(&mut self, segment: Segment, holds: bool, field: Field, text: &'static str) {
        let matters = segment.rights == CS.rights || self.get(segment.rights) & UNUSABLE == 0;
        self.demand(holds || !matters, field, rule(SECTION, text));
    }

    /// What holds for every segment: code or data or not, present, no reserved bits, granularity.
    fn descriptor(&mut self, segment: Segment, code_or_data: bool) {
        let (rights, limit) = (self.get(segment.rights), self.get(segment.limit));
        self.demand_of(
            segment,
            (rights & CODE_OR_DATA != 0) == code_or_data,
            segment.rights,
            "S does not fit: a system segment, or not one",
        );
        self.demand_of(
            segment,
            rights & PRESENT != 0,
            segment.rights,
            "the segment is not present",
        );
        self.demand_of(
            segment,
            rights & RESERVED == 0,
            segment.rights,
            "reserved bits are set",
        );
        let granular = rights & GRANULAR != 0;
        self.demand_of(
            segment,
            !granular || limit & 0xfff == 0xfff,
            segment.rights,
            "G is 1, and bits 11:0 of the limit are not all 1",
        );
        self.demand_of(
            segment,
            granular || limit >> 20 == 0,
            segment.rights,
            "G is 0, and bits 31:20 of the limit are not all 0",
        );
    }

    fn code_segment(&mut self) {
        self.descriptor(CS, true);
        let rights = self.get(CS.rights);
        let (stack_privilege, own) = (self.guest_privilege(), privilege(rights));
        // If SS itself is wrong, that is said about SS.
        let stack_is_wrong = stack_privilege != self.get(SS.selector) & RPL;
        let (fits, text) = match rights & TYPE {
            9 | 11 => (stack_is_wrong || own == stack_privilege, "DPL is not that of SS"),
            13 | 15 => (
                stack_is_wrong || own <= stack_privilege,
                "DPL is above that of SS",
            ),
            _ => (false, "the type is not accessed code"),
        };
        self.demand_of(CS, fits, CS.rights, text);
        self.demand_of(
            CS,
            !(self.is_64_bit_guest() && rights & LONG != 0 && rights & DEFAULT_BIG != 0),
            CS.rights,
            "L and D are both 1",
        );
    }

    fn stack_segment(&mut self) {
        self.descriptor(SS, true);
        let (rights, selector) = (self.get(SS.rights), self.get(SS.selector));
        self.demand_of(
            SS,
            matches!(rights & TYPE, 3 | 7),
            SS.rights,
            "the type is not accessed, writable data",
        );
        // These hold for an unusable SS as well. CS's RPL, SS's RPL and SS's DPL are one number; the odd one is blamed.
        let (code, stack, level) = (self.get(CS.selector) & RPL, selector & RPL, privilege(rights));
        self.demand(
            stack == code || stack == level,
            SS.selector,
            rule(SECTION, "RPL is not that of CS"),
        );
        self.demand(
            stack == code || stack != level,
            CS.selector,
            rule(SECTION, "RPL is not that of SS"),
        );
        self.demand(
            stack == level || stack != code,
            SS.rights,
            rule(SECTION, "DPL is not the selector's RPL"),
        );
    }

    fn data_segment(&mut self, segment: Segment) {
        self.descriptor(segment, true);
        let (rights, selector) = (self.get(segment.rights), self.get(segment.selector));
        self.demand_of(
            segment,
            rights & ACCESSED != 0,
            segment.rights,
            "the type is not accessed",
        );
        self.demand_of(
            segment,
            rights & CODE == 0 || rights & READABLE_CODE != 0,
            segment.rights,
            "the type is code that is not readable",
        );
        let conforming = rights & TYPE > 11;
        self.demand_of(
            segment,
            conforming || privilege(rights) >= selector & RPL,
            segment.rights,
            "DPL is below the selector's RPL",
        );
    }

    fn system_segments(&mut self) {
        self.descriptor(TR, false);
        let (rights, selector) = (self.get(TR.rights), self.get(TR.selector));
        self.demand(
            rights & TYPE == BUSY_TSS,
            TR.rights,
            rule(SECTION, "the type is not a busy task state segment of 64 bits"),
        );
        self.demand(rights & UNUSABLE == 0, TR.rights, rule(SECTION, "TR is unusable"));
        self.demand(
            selector & LOCAL == 0,
            TR.selector,
            rule(SECTION, "TR is in a local table"),
        );
        self.demand_canonical(TR.base, SECTION);

        self.descriptor(LDTR, false);
        let (rights, selector) = (self.get(LDTR.rights), self.get(LDTR.selector));
        self.demand_of(
            LDTR,
            rights & TYPE == LDT,
            LDTR.rights,
            "the type is not a local descriptor table",
        );
        self.demand_of(
            LDTR,
            selector & LOCAL == 0,
            LDTR.selector,
            "LDTR is in a local table",
        );
        let canonical = self.cpu().is_canonical(self.get(LDTR.base));
        self.demand_of(LDTR, canonical, LDTR.base, "the address is not canonical");
    }
}
