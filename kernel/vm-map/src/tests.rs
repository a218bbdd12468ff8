//! The map against a naive model: one cell per page.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Backing {
    id: u32,
    offset: u64,
    mark: u32,
}

impl Payload for Backing {
    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    fn retreat(&mut self, bytes: u64) -> bool {
        let below = self.offset.checked_sub(bytes);
        self.offset = below.unwrap_or(self.offset);
        below.is_some()
    }
}

const PAGE: u64 = 4096;
const PAGES: usize = 64;
const LIMITS: Range<u64> = 16 * PAGE..(16 + PAGES as u64) * PAGE;

/// What each page maps to: object, byte offset in it, mark.
type Model = [Option<(u32, u64, u32)>; PAGES];

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, usize, u32),
    Remove(usize, usize),
    Update(usize, usize, u32),
    /// Border and new border of two entries, whether there are any or not.
    Lower(usize, usize),
}

fn bytes(start: usize, length: usize) -> Range<u64> {
    let start = LIMITS.start + start as u64 * PAGE;
    start..start + length as u64 * PAGE
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    (0..PAGES).prop_flat_map(|start| (Just(start), 1..=PAGES - start))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (range(), any::<u32>()).prop_map(|((start, length), id)| Step::Insert(start, length, id)),
        range().prop_map(|(start, length)| Step::Remove(start, length)),
        (range(), 1..100u32).prop_map(|((start, length), mark)| Step::Update(start, length, mark)),
        (1..PAGES)
            .prop_flat_map(|border| (Just(border), 0..border))
            .prop_map(|(border, to)| Step::Lower(border, to)),
    ]
}

fn flatten(map: &Map<Backing>) -> Model {
    let mut model = [None; PAGES];
    for (page, cell) in model.iter_mut().enumerate() {
        let address = LIMITS.start + page as u64 * PAGE;
        *cell = map.find(address).map(|entry| {
            (
                entry.payload.id,
                entry.payload.offset + (address - entry.start),
                entry.payload.mark,
            )
        });
    }
    model
}

fn apply(map: &mut Map<Backing>, model: &mut Model, step: &Step) -> Result<(), TestCaseError> {
    match *step {
        Step::Insert(start, length, id) => {
            let free = model[start..start + length].iter().all(Option::is_none);
            let result = map.insert(
                bytes(start, length),
                Backing {
                    id,
                    // Far enough from 0 that some borders can be lowered and some cannot.
                    offset: start as u64 % 8 * PAGE,
                    mark: 0,
                },
            );
            prop_assert_eq!(result, if free { Ok(()) } else { Err(InsertError::Overlap) });
            if free {
                for page in 0..length {
                    model[start + page] = Some((id, (start % 8 + page) as u64 * PAGE, 0));
                }
            }
        }
        Step::Remove(start, length) => {
            let removed = map.remove(bytes(start, length)).unwrap();
            let mut seen = [None; PAGES];
            for entry in removed.iter() {
                let first = ((entry.start - LIMITS.start) / PAGE) as usize;
                for page in 0..((entry.end - entry.start) / PAGE) as usize {
                    let backing = entry.payload;
                    seen[first + page] =
                        Some((backing.id, backing.offset + page as u64 * PAGE, backing.mark));
                }
            }
            let mut expected = [None; PAGES];
            expected[start..start + length].copy_from_slice(&model[start..start + length]);
            prop_assert_eq!(seen, expected);
            model[start..start + length].fill(None);
        }
        Step::Update(start, length, mark) => {
            map.update(bytes(start, length), |backing| backing.mark = mark)
                .unwrap();
            for cell in model[start..start + length].iter_mut().flatten() {
                cell.2 = mark;
            }
        }
        Step::Lower(border, to) => {
            let address = |page: usize| LIMITS.start + page as u64 * PAGE;
            let moved = (border - to) as u64 * PAGE;
            let upper = map
                .find(address(border))
                .map(|upper| (upper.start, *upper.payload));
            let lower = map.find(address(to)).map(|lower| (lower.range(), *lower.payload));
            let meet = upper
                .is_some_and(|(start, backing)| start == address(border) && backing.offset >= moved)
                && lower
                    .as_ref()
                    .is_some_and(|(lower, _)| lower.end == address(border));
            let before = map.len();
            let outcome = map.lower_border(address(border), address(to));
            prop_assert_eq!(outcome.is_ok(), meet);
            if let (Ok(gone), Some((_, backing)), Some((lower, payload))) = (outcome, upper, lower) {
                prop_assert_eq!(gone, (lower.start == address(to)).then_some(payload));
                prop_assert_eq!(map.len(), before - usize::from(gone.is_some()));
                let cells = model.iter_mut().enumerate().take(border).skip(to);
                for (page, cell) in cells {
                    let offset = backing.offset - (border - page) as u64 * PAGE;
                    *cell = Some((backing.id, offset, backing.mark));
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn behaves_like_one_cell_per_page(
        steps in prop::collection::vec(step(), 1..40),
        (start, length) in range(),
    ) {
        let mut map = Map::new(LIMITS, 1000);
        let mut model: Model = [None; PAGES];
        for step in &steps {
            apply(&mut map, &mut model, step)?;
            prop_assert_eq!(flatten(&map), model);
            // After every step, since what is packed is remembered.
            let gap = (0..=PAGES - length)
                .find(|&at| model[at..at + length].iter().all(Option::is_none))
                .map(|at| bytes(at, length).start);
            prop_assert_eq!(map.find_gap(length as u64 * PAGE, LIMITS), gap);
        }
        let cells = &model[start..start + length];
        prop_assert_eq!(map.covers(bytes(start, length)), cells.iter().all(Option::is_some));
        prop_assert_eq!(map.is_free(bytes(start, length)), cells.iter().all(Option::is_none));

        let mut low = start;
        while low > 0 && model[low - 1].is_none() {
            low -= 1;
        }
        let mut high = start + length;
        while high < PAGES && model[high].is_none() {
            high += 1;
        }
        prop_assert_eq!(map.gap_around(bytes(start, length)), bytes(low, high - low));
    }

    #[test]
    fn never_exceeds_its_most(steps in prop::collection::vec(step(), 1..60)) {
        let mut map = Map::new(LIMITS, 4);
        for step in &steps {
            let before = flatten(&map);
            let refused = match *step {
                Step::Insert(start, length, id) => {
                    map.insert(bytes(start, length), Backing { id, offset: 0, mark: 0 }).is_err()
                }
                Step::Remove(start, length) => map.remove(bytes(start, length)).is_err(),
                Step::Update(start, length, mark) => {
                    map.update(bytes(start, length), |backing| backing.mark = mark).is_err()
                }
                Step::Lower(border, to) => {
                    map.lower_border(bytes(border, 1).start, bytes(to, 1).start).is_err()
                }
            };
            prop_assert!(map.len() <= 4);
            if refused {
                prop_assert_eq!(flatten(&map), before);
            }
        }
    }
}

#[test]
fn clipping_moves_the_offset() {
    let mut map = Map::new(LIMITS, 10);
    map.insert(
        bytes(4, 8),
        Backing {
            id: 7,
            offset: 0x10_0000,
            mark: 0,
        },
    )
    .unwrap();
    assert!(map.must_split(bytes(6, 2)));
    let removed = map.remove(bytes(6, 2)).unwrap();
    assert_eq!(
        removed.iter().map(|entry| entry.range()).collect::<Vec<_>>(),
        [bytes(6, 2)]
    );
    assert!(!map.must_split(bytes(6, 2)));
    let lower = map.find(bytes(4, 1).start).unwrap();
    let upper = map.find(bytes(8, 1).start).unwrap();
    assert_eq!((lower.end, lower.payload.offset), (bytes(6, 1).start, 0x10_0000));
    assert_eq!(
        (upper.start, upper.payload.offset),
        (bytes(8, 1).start, 0x10_4000)
    );
    assert_eq!(upper.end, bytes(12, 1).start);
}

#[test]
fn find_gap_respects_its_window() {
    let mut map = Map::new(LIMITS, 10);
    map.insert(
        bytes(0, 10),
        Backing {
            id: 1,
            offset: 0,
            mark: 0,
        },
    )
    .unwrap();
    assert_eq!(map.find_gap(PAGE, bytes(5, 20)), Some(bytes(10, 1).start));
    assert_eq!(map.find_gap(16 * PAGE, bytes(5, 20)), None);
    assert_eq!(map.find_gap(u64::MAX - 4095, LIMITS), None);
    assert_eq!(map.find_gap(PAGE, 0..u64::MAX), Some(bytes(10, 1).start));
}

#[test]
fn a_stack_grows_by_moving_its_border_until_its_reserve_is_gone() {
    let part = |id, offset| Backing { id, offset, mark: 0 };
    let end = |page: usize| bytes(page, 1).start;
    let mut map = Map::new(LIMITS, 3);
    // A guard of one page, a reserve of seven, and two pages that are there.
    let parts = [
        (end(11), part(1, 0)),
        (end(18), part(2, 0)),
        (end(20), part(3, 8 * PAGE)),
    ];
    assert_eq!(map.insert_all(bytes(10, 10), parts.into_iter()), Ok(()));
    assert_eq!(map.room(), 0);
    assert_eq!(map.lower_border(end(18), end(15)), Ok(None));
    assert_eq!(
        flatten(&map)[15..20]
            .iter()
            .flatten()
            .map(|cell| cell.1 / PAGE)
            .collect::<Vec<_>>(),
        [5, 6, 7, 8, 9]
    );
    assert_eq!(map.lower_border(end(18), end(14)), Err(NoBorder), "an old border");
    assert_eq!(
        map.lower_border(end(15), end(10)),
        Err(NoBorder),
        "below the reserve"
    );
    assert_eq!(map.lower_border(end(15), end(11)), Ok(Some(part(2, 0))));
    assert_eq!(map.len(), 2);
    // Now the guard is the lower one: the payload says that there is no more than its page.
    assert_eq!(map.lower_border(end(11), end(10)), Ok(Some(part(1, 0))));
    assert_eq!(
        map.find(end(10)).map(|entry| (entry.end, entry.payload.offset)),
        Some((end(20), 0))
    );
}

#[test]
fn several_entries_are_inserted_together_or_not_at_all() {
    let part = |id| Backing {
        id,
        offset: 0,
        mark: 0,
    };
    let parts = || [(bytes(6, 1).start, part(1)), (bytes(8, 1).start, part(2))].into_iter();
    let mut map = Map::new(LIMITS, 2);
    map.insert(bytes(20, 1), part(9)).unwrap();
    assert_eq!(map.insert_all(bytes(4, 4), parts()), Err(InsertError::Full));
    assert_eq!(map.len(), 1);
    let mut map = Map::new(LIMITS, 4);
    map.insert(bytes(7, 1), part(9)).unwrap();
    assert_eq!(map.insert_all(bytes(4, 4), parts()), Err(InsertError::Overlap));
    assert_eq!(map.len(), 1);
}
