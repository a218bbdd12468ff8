pub const TESTS: &[crate::test::Test] = &[];
