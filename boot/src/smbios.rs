//! The entry points of SMBIOS on machines without EFI.
#![forbid(unsafe_code)]

use crate::PhysicalMemory;
use crate::bytes::{checksum, u8_at};

/// Physical addresses of the 32-bit and the 64-bit entry point, found by their anchors on 16-byte boundaries from
/// 0xf0000 to 0xfffff.
pub fn find_entry_points(memory: &impl PhysicalMemory) -> (Option<u64>, Option<u64>) {
    let start = 0xf_0000;
    let Some(area) = memory.bytes(start, 0x1_0000) else {
        return (None, None);
    };
    let find = |anchor: &[u8], length_at: usize| {
        (0..area.len()).step_by(16).find_map(|offset| {
            let candidate = area[offset..].strip_prefix(anchor).map(|_| &area[offset..])?;
            let length = usize::from(u8_at(candidate, length_at)?);
            let entry = candidate.get(..length).filter(|entry| entry.len() >= 16)?;
            (checksum(entry) == 0).then_some(start + offset as u64)
        })
    };
    (find(b"_SM_", 5), find(b"_SM3_", 6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiboot::fake::FakeMemory;

    #[test]
    fn finds_both_entry_points() {
        let mut memory = FakeMemory::new(0xf_0000, 0x1_0000);
        assert_eq!(find_entry_points(&memory), (None, None));
        let mut old = [0u8; 31];
        old[..4].copy_from_slice(b"_SM_");
        old[5] = 31;
        old[4] = checksum(&old).wrapping_neg();
        memory.put(0xf_5a10, &old);
        let mut new = [0u8; 24];
        new[..5].copy_from_slice(b"_SM3_");
        new[6] = 24;
        new[5] = checksum(&new).wrapping_neg();
        memory.put(0xf_5a40, &new);
        memory.put(0xf_0010, b"_SM_ by chance");
        assert_eq!(find_entry_points(&memory), (Some(0xf_5a10), Some(0xf_5a40)));
    }
}
