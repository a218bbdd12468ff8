//! What the kernel asks for: the base revision tag and the requests of the Limine boot protocol, found by their
//! magic numbers in the loaded image.
//!
//! The stage scans once, reads each request's parameters from the image, and writes the address of the answer into
//! the request. A request it does not know stays as it is, which tells the kernel that there is no answer.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;

use crate::bytes::u64_at;

/// The highest base revision the stage complies with.
pub const HIGHEST_REVISION: u64 = 3;

/// The most requests in an image.
pub const MOST_REQUESTS: usize = 64;

const COMMON: [u64; 2] = [0xc7b1_dd30_df4c_8b88, 0x0a82_e883_a194_f07b];
const REVISION: [u64; 2] = [0xf956_2b2d_5c95_a6c8, 0x6a7b_3849_4453_6bdc];
const START: [u64; 4] = [
    0xf6b8_f4b3_9de7_d1ae,
    0xfab9_1a69_40fc_b9cf,
    0x785c_6ed0_15d3_e316,
    0x181e_920a_7852_b9d9,
];
const END: [u64; 2] = [0xadc0_e053_1bb1_0d03, 0x9572_709f_3176_4c62];

/// Offset of a request's answer pointer from its beginning.
const ANSWER: usize = 40;

/// Offset of the first parameter.
const PARAMETERS: usize = 48;

/// The features that the stage answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Feature {
    BootloaderInfo,
    ExecutableCommandLine,
    FirmwareType,
    StackSize,
    DirectMap,
    Framebuffer,
    PagingMode,
    Multiprocessor,
    MemoryMap,
    EntryPoint,
    ExecutableFile,
    Modules,
    Rsdp,
    Smbios,
    EfiSystemTable,
    EfiMemoryMap,
    DateAtBoot,
    ExecutableAddress,
}

/// The second half of each feature's magic number.
const FEATURES: [(Feature, [u64; 2]); 18] = [
    (
        Feature::BootloaderInfo,
        [0xf550_38d8_e2a1_202f, 0x2794_26fc_f5f5_9740],
    ),
    (
        Feature::ExecutableCommandLine,
        [0x4b16_1536_e598_651e, 0xb390_ad4a_2f1f_303a],
    ),
    (
        Feature::FirmwareType,
        [0x8c2f_75d9_0bef_28a8, 0x7045_a468_8eac_00c3],
    ),
    (Feature::StackSize, [0x224e_f046_0a8e_8926, 0xe1cb_0fc2_5f46_ea3d]),
    (Feature::DirectMap, [0x48dc_f1cb_8ad2_b852, 0x6398_4e95_9a98_244b]),
    (
        Feature::Framebuffer,
        [0x9d58_27dc_d881_dd75, 0xa314_8604_f6fa_b11b],
    ),
    (
        Feature::PagingMode,
        [0x95c1_a0ed_ab09_44cb, 0xa4e5_cb38_42f7_488a],
    ),
    (
        Feature::Multiprocessor,
        [0x95a6_7b81_9a1b_857e, 0xa0b6_1b72_3b6a_73e0],
    ),
    (Feature::MemoryMap, [0x67cf_3d9d_378a_806f, 0xe304_acdf_c50c_3c62]),
    (
        Feature::EntryPoint,
        [0x13d8_6c03_5a1c_d3e1, 0x2b0c_aa89_d8f3_026a],
    ),
    (
        Feature::ExecutableFile,
        [0xad97_e90e_83f1_ed67, 0x31eb_5d1c_5ff2_3b69],
    ),
    (Feature::Modules, [0x3e7e_2797_02be_32af, 0xca1c_4f3b_d128_0cee]),
    (Feature::Rsdp, [0xc5e7_7b6b_397e_7b43, 0x2763_7845_accd_cf3c]),
    (Feature::Smbios, [0x9e90_46f1_1e09_5391, 0xaa4a_520f_efbd_e5ee]),
    (
        Feature::EfiSystemTable,
        [0x5ceb_a516_3eaa_f6d6, 0x0a69_8161_0cf6_5fcc],
    ),
    (
        Feature::EfiMemoryMap,
        [0x7df6_2a43_1d68_72d5, 0xa4fc_dfb3_e573_06c8],
    ),
    (
        Feature::DateAtBoot,
        [0x5027_46e1_84c0_88aa, 0xfbc5_ec83_e632_7893],
    ),
    (
        Feature::ExecutableAddress,
        [0x71ba_7686_3cc5_5f63, 0xb264_4a48_c516_a487],
    ),
];

/// A request that the stage knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub feature: Feature,
    /// Offset of the request in the image.
    pub offset: usize,
    /// Its revision.
    pub revision: u64,
    /// Its first three parameters; zero where it has fewer.
    pub parameters: [u64; 3],
}

/// All that was found in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// The base revision the kernel will be entered with.
    pub revision: u64,
    tag: Option<(usize, u64)>,
    found: ArrayVec<Request, MOST_REQUESTS>,
}

/// Why the image's requests cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// The same request twice, at these offsets.
    Duplicate(usize, usize),
    /// More than [`MOST_REQUESTS`].
    TooMany,
}

impl core::fmt::Display for ScanError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ScanError::Duplicate(first, second) => {
                write!(
                    formatter,
                    "the kernel has the same request twice, at {first:#x} and {second:#x} of its image"
                )
            }
            ScanError::TooMany => write!(formatter, "the kernel has more than {MOST_REQUESTS} requests"),
        }
    }
}

impl Requests {
    /// Scans a loaded image, whose first byte is at an address that is a multiple of eight. Only what lies between
    /// the last start marker and the first end marker counts, where those are present.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub fn scan(image: &[u8]) -> Result<Self, ScanError> {
        let (from, to) = delimited(image);
        let mut requests = Requests {
            revision: 0,
            tag: None,
            found: ArrayVec::new(),
        };
        let mut identities: ArrayVec<([u64; 2], usize), MOST_REQUESTS> = ArrayVec::new();
        for offset in (from..to).step_by(8) {
            if matches(image, offset, &REVISION) && requests.tag.is_none() {
                requests.tag = u64_at(image, offset + 16).map(|revision| (offset, revision));
            }
            if !matches(image, offset, &COMMON) {
                continue;
            }
            let word = |at: usize| u64_at(image, offset + at);
            let (Some(third), Some(fourth), Some(revision), Some(_)) =
                (word(16), word(24), word(32), word(ANSWER))
            else {
                continue;
            };
            let identity = [third, fourth];
            if let Some((_, first)) = identities.iter().find(|(known, _)| *known == identity) {
                return Err(ScanError::Duplicate(*first, offset));
            }
            identities
                .try_push((identity, offset))
                .map_err(|_| ScanError::TooMany)?;
            if let Some((feature, _)) = FEATURES.iter().find(|(_, magic)| *magic == identity) {
                let parameter = |index: usize| word(PARAMETERS + 8 * index).unwrap_or(0);
                let parameters = [parameter(0), parameter(1), parameter(2)];
                requests.found.push(Request {
                    feature: *feature,
                    offset,
                    revision,
                    parameters,
                });
            }
        }
        requests.revision = requests
            .tag
            .map_or(0, |(_, revision)| revision.min(HIGHEST_REVISION));
        Ok(requests)
    }

    /// The request for a feature, if the kernel has it.
    pub fn get(&self, feature: Feature) -> Option<&Request> {
        self.found.iter().find(|request| request.feature == feature)
    }

    /// Tells the kernel which base revision is used: its tag's second word becomes that number, and the third one
    /// zero if it is the one that was asked for.
    pub fn acknowledge_revision(&self, image: &mut [u8]) {
        if let Some((offset, wanted)) = self.tag {
            write(image, offset + 8, self.revision);
            if wanted == self.revision {
                write(image, offset + 16, 0);
            }
        }
    }
}

impl Request {
    /// Writes the virtual address of the answer into the request.
    pub fn answer(&self, image: &mut [u8], address: u64) {
        write(image, self.offset + ANSWER, address);
    }
}

fn write(image: &mut [u8], offset: usize, word: u64) {
    if let Some(place) = image.get_mut(offset..offset + 8) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

fn matches(image: &[u8], offset: usize, magic: &[u64]) -> bool {
    magic
        .iter()
        .enumerate()
        .all(|(index, word)| u64_at(image, offset + 8 * index) == Some(*word))
}

/// The range of offsets in which requests count.
fn delimited(image: &[u8]) -> (usize, usize) {
    let offsets = || (0..image.len()).step_by(8);
    let from = offsets()
        .rev()
        .find(|&offset| matches(image, offset, &START))
        .unwrap_or(0);
    let to = offsets()
        .find(|&offset| matches(image, offset, &END))
        .unwrap_or(image.len());
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn image(words: &[&[u64]]) -> Vec<u8> {
        words
            .iter()
            .flat_map(|part| part.iter())
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    fn request(index: usize, rest: &[u64]) -> Vec<u64> {
        let mut words = Vec::from(COMMON);
        words.extend(FEATURES[index].1);
        words.extend([0, 0]);
        words.extend(rest);
        words
    }

    #[test]
    fn magic_numbers_are_the_crates() {
        use limine::request as r;
        let theirs: [[u64; 4]; 18] = [
            *r::BootloaderInfoRequest::new().id(),
            *r::ExecutableCmdlineRequest::new().id(),
            *r::FirmwareTypeRequest::new().id(),
            *r::StackSizeRequest::new().id(),
            *r::HhdmRequest::new().id(),
            *r::FramebufferRequest::new().id(),
            *r::PagingModeRequest::new().id(),
            *r::MpRequest::new().id(),
            *r::MemoryMapRequest::new().id(),
            *r::EntryPointRequest::new().id(),
            *r::ExecutableFileRequest::new().id(),
            *r::ModuleRequest::new().id(),
            *r::RsdpRequest::new().id(),
            *r::SmbiosRequest::new().id(),
            *r::EfiSystemTableRequest::new().id(),
            *r::EfiMemoryMapRequest::new().id(),
            *r::DateAtBootRequest::new().id(),
            *r::ExecutableAddressRequest::new().id(),
        ];
        for ((feature, magic), theirs) in FEATURES.iter().zip(theirs) {
            assert_eq!([COMMON[0], COMMON[1], magic[0], magic[1]], theirs, "{feature:?}");
        }
    }

    #[test]
    fn finds_requests_and_answers_them() {
        let mut image = image(&[
            &[7],
            &REVISION,
            &[2],
            &request(3, &[0x20000]),
            &[9],
            &request(4, &[]),
        ]);
        let requests = Requests::scan(&image).unwrap();
        assert_eq!(requests.revision, 2);
        assert_eq!(requests.get(Feature::StackSize).unwrap().parameters[0], 0x20000);
        assert!(requests.get(Feature::Framebuffer).is_none());
        let direct_map = *requests.get(Feature::DirectMap).unwrap();
        direct_map.answer(&mut image, 0x1234);
        requests.acknowledge_revision(&mut image);
        assert_eq!(u64_at(&image, direct_map.offset + 40), Some(0x1234));
        assert_eq!((u64_at(&image, 16), u64_at(&image, 24)), (Some(2), Some(0)));
    }

    #[test]
    fn a_revision_beyond_ours_is_left_and_named() {
        let mut image = image(&[&REVISION, &[9]]);
        let requests = Requests::scan(&image).unwrap();
        assert_eq!(requests.revision, 3);
        requests.acknowledge_revision(&mut image);
        assert_eq!((u64_at(&image, 8), u64_at(&image, 16)), (Some(3), Some(9)));
        assert_eq!(Requests::scan(&[]).unwrap().revision, 0);
    }

    #[test]
    fn markers_delimit() {
        let outside = request(0, &[]);
        let inside = request(1, &[]);
        let image = image(&[&outside, &START, &inside, &END, &outside]);
        let requests = Requests::scan(&image).unwrap();
        assert!(requests.get(Feature::BootloaderInfo).is_none());
        assert!(requests.get(Feature::ExecutableCommandLine).is_some());
    }

    #[test]
    fn duplicates_are_refused_even_of_unknown_requests() {
        let unknown = [COMMON[0], COMMON[1], 1, 2, 0, 0];
        let twice = image(&[&unknown, &unknown]);
        assert_eq!(Requests::scan(&twice), Err(ScanError::Duplicate(0, 48)));
        let once = image(&[&unknown]);
        assert!(Requests::scan(&once).unwrap().found.is_empty());
        assert!(Requests::scan(&once[..40]).unwrap().found.is_empty());
    }
}
