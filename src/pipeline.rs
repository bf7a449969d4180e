//! The spine: one task, from its order to its outcome.

mod baseline;
mod checkout;
mod evidence;
pub mod intake;
mod publish;
mod report;
mod solve;
pub mod verify;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

pub use crate::agent::ProtocolChoice;
pub use report::failed_early;

use crate::agent::AgentError;
use crate::event::{Event, Events};
use crate::forge::Forge;
use crate::model::{Model, ModelError};
use crate::outcome::{Conclusion, Outcome, Stage, TestCommand};
use crate::sandbox::Backend;
use crate::task::{RepositoryName, Task};
use crate::workspace::{Author, PatchError, PushError, Remote, Workspace, WorkspaceError};

/// One task to work, with everything decided that is decided before the first stage.
pub struct Order {
    pub task: Task,
    pub remote: Remote,
    /// The name on the forge, if it is there.
    pub repository: Option<RepositoryName>,
    /// A branch, tag or commit; `None`: the default branch.
    pub base: Option<String>,
    pub delivery: Delivery,
    /// From the operator; `None`: detected.
    pub test_command: Option<TestCommand>,
    /// When the task was taken; its time counts from here.
    pub started: Instant,
    pub deadline: Instant,
}

/// Where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// To standard output, and nowhere else.
    Diff,
    /// Onto a new branch of the local repository.
    LocalBranch(String),
    /// A branch and a pull request on the forge.
    PullRequest(RepositoryName),
}

/// What the spine is built from.
pub struct Services {
    pub workspace: Workspace,
    pub backend: Backend,
    /// `None` where no model is needed: in patch mode.
    pub model: Option<Box<dyn Model>>,
    pub forge: Forge,
    pub events: Events,
    pub settings: Settings,
}

/// The operator's choices that the stages follow.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Named in comments.
    pub agent_name: String,
    pub author: Author,
    pub limits: Limits,
    pub patch_mode: PatchMode,
    pub publish: Publish,
    /// A folder with prompts that replace the built-in ones.
    pub prompts: Option<PathBuf>,
    /// The longest answer of the model, in tokens.
    pub max_output_tokens: u32,
    /// Default: by the model's size.
    pub protocol: ProtocolChoice,
    pub temperature: Option<f32>,
}

/// The budgets of a task.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub task: Duration,
    /// One run of the tests.
    pub tests: Duration,
    /// One command of the model.
    pub command: Duration,
    pub steps: u32,
    pub tokens: u64,
    /// How often failing tests go back to the model.
    pub verify_rounds: u32,
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub struct Publish {
    pub unverified: UnverifiedPolicy,
    pub comments: bool,
    pub comment_on_failure: bool,
    pub close_issues: bool,
    pub trace_file: bool,
}

/// What happens after the patches of an instruction are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchMode {
    /// They are the change.
    #[default]
    Only,
    /// The model goes on from there.
    ThenModel,
}

/// What becomes of a change that is not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnverifiedPolicy {
    /// A draft pull request.
    #[default]
    Draft,
    /// No pull request; the task fails.
    None,
}

/// A stage that failed. Its text holds cause and remedy, and no secret.
#[derive(Debug)]
struct Failure {
    stage: Stage,
    error: anyhow::Error,
}

/// Works one task to its end, which is always an outcome:
///
/// 1. a pull request of an earlier run ends it at once;
/// 2. the repository is checked out, and its tests run on the base;
/// 3. the patches, or the agent with the tests in a loop, make a change;
/// 4. exactly the tested tree is delivered;
/// 5. the outcome is reported on the issue.
pub async fn run_task(services: &Services, order: &Order) -> Outcome {
    let mut outcome = Outcome::new(order.task.id.clone(), order.repository.clone());
    outcome.conclusion = match work(services, order, &mut outcome).await {
        Ok(conclusion) => conclusion,
        Err(failure) => failure.into_conclusion(),
    };
    outcome.milliseconds = elapsed_milliseconds(order.started);
    report::finished(services, order, &mut outcome).await;
    outcome
}

async fn work(services: &Services, order: &Order, outcome: &mut Outcome) -> Result<Conclusion, Failure> {
    if let Some(published) = services.stage(Stage::Intake, publish::find_or_check(services, order)).await? {
        return Ok(publish::conclude_from(services, published, outcome));
    }
    report::started(services, order, outcome).await;
    let checkout = services.stage(Stage::Checkout, checkout::prepare(services, order, outcome)).await?;
    let tests = services.stage(Stage::Baseline, baseline::run(services, order, &checkout, outcome)).await?;
    let solution = services.stage(Stage::Solve, solve::solve(services, order, &checkout, tests, outcome)).await?;
    let Some(candidate) = solution.candidate else { return Ok(solution.conclusion) };
    match &order.delivery {
        Delivery::Diff => {}
        Delivery::PullRequest(_) if publish::is_withheld(services, &solution.conclusion) => {
            return Ok(publish::withhold(solution.conclusion, outcome));
        }
        Delivery::LocalBranch(name) => {
            let commit = publish::commit(services, order, &checkout, &candidate, outcome);
            let commit = services.stage(Stage::Commit, commit).await?;
            services.stage(Stage::Push, publish::create_local_branch(&checkout, commit, name, outcome)).await?;
        }
        Delivery::PullRequest(repository) => {
            let commit = publish::commit(services, order, &checkout, &candidate, outcome);
            let commit = services.stage(Stage::Commit, commit).await?;
            let push = publish::push(services, order, repository, &checkout, commit, outcome);
            let branch = match services.stage(Stage::Push, push).await? {
                publish::Pushed::Branch(branch) => branch,
                publish::Pushed::Published(other) => return Ok(publish::conclude_from(services, other, outcome)),
            };
            let open = publish::open(services, order, repository, &checkout, branch, &solution.conclusion, outcome);
            services.stage(Stage::PullRequest, open).await?;
        }
    }
    Ok(solution.conclusion)
}

impl Failure {
    /// Stage and cause, and the remedy where the error knows it apart.
    fn into_conclusion(self) -> Conclusion {
        let remedy = self.error.chain().find_map(|cause| {
            let workspace = cause.downcast_ref::<WorkspaceError>().map(WorkspaceError::remedy);
            let push = || cause.downcast_ref::<PushError>().map(PushError::remedy);
            let patch = || cause.downcast_ref::<PatchError>().map(PatchError::remedy);
            let model = || match cause.downcast_ref::<AgentError>() {
                Some(AgentError::Model(error)) => Some(error.remedy().to_owned()),
                Some(_) | None => cause.downcast_ref::<ModelError>().map(|error| error.remedy().to_owned()),
            };
            workspace.or_else(push).or_else(patch).or_else(model)
        });
        Conclusion::Failed { stage: self.stage, cause: format!("{:#}", self.error), remedy: remedy.unwrap_or_default() }
    }
}

impl Services {
    /// Runs one stage: tells of its begin and end, and puts its name on its error.
    async fn stage<T>(&self, stage: Stage, work: impl Future<Output = anyhow::Result<T>>) -> Result<T, Failure> {
        let started = Instant::now();
        self.events.emit(Event::StageStarted { stage });
        let result = work.await.map_err(|error| Failure { stage, error })?;
        self.events.emit(Event::StageDone { stage, milliseconds: elapsed_milliseconds(started) });
        Ok(result)
    }
}

fn elapsed_milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
