//! The workspace on real folders and real git repositories.

mod checkout;
mod evict;
mod files;
mod hostile;
mod http;
mod inside;
mod local;
mod patch;
mod prepared;
mod publish;
mod snapshot;
mod support;
