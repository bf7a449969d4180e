//! The spine.
pub mod verify;
