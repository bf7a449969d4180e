//! Patchwright: a self-hosted coding agent. An instruction and a repository go in; a tested diff or pull request
//! comes out.
//!
//! The way of one task, and the modules in reading order:
//!
//! ```text
//! intake -> checkout -> baseline -> solve (agent <-> verify) -> commit -> push -> pull request -> report
//! ```
//!
//! [`pipeline::run_task`] is that line as code. It is built from the seams [`forge`], [`model`], [`sandbox`] and
//! [`workspace`], which do not know each other, and from the pure modules [`task`], [`outcome`], [`event`], [`policy`] and
//! [`secrets`]. [`folders`] walks what others have filled, [`pattern`] holds regular expressions that
//! cost little, [`tls`] is how our clients trust a server.
//! `docs/ARCHITECTURE.md` is the map.

pub mod agent;
pub mod config;
pub mod eval;
pub mod event;
pub mod folders;
pub mod forge;
pub mod health;
pub mod logging;
pub mod model;
pub mod operator;
pub mod outcome;
pub mod pattern;
pub mod pipeline;
pub mod policy;
pub mod progress;
pub mod replay;
pub mod sandbox;
pub mod secrets;
pub mod service;
pub mod store;
pub mod task;
pub mod tls;
pub mod weak;
pub mod workspace;
