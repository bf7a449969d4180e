//! The store on real files: the conformance suite, random interleavings against a model, several processes at once.

mod conformance;
mod crash;
mod file;
mod interleaving;
mod operator;
mod support;
