//! Where a structure is, without other CPUs.

use crate::{Loader, Place};
use std::cell::RefCell;

/// A CPU that writes down what is asked of it.
struct Cpu<'log> {
    index: usize,
    refuses: bool,
    log: &'log RefCell<Vec<String>>,
}

impl Loader for Cpu<'_> {
    type Current = usize;
    type Failure = ();

    fn cpu(&self) -> usize {
        self.index
    }
    fn ask_to_release(&self, cpu: usize) {
        self.log.borrow_mut().push(format!("{cpu} releases"));
    }
    fn load(&self) -> Result<usize, ()> {
        self.log.borrow_mut().push(format!("{} loads", self.index));
        if self.refuses { Err(()) } else { Ok(self.index) }
    }
}

fn log_of(work: impl FnOnce(&dyn Fn(usize, bool) -> Cpu<'static>, &mut Place)) -> Vec<String> {
    let log: &'static RefCell<Vec<String>> = Box::leak(Box::default());
    let mut place = Place::new();
    work(&|index, refuses| Cpu { index, refuses, log }, &mut place);
    place.release(|cpu| log.borrow_mut().push(format!("{cpu} releases")));
    log.take()
}

#[test]
fn a_new_structure_is_cleared_where_it_is_loaded_first() {
    let log = log_of(|cpu, place| {
        assert_eq!(place.load(&cpu(2, false)), Ok((2, true)));
        assert_eq!(place.cpu(), Some(2));
    });
    assert_eq!(log, ["2 releases", "2 loads", "2 releases"]);
}

#[test]
fn a_structure_that_stays_is_only_loaded() {
    let log = log_of(|cpu, place| {
        let _ = place.load(&cpu(1, false));
        place.note_launched();
        assert_eq!(place.load(&cpu(1, false)), Ok((1, false)));
        assert!(place.is_launched());
    });
    assert_eq!(log, ["1 releases", "1 loads", "1 loads", "1 releases"]);
}

#[test]
fn a_structure_that_moves_is_released_where_it_was_and_launched_anew() {
    let log = log_of(|cpu, place| {
        let _ = place.load(&cpu(1, false));
        place.note_launched();
        assert_eq!(place.load(&cpu(3, false)), Ok((3, true)));
        assert!(!place.is_launched());
    });
    assert_eq!(
        log,
        ["1 releases", "1 loads", "1 releases", "3 loads", "3 releases"]
    );
}

#[test]
fn a_structure_that_was_not_taken_is_nowhere() {
    let log = log_of(|cpu, place| {
        let _ = place.load(&cpu(1, false));
        assert_eq!(place.load(&cpu(2, true)), Err(()));
        assert_eq!(place.cpu(), None);
        // So the next one that takes it writes its own state.
        assert_eq!(place.load(&cpu(2, false)), Ok((2, true)));
    });
    assert_eq!(log.last().map(String::as_str), Some("2 releases"));
}

#[test]
fn what_was_never_loaded_is_released_by_nobody() {
    assert!(log_of(|_, _| ()).is_empty());
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "a control structure goes away that is")]
fn a_structure_that_is_active_does_not_go() {
    let log = RefCell::default();
    let mut place = Place::new();
    let _ = place.load(&Cpu {
        index: 0,
        refuses: false,
        log: &log,
    });
}
