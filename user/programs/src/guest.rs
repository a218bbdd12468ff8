//! What the programs that use guest mode share.

use dragonet_abi::system::MODE_EXIT;
use dragonet_rt::{ExitCode, eprintln, startup, syscall};

/// Status of programs that need guest mode, on a machine that has none.
pub const STATUS_NO_GUEST_MODE: u8 = 69;

/// True if the machine has guest mode.
#[must_use]
pub fn has_guest_mode() -> bool {
    let modes = syscall::system_info().map_or(0, |information| information.vkernel_modes);
    modes & MODE_EXIT != 0
}

/// Says so if the machine has no guest mode.
///
/// # Errors
/// The status with which to end.
pub fn require_guest_mode() -> Result<(), ExitCode> {
    if has_guest_mode() {
        return Ok(());
    }
    eprintln!(
        "{}: this machine has no guest mode; 'vmm' says why",
        startup::program()
    );
    Err(ExitCode(STATUS_NO_GUEST_MODE))
}
