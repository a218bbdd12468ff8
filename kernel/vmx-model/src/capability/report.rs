//! The capabilities as text: what the CPU has, what guests use of it, and why there are none.

use super::{Capabilities, EptVpid, FeatureControl, Support};
use crate::Msr;
use crate::controls::Group;
use core::fmt;

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// The report of one CPU: lines of text, the verdict first.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(pub &'a Capabilities);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.support() {
            Ok(support) => usable(f, &support)?,
            Err(refusals) => {
                writeln!(f, "guest mode: no")?;
                for refusal in refusals.iter() {
                    writeln!(f, "  because {refusal}")?;
                }
            }
        }
        self.firmware(f)?;
        self.regions(f)?;
        self.paging(f)?;
        for group in Group::ALL {
            self.controls(f, group)?;
        }
        for &msr in Msr::ALL {
            match self.0.get(msr) {
                Some(value) => writeln!(f, "{:<28} {value:#018x}", msr.name())?,
                None => writeln!(f, "{:<28} none", msr.name())?,
            }
        }
        Ok(())
    }
}

fn usable(f: &mut fmt::Formatter<'_>, support: &Support) -> fmt::Result {
    writeln!(f, "guest mode: yes")?;
    let flags = match support.accessed_dirty {
        true => "by the CPU",
        false => "emulated, the CPU has none",
    };
    writeln!(f, "  accessed and dirty flags: {flags}")?;
    let tags = match support.invvpid {
        Some(_) => "in use",
        None => "not in use, the CPU has none or cannot drop one",
    };
    writeln!(f, "  tags of linear addresses (VPID): {tags}")
}

impl Report<'_> {
    fn firmware(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0.feature_control() {
            FeatureControl::LockedWithVmx => "VMX on, locked",
            FeatureControl::LockedWithoutVmx(_) => "VMX off, locked",
            FeatureControl::Unlocked(_) => "not locked, the kernel turns VMX on",
        };
        writeln!(f, "firmware: {state}")
    }

    fn regions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let basic = self.0.basic();
        writeln!(
            f,
            "regions: revision {:#x}, {} bytes, memory type {}, addresses of {} bits",
            basic.revision(),
            basic.region_size(),
            basic.memory_type(),
            basic.address_bits(&self.0.cpu),
        )
    }

    fn paging(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.ept_vpid();
        for (title, named) in [
            (
                "EPT",
                [
                    (EptVpid::FOUR_LEVELS, "4 levels"),
                    (EptVpid::FIVE_LEVELS, "5 levels"),
                    (EptVpid::WRITE_BACK, "write-back tables"),
                    (EptVpid::ACCESSED_DIRTY, "accessed and dirty flags"),
                    (EptVpid::PAGES_2M, "2 MiB pages"),
                    (EptVpid::PAGES_1G, "1 GiB pages"),
                    (EptVpid::EXECUTE_ONLY, "execute-only pages"),
                ]
                .as_slice(),
            ),
            (
                "INVEPT",
                &[
                    (EptVpid::INVEPT_SINGLE, "single-context"),
                    (EptVpid::INVEPT_ALL, "all-contexts"),
                ],
            ),
            (
                "INVVPID",
                &[
                    (EptVpid::INVVPID_ADDRESS, "individual-address"),
                    (EptVpid::INVVPID_SINGLE, "single-context"),
                    (EptVpid::INVVPID_ALL, "all-contexts"),
                    (
                        EptVpid::INVVPID_RETAINING_GLOBALS,
                        "single-context-retaining-globals",
                    ),
                ],
            ),
        ] {
            let names = named.iter().filter(|&&(bit, _)| bits.contains(bit));
            list(f, format_args!("{title}:"), names.map(|&(_, name)| name))?;
        }
        Ok(())
    }

    fn controls(&self, f: &mut fmt::Formatter<'_>, group: Group) -> fmt::Result {
        let (allowed, name) = (self.0.allowed(group), group.name());
        for (bits, state) in [
            (allowed.may & !allowed.must, "can be set"),
            (allowed.must & group.named(), "are always set"),
            (group.named() & !allowed.may, "are absent"),
        ] {
            if bits != 0 {
                let names = (0..32).filter(|bit| bits >> bit & 1 != 0);
                list(
                    f,
                    format_args!("{name} controls that {state}:"),
                    names.filter_map(|bit| group.bit_name(bit)),
                )?;
            }
        }
        Ok(())
    }
}

/// Writes a title and names in lines of at most [`COLUMNS`], `none` if there are none.
fn list<'a>(
    f: &mut fmt::Formatter<'_>,
    title: fmt::Arguments<'_>,
    names: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    write!(f, "{title}")?;
    let mut column = 0;
    for name in names {
        let separator = match column {
            0 => "\n    ",
            // With the comma that may follow.
            column if column + 3 + name.len() > COLUMNS => ",\n    ",
            _ => ", ",
        };
        write!(f, "{separator}{name}")?;
        column = match separator {
            ", " => column + 2 + name.len(),
            _ => 4 + name.len(),
        };
    }
    f.write_str(if column == 0 { " none\n" } else { "\n" })
}
