//! The sandboxes' backends: one for the operator's usual image, and one for each other image that the config names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::sandbox::{Backend, SandboxError, Settings};

/// Backends by image; each is probed before it is first used.
pub(super) struct Boxes {
    settings: Settings,
    usual: Arc<Backend>,
    others: Mutex<BTreeMap<String, Arc<Backend>>>,
}

impl Boxes {
    /// Finds the usual backend; without one there is no service.
    pub(super) async fn probe(settings: &Settings) -> Result<Self, SandboxError> {
        let usual = Arc::new(Backend::probe(settings).await?);
        Ok(Self { settings: settings.clone(), usual, others: Mutex::new(BTreeMap::new()) })
    }

    /// The backend for a repository's own image; `None`: the usual one.
    pub(super) async fn get(&self, image: Option<&str>) -> Result<Arc<Backend>, SandboxError> {
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
        Backend::probe(&self.settings).await.map(drop)
    }

    /// Removes what processes that were killed left behind.
    pub(super) async fn sweep(&self) -> usize {
        self.usual.sweep().await.unwrap_or_else(|error| {
            tracing::warn!("leftovers of earlier runs could not be removed: {error}");
            0
        })
    }

    /// Ends all boxes that are still open.
    pub(super) async fn close_all(&self, limit: Duration) {
        self.usual.close_all(limit).await;
        for backend in self.others.lock().await.values() {
            backend.close_all(limit).await;
        }
    }
}
