//! The store on real files and a real PostgreSQL: the conformance suite, random interleavings against a model, several
//! processes at once.

mod conformance;
mod crash;
mod file;
mod interleaving;
mod operator;
mod postgres;
pub mod server;
mod shared;
pub mod support;
