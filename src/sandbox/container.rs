//! Docker and Podman.
pub struct Engine;
