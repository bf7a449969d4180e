//! Sets of tasks with hidden tests: the set of bugs itself, the runner, the figures.

mod bugs;
mod figures;
mod replay;
mod runs;
