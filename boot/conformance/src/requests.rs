//! Every request of the protocol, between the markers, and one before them that must not be found.

use limine::BaseRevision;
use limine::memory_map::{Entry, EntryType};
use limine::mp::RequestFlags;
use limine::request::*;

/// The base revision asked for.
pub const REVISION: u64 = if cfg!(feature = "revision-0") {
    0
} else if cfg!(feature = "revision-1") {
    1
} else if cfg!(feature = "revision-3") {
    3
} else {
    2
};

/// The stack asked for, in bytes.
pub const STACK: u64 = 256 << 10;

const MP_FLAGS: RequestFlags = if cfg!(feature = "x2apic") {
    RequestFlags::X2APIC
} else {
    RequestFlags::empty()
};

macro_rules! requests {
    ($($(#[$attribute:meta])* $name:ident: $kind:ty = $value:expr;)*) => {
        $($(#[$attribute])* #[used] #[unsafe(link_section = ".requests")] pub static $name: $kind = $value;)*
    };
}

#[used]
#[unsafe(link_section = ".requests_start")]
static START: RequestsStartMarker = RequestsStartMarker::new();

#[used]
#[unsafe(link_section = ".requests_end")]
static END: RequestsEndMarker = RequestsEndMarker::new();

/// Outside the markers, so neither answered nor taken for the second of its kind.
#[used]
#[unsafe(link_section = ".data.outside")]
pub static OUTSIDE: DateAtBootRequest = DateAtBootRequest::new();

requests! {
    BASE_REVISION: BaseRevision = BaseRevision::with_revision(REVISION);
    LOADER: BootloaderInfoRequest = BootloaderInfoRequest::new();
    COMMAND_LINE: ExecutableCmdlineRequest = ExecutableCmdlineRequest::new();
    FIRMWARE: FirmwareTypeRequest = FirmwareTypeRequest::new();
    STACK_SIZE: StackSizeRequest = StackSizeRequest::new().with_size(STACK);
    DIRECT_MAP: HhdmRequest = HhdmRequest::new();
    FRAMEBUFFER: FramebufferRequest = FramebufferRequest::new();
    PAGING_MODE: PagingModeRequest = PagingModeRequest::new();
    PROCESSORS: MpRequest = MpRequest::new().with_flags(MP_FLAGS);
    MEMORY_MAP: MemoryMapRequest = MemoryMapRequest::new();
    ENTRY_POINT: EntryPointRequest = EntryPointRequest::new().with_entry_point(crate::entry::right_entry);
    FILE: ExecutableFileRequest = ExecutableFileRequest::new();
    MODULES: ModuleRequest = ModuleRequest::new();
    RSDP: RsdpRequest = RsdpRequest::new();
    SMBIOS: SmbiosRequest = SmbiosRequest::new();
    EFI: EfiSystemTableRequest = EfiSystemTableRequest::new();
    EFI_MEMORY_MAP: EfiMemoryMapRequest = EfiMemoryMapRequest::new();
    DATE: DateAtBootRequest = DateAtBootRequest::new();
    ADDRESS: ExecutableAddressRequest = ExecutableAddressRequest::new();
    DEVICE_TREE: DeviceTreeBlobRequest = DeviceTreeBlobRequest::new();
}

/// The command line; empty if there was no answer.
pub fn command_line() -> &'static str {
    COMMAND_LINE
        .get_response()
        .and_then(|answer| answer.cmdline().to_str().ok())
        .unwrap_or("")
}

/// The values of all words `KEY=VALUE` of the command line.
pub fn words(key: &'static str) -> impl Iterator<Item = &'static str> {
    command_line()
        .split_ascii_whitespace()
        .filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Where the direct map begins.
pub fn direct_map() -> u64 {
    DIRECT_MAP
        .get_response()
        .map_or(0xffff_8000_0000_0000, |answer| answer.offset())
}

/// The entries of the memory map.
pub fn memory_map() -> &'static [&'static Entry] {
    MEMORY_MAP.get_response().map_or(&[], |answer| answer.entries())
}

/// Whether all of a physical range lies in entries of one type.
pub fn all_in(start: u64, length: u64, kind: EntryType) -> bool {
    let mut position = start;
    for entry in memory_map().iter().filter(|entry| entry.entry_type == kind) {
        if entry.base <= position && position < entry.base + entry.length {
            position = entry.base + entry.length;
        }
    }
    position >= start + length
}
