//! The workspace on real folders and real git repositories.

mod files;
