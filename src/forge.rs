//! The forge: GitHub over octocrab.
pub mod render;
