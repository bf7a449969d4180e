//! The task's repository on disk: a cached mirror, a temporary working tree without git's data, snapshots of it.

mod files;
mod path;
mod scan;

pub use files::{FileError, Files, Kind, Listed, Listing, Walk, Walked};
pub use path::{PathError, RelativePath};
