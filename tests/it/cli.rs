//! The real binary with input that is bad, large or interrupted: each ends with the documented code, with an error that
//! names cause and remedy, with nothing but results on standard output, and with nothing left behind.

mod doctor;
mod forge;
pub mod harness;
mod input;
mod large;
mod output;
mod signals;
