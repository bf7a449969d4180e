//! The service: its rules as tables, and the real binary against the lab's GitHub and model server.

mod config;
mod control;
mod http;
mod intake;
mod orders;
mod outage;
mod policy;
mod strangers;
mod trust;
mod world;
