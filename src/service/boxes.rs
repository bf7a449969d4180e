//! The sandboxes' backends: one for the operator's usual image, and one for each other image that the config names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::assemble::{NotBegun, Outage};
use crate::config::serve::QueueConfig;
use crate::sandbox::{Backend, SandboxError, Settings};

/// Backends by image; each is probed before it is first used.
pub(super) struct Boxes {
    settings: Settings,
    usual: Arc<Backend>,
    others: Mutex<BTreeMap<String, Arc<Backend>>>,
    /// `Some`: a task broke on its sandbox, so that the usual one is tried before it is used again.
    doubt: Mutex<Option<Outage>>,
}

impl Boxes {
    /// Finds the usual backend; without one there is no service.
    pub(super) async fn probe(settings: &Settings) -> Result<Self, SandboxError> {
        let usual = Arc::new(Backend::probe(settings).await?);
        Ok(Self { settings: settings.clone(), usual, others: Mutex::default(), doubt: Mutex::default() })
    }

    /// The backend for a repository's own image; `None`: the usual one. Where the engine is down, tasks wait for it; an
    /// image that cannot be used while the usual one can is the task's own failure.
    pub(super) async fn get(&self, image: Option<&str>, queue: &QueueConfig) -> Result<Arc<Backend>, NotBegun> {
        self.settle_doubt(queue).await?;
        let error = match self.find(image).await {
            Ok(backend) => return Ok(backend),
            Err(error) => error,
        };
        self.doubt().await;
        self.settle_doubt(queue).await?;
        Err(NotBegun::Failed(anyhow::anyhow!("{error}")))
    }

    /// A task broke on its sandbox: whether it is still there is asked before the next one begins.
    pub(super) async fn doubt(&self) {
        self.doubt.lock().await.get_or_insert_default();
    }

    async fn settle_doubt(&self, queue: &QueueConfig) -> Result<(), NotBegun> {
        let mut doubt = self.doubt.lock().await;
        let Some(outage) = doubt.as_mut() else { return Ok(()) };
        if let Some(waits) = outage.holds() {
            return Err(waits.into());
        }
        match self.check().await {
            Ok(()) => *doubt = None,
            Err(error) => return Err(outage.miss(queue, error.to_string()).into()),
        }
        Ok(())
    }

    async fn find(&self, image: Option<&str>) -> Result<Arc<Backend>, SandboxError> {
        let Some(image) = image.filter(|image| self.settings.image.as_deref() != Some(*image)) else {
            return Ok(self.usual.clone());
        };
        let mut others = self.others.lock().await;
        if let Some(backend) = others.get(image) {
            return Ok(backend.clone());
        }
        let settings = Settings { image: Some(image.to_owned()), ..self.settings.clone() };
        let backend = Arc::new(Backend::probe(&settings).await?);
        others.insert(image.to_owned(), backend.clone());
        Ok(backend)
    }

    /// Tries the usual backend again, with a real command.
    pub(super) async fn check(&self) -> Result<(), SandboxError> {
        self.usual.check().await
    }

    /// Removes what processes that were killed left behind.
    pub(super) async fn sweep(&self) -> usize {
        self.usual.sweep().await.unwrap_or_else(|error| {
            tracing::warn!("leftovers of earlier runs could not be removed: {error}");
            0
        })
    }

    /// The usual backend, as it is.
    pub(super) fn usual(&self) -> Arc<Backend> {
        self.usual.clone()
    }

    /// Ends all boxes that are still open.
    pub(super) async fn close_all(&self, limit: Duration) {
        self.usual.close_all(limit).await;
        for backend in self.others.lock().await.values() {
            backend.close_all(limit).await;
        }
    }
}
