//! The service: its rules as tables, and the real binary against the lab's GitHub and model server.

mod config;
mod control;
mod credentials;
mod http;
mod intake;
mod limits;
mod orders;
mod outage;
mod policy;
mod several;
mod strangers;
mod switches;
mod trust;
mod world;
