//! What a task is worked with, put together from the operator's config; for the service and for a single run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rand::Rng;
use tokio::sync::Mutex;

use super::{metrics, policy};
use crate::config::RepositoryArgument;
use crate::config::eval::Common;
use crate::config::file::RepositorySection;
use crate::config::model::ModelConfig;
use crate::config::serve::QueueConfig;
use crate::event::Events;
use crate::forge::Forge;
use crate::model::{Endpoints, Model, ModelCard, ModelError, ProbeMode, Reply, Request};
use crate::outcome::TestCommand;
use crate::pipeline::{self, Delivery, Order, PatchMode, Services};
use crate::sandbox::Backend;
use crate::task::{RepositoryName, Task};
use crate::workspace::{Remote, Workspace};

/// What is down is asked for again after at least, and at most, so long.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(1);
const LONGEST_OUTAGE: Duration = Duration::from_secs(300);

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

/// What the config says of setting a repository up.
pub fn setup_of(section: Option<&RepositorySection>) -> pipeline::setup::Wishes {
    let Some(section) = section else { return pipeline::setup::Wishes::default() };
    let operator = pipeline::setup::recipe::Operator { setup: section.setup.clone(), image: section.image.clone() };
    let (repository_commands, repository) = (section.repository_commands, section.repository);
    pipeline::setup::Wishes { operator, repository_commands, repository }
}

/// Whether a model is asked for this task at all.
pub fn needs_model(task: &Task, patch_mode: PatchMode) -> bool {
    task.patches.is_empty() || patch_mode == PatchMode::ThenModel
}

/// Finds the model that the config means, and probes it by `mode`. Besides it, lines for the user.
pub async fn connect_model(config: &ModelConfig, mode: ProbeMode) -> Result<(Endpoints, Vec<String>), ModelError> {
    Endpoints::connect(config.endpoints.clone(), mode).await
}

/// What a set of tasks is worked with, or a record played: workspace and sandbox as configured, and this model.
pub async fn services(common: &Common, model: Arc<dyn Model>, events: Events) -> anyhow::Result<Services> {
    let workspace = Workspace::new(common.workspace.clone())?;
    let forge = Forge::new(&common.forge)?;
    let (backend, ()) = tokio::join!(Backend::probe(&common.sandbox), workspace.warm_up());
    let backend = Arc::new(backend?);
    let containers = backend.sweep().await.unwrap_or_else(|error| {
        events.note(format!("leftovers of earlier runs could not be removed: {error}"));
        0
    });
    let swept = workspace.sweep() + containers;
    if swept > 0 {
        events.note(format!("removed {swept} leftovers of runs that were killed"));
    }
    let (dispatch, settings) = (forge.clone(), common.pipeline.clone());
    Ok(Services { workspace, backend, model: Some(model), forge, dispatch, events, settings })
}

/// An order for a diff of `target`, from the operator's config.
pub async fn order_for_diff(
    common: &Common,
    services: &Services,
    target: &RepositoryArgument,
    task: Task,
    base: Option<String>,
) -> anyhow::Result<Order> {
    let (remote, repository) = match target {
        RepositoryArgument::Local(folder) => (Remote::Local(folder.clone()), None),
        RepositoryArgument::Url(url) => (Remote::Url { url: url.clone(), token: None }, None),
        RepositoryArgument::Forge(name) => {
            let forge = services.forge.for_reading(name).await?;
            let token = forge.git_token().await?;
            (Remote::Url { url: forge.clone_url(name), token }, Some(name.clone()))
        }
    };
    let section = section_of(&common.repositories, repository.as_ref());
    let started = Instant::now();
    Ok(Order {
        task,
        remote,
        test_command: test_command_of(section),
        setup: setup_of(section),
        access: common.network.access(section)?,
        repository,
        base,
        delivery: Delivery::Diff,
        started,
        deadline: started + services.settings.limits.task,
        claim: None,
        again_after: None,
    })
}

/// Why a task is not begun.
pub(super) enum NotBegun {
    /// What it needs is down: it waits, and no attempt is used.
    Waits { reason: String, after: Duration },
    /// It failed before its first stage.
    Failed(anyhow::Error),
}

impl From<(String, Duration)> for NotBegun {
    fn from((reason, after): (String, Duration)) -> Self {
        Self::Waits { reason, after }
    }
}

/// Something that is missed, and is asked for again after a pause: the operator's delay, doubled each time.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// How often it was missed in a row.
    missed: u32,
    reason: String,
    asked_again: Option<Instant>,
}

impl Outage {
    /// Why, and for how long, it is not to be asked for.
    pub(super) fn holds(&self) -> Option<(String, Duration)> {
        let after = self.asked_again?.saturating_duration_since(Instant::now());
        (!after.is_zero()).then(|| (self.reason.clone(), after))
    }

    /// It is missed, once more: why, and how long it is not to be asked for.
    pub(super) fn miss(&mut self, queue: &QueueConfig, reason: String) -> (String, Duration) {
        self.missed = self.missed.saturating_add(1);
        let pause = policy::retry_delay(queue, self.missed, rand::rng().random());
        let after = pause.clamp(SHORTEST_OUTAGE, LONGEST_OUTAGE);
        self.asked_again = Some(Instant::now() + after);
        self.reason.clone_from(&reason);
        (reason, after)
    }

    /// It is there.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

/// The model of a service: connected when it is first needed, and again after it was lost.
pub(super) struct ModelLink {
    config: ModelConfig,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    model: Option<Arc<dyn Model>>,
    outage: Outage,
}

impl ModelLink {
    pub(super) fn new(config: ModelConfig) -> Self {
        Self { config, current: Mutex::default() }
    }

    /// The operator named an endpoint, so that it is missed where it does not answer.
    pub(super) fn is_configured(&self) -> bool {
        self.config.is_named()
    }

    /// The model, connected now if need be. Where the operator's own does not answer, tasks wait for it, and one of them
    /// asks for all. What no waiting mends (the key, the model's name) is met and reported by the task itself.
    pub(super) async fn get(&self, queue: &QueueConfig) -> Result<Arc<dyn Model>, NotBegun> {
        let mut current = self.current.lock().await;
        if let Some(model) = current.model.as_ref() {
            return Ok(model.clone());
        }
        if let Some(waits) = current.outage.holds() {
            return Err(waits.into());
        }
        let error = match connect_model(&self.config, self.config.probe).await {
            Ok((model, notes)) => {
                for note in notes {
                    tracing::info!("{note}");
                }
                let model: Arc<dyn Model> = Arc::new(Watched(model));
                current.outage.end();
                current.model = Some(model.clone());
                return Ok(model);
            }
            Err(error) => error,
        };
        metrics::model_failed();
        let is_transient = error.is_transient();
        match (is_transient, self.is_configured()) {
            (true, true) => Err(current.outage.miss(queue, format!("{error}. {}", error.remedy())).into()),
            (true, false) => Err(NotBegun::Failed(error.into())),
            (false, _) => Ok(Arc::new(Absent::new(error))),
        }
    }

    /// The next task connects anew: the server may have changed its model or its window.
    pub(super) async fn forget(&self) {
        self.current.lock().await.model = None;
    }

    /// Whether the model's server answers now.
    pub(super) async fn check(&self) -> Result<(), ModelError> {
        connect_model(&self.config, ProbeMode::Off).await.map(drop)
    }
}

/// A model whose failures are counted.
struct Watched(Endpoints);

#[async_trait]
impl Model for Watched {
    fn card(&self) -> &ModelCard {
        self.0.card()
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        self.0.complete(request).await.inspect_err(|_| metrics::model_failed())
    }
}

/// A model that cannot be had, so that a task that needs it ends with the reason.
struct Absent {
    error: Mutex<Option<ModelError>>,
    card: ModelCard,
}

impl Absent {
    fn new(error: ModelError) -> Self {
        Self { error: Mutex::new(Some(error)), card: ModelCard::named("none") }
    }
}

#[async_trait]
impl Model for Absent {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, _: &Request<'_>) -> Result<Reply, ModelError> {
        let gone = || ModelError::Unreachable { endpoint: "the model's address".into(), reason: "see above".into() };
        Err(self.error.lock().await.take().unwrap_or_else(gone))
    }
}
