//! The forge's client against the lab's GitHub, over real HTTP and with faults.

mod apps;
mod manners;
mod network;
pub mod support;
mod watch;
