//! What the kernel asks of the boot loader (Limine boot protocol). The loader finds the requests in the image by their magic numbers and
//! writes pointers to its answers into them; the answers live in memory that the kernel never reuses.

use limine::BaseRevision;
use limine::request::{
    BootloaderInfoRequest, ExecutableAddressRequest, ExecutableCmdlineRequest, ExecutableFileRequest,
    FramebufferRequest, HhdmRequest, MemoryMapRequest, ModuleRequest, MpRequest, RequestsEndMarker,
    RequestsStartMarker, RsdpRequest, StackSizeRequest,
};

#[used]
#[unsafe(link_section = ".limine_requests_start")]
static START: RequestsStartMarker = RequestsStartMarker::new();

#[used]
#[unsafe(link_section = ".limine_requests_end")]
static END: RequestsEndMarker = RequestsEndMarker::new();

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr;)*) => {
        $(
            $(#[$doc])*
            #[used]
            #[unsafe(link_section = ".limine_requests")]
            pub(super) static $name: $type = $value;
        )*
    };
}

requests! {
    /// Revision 2 is what both older and newer loaders know.
    BASE_REVISION: BaseRevision = BaseRevision::with_revision(2);
    BOOTLOADER: BootloaderInfoRequest = BootloaderInfoRequest::new();
    COMMAND_LINE: ExecutableCmdlineRequest = ExecutableCmdlineRequest::new();
    /// Loaders that do not know the request above give the command line here.
    EXECUTABLE_FILE: ExecutableFileRequest = ExecutableFileRequest::new();
    EXECUTABLE_ADDRESS: ExecutableAddressRequest = ExecutableAddressRequest::new();
    FRAMEBUFFER: FramebufferRequest = FramebufferRequest::new();
    DIRECT_MAP: HhdmRequest = HhdmRequest::new();
    MEMORY_MAP: MemoryMapRequest = MemoryMapRequest::new();
    MODULES: ModuleRequest = ModuleRequest::new();
    PROCESSORS: MpRequest = MpRequest::new();
    RSDP: RsdpRequest = RsdpRequest::new();
    STACK_SIZE: StackSizeRequest = StackSizeRequest::new().with_size(64 * 1024);
}
