//! The agent: reading of text calls, each tool, and the loop, with a scripted model and real files.

mod digest;
mod edits;
mod fences;
mod foreign;
mod harness;
mod loops;
mod protocol;
mod repair;
mod review;
mod shown;
mod stuck;
mod syntax;
mod tools;
mod trial;
mod whole_file;
mod window;
