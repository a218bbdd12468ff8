//! Random programs of all operations in every format, against a naive list of pages and a CPU that caches all it can and sets
//! accessed and dirty bits between any two accesses of ours.

mod check;
mod run;
mod steps;

use super::hardware::FORMATS;
use crate::ADDRESS_END;
use proptest::prelude::*;
use run::Run;
use steps::{Step, program};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn programs_of_all_operations_leave_nothing_stale_and_lose_no_store(
        steps in program(),
        seed in any::<u64>(),
    ) {
        for (format, mmu) in FORMATS {
            let mut run = Run::new(format, mmu, seed);
            for step in &steps {
                run.run(step);
                run.check();
                if run.machine.cpu(|cpu| cpu.random(4)) != 0 {
                    run.touch_everything();
                    run.check();
                }
            }
            run.run(&Step::Remove(0..ADDRESS_END));
            run.check();
            prop_assert_eq!((run.count, run.machine.count()), (0, 1));
        }
    }
}
