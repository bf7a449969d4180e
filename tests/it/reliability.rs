//! What must hold whatever crashes, gets lost, or comes twice: the real service against the lab.
//!
//! Each test here asks the same questions at the end: is nothing lost, nothing doubled, nothing left behind?

mod chaos;
mod crash;
mod station;
