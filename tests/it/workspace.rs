//! The workspace on real folders and real git repositories.

mod checkout;
mod evict;
mod files;
mod hostile;
mod http;
mod local;
mod patch;
mod prepared;
mod publish;
mod snapshot;
mod support;
