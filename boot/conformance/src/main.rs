//! A kernel that does nothing but check what the Limine boot protocol promises, on the machine it finds itself on.
//! It asks for everything that the protocol offers, prints `test NAME ... ok` or `FAILED: why` for each promise on
//! the first serial port, then `N passed, N failed` and `dragonet: exit status 0` (or 1), and leaves by the door
//! that the command line names.
//!
//! Words of the command line: `exit=isa:0xf4` or `exit=bochs`; `cpus=N`, how many CPUs there must be;
//! `module=NAME:SIZE:FNV` with the 64-bit FNV-1a hash of its contents in hexadecimal, once for each module in order;
//! `framebuffer=yes` or `no` and `firmware=bios` or `uefi`, what there must be.
#![no_std]
#![no_main]

mod check;
mod checks;
mod console;
mod entry;
mod requests;
mod walk;

use check::Outcome;

/// A check with the name it is reported by.
type Check = (&'static str, fn() -> Outcome);

const CHECKS: &[Check] = &[
    ("base_revision", checks::answers::base_revision),
    ("bootloader_info", checks::answers::bootloader_info),
    ("unknown_requests_stay_unanswered", checks::answers::unanswered),
    (
        "answers_are_in_reclaimable_memory",
        checks::answers::in_reclaimable_memory,
    ),
    ("paging_mode", checks::answers::paging_mode),
    ("date", checks::answers::date),
    ("firmware", checks::answers::firmware),
    ("rsdp", checks::answers::rsdp),
    ("smbios", checks::answers::smbios),
    ("registers", checks::machine::registers),
    ("control_registers", checks::machine::control_registers),
    ("segments", checks::machine::segments),
    ("stack", checks::machine::stack),
    ("page_attributes", checks::machine::page_attributes),
    ("legacy_interrupts_masked", checks::machine::legacy_interrupts),
    ("io_apics_masked", checks::machine::io_apics),
    ("memory_map", checks::memory::map),
    ("usable_memory", checks::memory::usable),
    ("direct_map", checks::memory::direct_map_covers),
    ("identity_map", checks::memory::identity_map),
    ("page_tables_are_reclaimable", checks::memory::page_tables),
    ("framebuffer", checks::memory::framebuffer),
    ("image_position", checks::files::image_position),
    ("image_permissions", checks::files::image_permissions),
    ("image_contents", checks::files::image_contents),
    ("command_line", checks::files::command_line),
    ("executable_file", checks::files::executable_file),
    ("modules", checks::files::modules),
    ("module_pages", checks::files::module_pages),
    ("processor_list", checks::processors::list),
    ("processors_run", checks::processors::run),
];

/// Called by the entry code once it has saved the registers.
extern "C" fn main() -> ! {
    let mut failed = 0;
    for (name, check) in CHECKS {
        match check() {
            Ok(()) => say!("test {name} ... ok"),
            Err(why) => {
                failed += 1;
                say!("test {name} ... FAILED: {why}");
            }
        }
    }
    say!("{} passed, {failed} failed", CHECKS.len() - failed);
    console::exit(if failed == 0 { 0 } else { 1 })
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    say!("dragonet: panic: {information}");
    console::exit(101)
}
