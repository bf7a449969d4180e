//! The spine with a journal: real git, the lab, a real store. What is told to the outside is told once, wherever a run is
//! cut off, and a claim that is lost does nothing any more.

mod attempts;
mod guarded;
mod interrupted;
mod place;
mod reports;
mod setup;
mod transience;
