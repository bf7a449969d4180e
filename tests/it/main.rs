//! The one integration-test binary. `cargo test --test it` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::type_complexity)]

mod agent;
mod cli;
mod config;
mod deploy;
mod eval;
mod folders;
mod forge;
mod lab;
mod logging;
mod model;
mod pipeline;
mod policy;
mod projects;
mod redteam;
mod reliability;
mod render;
mod sandbox;
mod scenarios;
mod secrets;
mod service;
mod setup;
mod store;
mod task;
mod tidy;
mod verify;
mod workspace;
