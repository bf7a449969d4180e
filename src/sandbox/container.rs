//! Docker and Podman.
use std::path::Path;
use std::time::Duration;
use super::{Sandbox, SandboxError, Settings};
pub struct Engine;
impl Engine {
    pub async fn probe(_settings: &Settings) -> Result<Self, SandboxError> { Err(SandboxError::Unavailable { reason: "wip".into(), remedy: "wip".into() }) }
    pub async fn open(&self, _tree: &Path) -> Result<Box<dyn Sandbox>, SandboxError> { Err(SandboxError::Broken("wip".into())) }
    pub async fn sweep(&self) -> Result<usize, SandboxError> { Ok(0) }
    pub async fn close_all(&self, _limit: Duration) {}
}
