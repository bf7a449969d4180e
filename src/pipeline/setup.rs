//! Setup: what makes the tests of a repository able to run, before anything else runs.

pub mod recipe;
