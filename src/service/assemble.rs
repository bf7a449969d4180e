//! What a task is worked with, put together from the operator's config; for the service and for a single run.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::config::ModelConfig;
use crate::config::file::RepositorySection;
use crate::model::{Model, ModelError, Reply, Request, openai};
use crate::outcome::TestCommand;
use crate::pipeline::PatchMode;
use crate::task::{RepositoryName, Task};

/// The config's section on a repository; GitHub compares names without case.
pub fn section_of<'a>(
    sections: &'a BTreeMap<String, RepositorySection>,
    name: Option<&RepositoryName>,
) -> Option<&'a RepositorySection> {
    sections.get(&name?.to_string().to_ascii_lowercase())
}

/// The test command that the config gives for a repository.
pub fn test_command_of(section: Option<&RepositorySection>) -> Option<TestCommand> {
    let command = section?.test_command.clone()?;
    Some(TestCommand { command, reason: "set in the operator's config".into() })
}

/// Whether a model is asked for this task at all.
pub fn needs_model(task: &Task, patch_mode: PatchMode) -> bool {
    task.patches.is_empty() || patch_mode == PatchMode::ThenModel
}

/// Finds the model that the config means. Besides it, lines for the user.
pub async fn connect_model(config: &ModelConfig) -> Result<(openai::OpenAi, Vec<String>), ModelError> {
    let settings = openai::Settings {
        endpoint: config.endpoint.clone(),
        key: config.key.clone(),
        model: config.name.clone(),
        window: config.context_window,
        silence_timeout: config.silence,
        ..openai::Settings::default()
    };
    openai::connect(&settings).await
}

/// The model of a service: connected when it is first needed, and again after it was lost.
pub(super) struct ModelLink {
    config: ModelConfig,
    current: Mutex<Option<Arc<dyn Model>>>,
}

impl ModelLink {
    pub(super) fn new(config: ModelConfig) -> Self {
        Self { config, current: Mutex::new(None) }
    }

    /// The operator named an endpoint, so that it is missed where it does not answer.
    pub(super) fn is_configured(&self) -> bool {
        self.config.endpoint.is_some()
    }

    /// The model, connected now if need be.
    pub(super) async fn get(&self) -> Result<Arc<dyn Model>, ModelError> {
        let mut current = self.current.lock().await;
        if let Some(model) = current.as_ref() {
            return Ok(model.clone());
        }
        let (model, notes) = connect_model(&self.config).await?;
        for note in notes {
            tracing::info!("{note}");
        }
        let model: Arc<dyn Model> = Arc::new(model);
        *current = Some(model.clone());
        Ok(model)
    }

    /// The next task connects anew: the server may have changed its model or its window.
    pub(super) async fn forget(&self) {
        *self.current.lock().await = None;
    }

    /// Whether the model's server answers now.
    pub(super) async fn check(&self) -> Result<(), ModelError> {
        connect_model(&self.config).await.map(drop)
    }
}

/// A model that does not answer, so that a task's last attempt ends with the reason.
pub(super) struct Absent(Mutex<Option<ModelError>>);

impl Absent {
    pub(super) fn new(error: ModelError) -> Self {
        Self(Mutex::new(Some(error)))
    }
}

#[async_trait]
impl Model for Absent {
    fn name(&self) -> &str {
        "none"
    }

    async fn complete(&self, _: &Request<'_>) -> Result<Reply, ModelError> {
        let gone = || ModelError::Unreachable { endpoint: "the model's address".into(), reason: "see above".into() };
        Err(self.0.lock().await.take().unwrap_or_else(gone))
    }
}
