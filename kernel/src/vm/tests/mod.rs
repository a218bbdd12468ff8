//! In-kernel tests of address spaces. They use vmspaces directly, without processes: reads and writes go through
//! [`Vmspace::read`] and [`Vmspace::write`], or, where TLBs matter, through the MMU with the vmspace loaded.

mod advice;
mod alone;
mod arguments;
mod around;
mod counted;
mod fork;
mod fork_storm;
mod large;
mod limits;
mod locks;
mod private;
mod reserve;
mod sharing;
mod shootdown;
mod vpagetable;

use super::{MapArguments, MemoryObject, Vmspace};
use crate::test::Test;
use alloc::sync::Arc;
use dragonet_abi::memory::{MapFlags, Protection};

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "vm::wrong_arguments_are_refused",
        run: arguments::refused,
    },
    Test {
        name: "vm::ranges_are_mapped_clipped_and_unmapped",
        run: arguments::ranges,
    },
    Test {
        name: "vm::protection_is_enforced_and_changed",
        run: arguments::protection,
    },
    Test {
        name: "vm::the_whole_address_space_is_unmapped_quickly",
        run: arguments::whole_space,
    },
    Test {
        name: "vm::hints_are_taken_or_passed_over",
        run: arguments::hints,
    },
    Test {
        name: "vm::a_guard_reserves_and_allows_nothing",
        run: reserve::guards,
    },
    Test {
        name: "vm::a_stack_grows_down_to_its_guard",
        run: reserve::stacks,
    },
    Test {
        name: "vm::b443039b5d_the_kernel_writes_to_a_stack_that_has_not_grown",
        run: reserve::kernel_writes,
    },
    Test {
        name: "vm::parts_of_a_stack_are_changed_and_unmapped",
        run: reserve::stack_parts,
    },
    Test {
        name: "vm::advice_reaches_across_entries_guards_and_holes",
        run: advice::across_entries,
    },
    Test {
        name: "vm::will_need_brings_in_everything_that_can_be_touched",
        run: advice::will_need,
    },
    Test {
        name: "vm::will_need_says_that_memory_ran_out",
        run: advice::no_memory,
    },
    Test {
        name: "vm::nothing_is_mapped_in_a_closed_vmspace",
        run: advice::closed,
    },
    Test {
        name: "vm::a_load_maps_the_neighbours_that_are_there",
        run: around::neighbours,
    },
    Test {
        name: "vm::neighbours_in_a_private_mapping_have_the_rights_of_a_load",
        run: around::private_neighbours,
    },
    Test {
        name: "vm::neighbours_that_a_fork_shares_are_not_writable",
        run: around::shared_neighbours,
    },
    Test {
        name: "vm::a_neighbour_that_was_invalidated_is_not_entered",
        run: around::invalidated_neighbours,
    },
    Test {
        name: "vm::no_neighbour_is_mapped_through_a_virtual_page_table",
        run: around::vpagetable_neighbours,
    },
    Test {
        name: "vm::faults_in_two_address_spaces_share_no_lock",
        run: locks::separate,
    },
    Test {
        name: "vm::owners_of_one_page_have_no_lock_in_common",
        run: locks::owners,
    },
    Test {
        name: "vm::untouched_memory_is_zero_and_takes_nothing",
        run: sharing::lazy,
    },
    Test {
        name: "vm::shared_objects_are_shared",
        run: sharing::objects,
    },
    Test {
        name: "vm::inspection_shows_every_entry",
        run: sharing::inspection,
    },
    Test {
        name: "vm::word_keys_name_the_word",
        run: sharing::word_keys,
    },
    Test {
        name: "vm::private_mappings_copy_on_write",
        run: private::copy_on_write,
    },
    Test {
        name: "vm::private_pages_can_be_dropped",
        run: private::dont_need,
    },
    Test {
        name: "vm::modules_are_mapped_and_never_written",
        run: private::modules,
    },
    Test {
        name: "vm::a_fault_maps_a_large_page_where_one_fits",
        run: large::fits,
    },
    Test {
        name: "vm::a_part_of_a_large_page_can_be_unmapped_and_protected",
        run: large::parts,
    },
    Test {
        name: "vm::a_large_page_that_was_found_before_a_part_was_unmapped_is_refused",
        run: large::stale,
    },
    Test {
        name: "vm::large_pages_and_small_ones_replace_each_other",
        run: large::replaced,
    },
    Test {
        name: "vm::a_mapping_is_placed_where_large_pages_fit",
        run: large::placement,
    },
    Test {
        name: "vm::boot_modules_read_the_same_through_large_pages",
        run: large::modules,
    },
    Test {
        name: "vm::every_fault_is_counted_with_one_outcome",
        run: counted::outcomes,
    },
    Test {
        name: "vm::a_fork_diverges_on_all_sides",
        run: fork::divergence,
    },
    Test {
        name: "vm::a_fork_takes_frames_when_somebody_writes",
        run: fork::economy,
    },
    Test {
        name: "vm::a_fork_copies_copies_and_shares_objects",
        run: fork::overlays,
    },
    Test {
        name: "vm::inheritance_is_by_kind_or_as_set",
        run: fork::inheritance,
    },
    Test {
        name: "vm::a_copied_stack_grows_by_itself",
        run: fork::stacks,
    },
    Test {
        name: "vm::a_fork_that_fails_leaves_nothing",
        run: fork::refused,
    },
    Test {
        name: "vm::a_fork_that_is_stopped_leaves_nothing",
        run: fork::stopped,
    },
    Test {
        name: "vm::shared_pages_are_dropped_by_one_owner_only",
        run: fork::dropped,
    },
    Test {
        name: "vm::381893162d_a_source_may_change_and_go_during_a_fork",
        run: fork::changing_source,
    },
    Test {
        name: "vm::7a45978d5d_every_way_to_write_copies_first",
        run: fork_storm::ways_to_write,
    },
    Test {
        name: "vm::c50e690bc7_a_vmspace_that_is_used_again_shows_nothing_old",
        run: fork_storm::used_again,
    },
    Test {
        name: "vm::forks_during_a_storm_of_faults_are_stable_and_unseen",
        run: fork_storm::storm,
    },
    Test {
        name: "vm::words_of_one_page_survive_forks",
        run: fork_storm::words,
    },
    Test {
        name: "vm::a_store_in_place_is_not_lost_to_a_late_copy",
        run: fork::late_copy,
    },
    Test {
        name: "vm::owners_on_all_cpus_copy_at_once",
        run: fork_storm::race,
    },
    Test {
        name: "vm::limits_of_pages_are_exact",
        run: limits::pages,
    },
    Test {
        name: "vm::limits_of_addresses_are_exact",
        run: limits::addresses,
    },
    Test {
        name: "vm::vmspaces_of_one_process_share_its_limits",
        run: limits::accounts,
    },
    Test {
        name: "vm::vpagetable_translates_and_marks",
        run: vpagetable::translation,
    },
    Test {
        name: "vm::vpagetable_honours_rights_and_bounds",
        run: vpagetable::rights,
    },
    Test {
        name: "vm::vpagetable_index_survives_clipping",
        run: vpagetable::clipping,
    },
    Test {
        name: "vm::vpagetable_invalidation_and_roots",
        run: vpagetable::invalidation,
    },
    Test {
        name: "vm::a_fault_alone_does_what_any_fault_does",
        run: alone::alike,
    },
    Test {
        name: "vm::faults_get_on_in_a_storm_of_invalidations",
        run: alone::storm,
    },
    Test {
        name: "vm::a_fault_flushes_nothing_and_an_idle_space_gets_no_ipi",
        run: shootdown::economy,
    },
    Test {
        name: "vm::no_cpu_reads_through_an_invalidated_table",
        run: shootdown::invalidate_oracle,
    },
    Test {
        name: "vm::no_walk_marks_a_table_after_invalidate",
        run: shootdown::walk_after_invalidate,
    },
    Test {
        name: "vm::no_cpu_reads_what_was_unmapped",
        run: shootdown::unmap_oracle,
    },
    Test {
        name: "vm::no_cpu_reads_what_was_unmapped_of_a_large_page",
        run: shootdown::large_oracle,
    },
    Test {
        name: "vm::no_cpu_writes_after_protection",
        run: shootdown::protect_oracle,
    },
    Test {
        name: "vm::copies_on_write_are_seen_by_all_cpus",
        run: shootdown::copy_oracle,
    },
    Test {
        name: "vm::cpus_that_invalidate_each_other_do_not_deadlock",
        run: shootdown::mutual,
    },
];

const PAGE: u64 = 4096;
const READ: Protection = Protection::READ;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// Fails the test with a text unless the condition holds.
macro_rules! demand {
    ($condition:expr, $text:expr) => {
        if !$condition {
            return Err($text);
        }
    };
}
use demand;

/// Runs a test and then looks whether every frame, vmspace and object has come back.
pub(crate) fn accounted(test: impl FnOnce() -> Result<(), &'static str>) -> Result<(), &'static str> {
    // Made when it is first needed, and never freed.
    let _nothing = MemoryObject::nothing();
    let live = super::live_counts();
    let free = crate::mm::tests::free_frames();
    test()?;
    demand!(super::live_counts() == live, "vmspaces or objects are left over");
    crate::mm::tests::free_frames_settle_at(free)
}

pub(crate) fn space() -> Result<Arc<Vmspace>, &'static str> {
    Vmspace::new().map_err(|_| "no vmspace")
}

/// Arguments for anonymous private memory at a fixed address.
pub(crate) fn anonymous(address: u64, pages: u64) -> MapArguments {
    MapArguments {
        address,
        length: pages * PAGE,
        protection: READ_WRITE,
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED,
        object: None,
        maximum: Protection::all(),
        offset: 0,
    }
}

/// Arguments for an object at a fixed address.
fn of_object(address: u64, pages: u64, object: &Arc<MemoryObject>, flags: MapFlags) -> MapArguments {
    MapArguments {
        flags: flags | MapFlags::FIXED,
        object: Some(object.clone()),
        ..anonymous(address, pages)
    }
}

pub(crate) fn map(space: &Vmspace, arguments: &MapArguments) -> Result<u64, &'static str> {
    space.map(arguments).map_err(|errno| {
        log::error!("map: {errno}");
        "a mapping was refused"
    })
}

fn read(space: &Vmspace, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    let count = space.read(address, &mut bytes).ok()?;
    (count == 8).then(|| u64::from_le_bytes(bytes))
}

pub(crate) fn write(space: &Vmspace, address: u64, value: u64) -> bool {
    space.write(address, &value.to_le_bytes()) == Ok(8)
}
