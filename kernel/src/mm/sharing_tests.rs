//! In-kernel tests of pages with several owners.

use super::frame::{self, Frame};
use super::tests::{free_frames, free_frames_settle_at};
use super::{Account, Discard, PageTree, TakenPages, frame_table, is_shared, note_reuse};
use crate::test::Test;
use alloc::sync::Arc;
use dragonet_abi::Errno;
use frame_share::ShareCount;

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "mm::the_last_owner_of_a_page_frees_it",
        run: owners,
    },
    Test {
        name: "mm::sharing_stops_at_the_limit_and_after_a_bounded_time",
        run: bounds,
    },
    Test {
        name: "mm::29a18051da_a_share_count_at_its_end_does_not_overflow",
        run: full_count,
    },
];

fn tree(pages: u64, account: Option<Arc<Account>>) -> Result<PageTree, &'static str> {
    PageTree::new(pages, Discard::Allowed, account).map_err(|_| "no tree")
}

fn numbered(number: u64) -> Result<Frame, Errno> {
    let mut frame = frame::allocate()?;
    frame.bytes().fill(number as u8);
    Ok(frame)
}

/// Puts a page into a tree at each index.
fn fill(tree: &PageTree, indices: impl Iterator<Item = u64>) -> Result<(), &'static str> {
    for index in indices {
        tree.get_or_insert(index, || numbered(index))
            .map_err(|_| "no page")?;
    }
    Ok(())
}

/// What is in a page of a tree: its first byte, if all bytes are the same.
fn contents(tree: &PageTree, index: u64) -> Option<u8> {
    let mut copy = frame::allocate().ok()?;
    tree.copy_unstable(index, &mut copy)?;
    let first = copy.bytes()[0];
    copy.bytes().iter().all(|&byte| byte == first).then_some(first)
}

/// Shares everything; page 0 becomes page `to`.
fn share_all(from: &PageTree, other: &PageTree, to: u64) -> Result<(), &'static str> {
    let mut index = 0;
    while index < from.pages() {
        let shared = from.share(index..from.pages(), other, to + index);
        shared.outcome.map_err(|_| "sharing failed")?;
        index = shared.stopped;
    }
    Ok(())
}

fn owners() -> Result<(), &'static str> {
    let before = free_frames();
    let account = Arc::new(Account::new());
    {
        let one = tree(1200, Some(account.clone()))?;
        let (two, three) = (tree(1300, None)?, tree(1300, Some(account.clone()))?);
        fill(&one, (0..1200).step_by(3))?;
        share_all(&one, &two, 0)?;
        share_all(&one, &three, 100)?;
        if two.resident() != 400 || three.resident() != 400 || account.pages.used() != 800 {
            return Err("pages are missing, or charged wrongly");
        }
        if (0..1200).any(|index| one.get(index) != two.get(index) || one.get(index) != three.get(index + 100))
        {
            return Err("a page is not the same for all");
        }
        // One replaces its first page, and drops all others.
        let original = one.get(0).ok_or("a page is gone")?;
        let part = one
            .replace_shared(0, original, numbered(77).map_err(|_| "no frame")?)
            .map_err(|_| "a shared page is not replaced")?;
        drop(part);
        if contents(&one, 0) != Some(77) || contents(&two, 0) != Some(0) || account.pages.used() != 800 {
            return Err("a copy is not where it should be");
        }
        let again = one.replace_shared(0, original, numbered(78).map_err(|_| "no frame")?);
        if again.is_ok() {
            return Err("a page was replaced that was not there");
        }
        let mut index = 1;
        while index < 1200 {
            let mut taken = TakenPages::new();
            index = one.take(index..1200, 256, &mut taken);
        }
        if one.resident() != 1 || account.pages.used() != 401 {
            return Err("dropped pages are still there");
        }
        if (0..1200)
            .step_by(3)
            .any(|index| contents(&two, index) != Some(index as u8))
        {
            return Err("a page was freed under its other owners");
        }
        drop(three);
        for index in (0..1200).step_by(3) {
            let page = two.get(index).ok_or("a page is gone")?;
            if is_shared(page) || !note_reuse(page) || note_reuse(page) {
                return Err("the last owner is not the only one");
            }
            let kept = two.replace_shared(index, page, numbered(1).map_err(|_| "no frame")?);
            if kept.is_ok() {
                return Err("a page without other owners was replaced");
            }
        }
    }
    if account.pages.used() != 0 {
        return Err("something stays charged");
    }
    drop(account);
    free_frames_settle_at(before)
}

fn bounds() -> Result<(), &'static str> {
    let before = free_frames();
    {
        let account = Arc::new(Account::new());
        let dense = tree(1000, None)?;
        fill(&dense, 0..1000)?;
        let other = tree(1000, Some(account.clone()))?;
        account.pages.set_limit(70);
        let first = dense.share(0..1000, &other, 0);
        if first.outcome.is_err() || first.count == 0 || first.count >= 70 || first.pages != (0..first.count)
        {
            return Err("one step shares nothing, or too much");
        }
        let second = dense.share(first.stopped..1000, &other, first.stopped);
        if second.outcome != Err(Errno::ENOMEM) || second.stopped != 70 || other.resident() != 70 {
            return Err("sharing does not stop at the limit");
        }
        // Empty nodes are skipped, and what one step shares lies close together.
        let sparse = tree(1 << 34, None)?;
        fill(&sparse, [0, 1 << 20, 1 << 33].into_iter())?;
        let copy = tree(1 << 34, None)?;
        let (mut index, mut steps) = (0, 0);
        while index < 1 << 34 {
            let shared = sparse.share(index..1 << 34, &copy, index);
            if shared.pages.end - shared.pages.start > 512 || shared.outcome.is_err() {
                return Err("pages far from each other are shared at once");
            }
            (index, steps) = (shared.stopped, steps + 1);
        }
        if copy.resident() != 3 || steps > 2000 {
            return Err("a sparse tree is not shared, or that takes long");
        }
    }
    free_frames_settle_at(before)
}

/// DragonFly's count of holders had 16 bits and overflowed (29a18051da). Here a page that has as many owners as can be
/// counted is copied for one more.
fn full_count() -> Result<(), &'static str> {
    let before = free_frames();
    {
        let (one, two, three) = (tree(2, None)?, tree(2, None)?, tree(2, None)?);
        fill(&one, 0..2)?;
        let page = one.get(1).ok_or("no page")?;
        let count = frame_table::shares(page);
        count.pretend(ShareCount::MOST - 1);
        share_all(&one, &two, 0)?;
        share_all(&one, &three, 0)?;
        let same = (
            one.get(0) == three.get(0),
            one.get(1) == two.get(1),
            one.get(1) == three.get(1),
        );
        let copied = contents(&three, 1) == contents(&one, 1);
        // Those that there are.
        count.pretend(1);
        if same != (true, true, false) || !copied {
            return Err("a page with the most owners is not copied for one more");
        }
    }
    free_frames_settle_at(before)
}
