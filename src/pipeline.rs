//! The spine: one task, from its order to its outcome.

mod baseline;
mod checkout;
mod effect;
mod evidence;
mod guard;
pub mod intake;
mod judge;
mod publish;
mod recorded;
mod report;
mod resume;
pub mod setup;
mod solve;
mod status;
mod transient;
pub mod verify;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

pub use crate::agent::{ProfileChoice, ProtocolChoice};
pub use guard::{Guard, GuardError};
pub use intake::refused;
pub use judge::Judge;
pub use recorded::shaping;
pub use report::{cancelled, failed_early, waiting};
pub use transient::{StageTookTooLong, is_unauthorized, limit_of, transience};

use resume::Memory;
use solve::Solution;
use status::Status;
use transient::is_denied;

use crate::agent::AgentError;
use crate::event::{Event, Events};
use crate::forge::{Forge, ForgeError};
use crate::model::{Model, ModelError};
use crate::outcome::{Conclusion, CostLimit, Outcome, Stage, TestCommand};
use crate::sandbox::Backend;
use crate::sandbox::egress::Access;
use crate::store::{Claim, Entry, StoreError};
use crate::task::{RepositoryName, Task};
use crate::workspace::{Author, Checkout, PatchError, PushError, Remote, Workspace, WorkspaceError};

/// Agents at one task at once.
const MOST_ATTEMPTS: u32 = 16;

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
    pub setup: setup::Wishes,
    /// What its boxes may reach.
    pub access: Access,
    /// When the task was taken; its time counts from here.
    pub started: Instant,
    pub deadline: Instant,
    /// The right to work a task of the queue, and its journal; `None`: from the command line, unjournalled.
    pub claim: Option<Claim>,
    /// A transient failure of this attempt is tried again so long after, and is not reported as the task's end;
    /// `None`: this attempt is the last.
    pub again_after: Option<Duration>,
}

impl Order {
    /// Whether anybody outside hears of it.
    fn is_published(&self) -> bool {
        matches!(self.delivery, Delivery::PullRequest(_))
    }
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

/// How a run of a task ended.
#[derive(Debug)]
pub enum Ending {
    /// With an outcome, and the issue was told as far as it is to be.
    Reported(Outcome),
    /// With an outcome that the issue is yet to be told: the reason may pass. The journal holds the outcome, so another
    /// claim only reports.
    Unreported { outcome: Outcome, reason: String, after: Duration },
    /// With a transient failure, and attempts are left: no end was reported. To be tried again after so long, which is
    /// at least what a limit asked for.
    Again { outcome: Outcome, after: Duration },
    /// The forge refuses our credentials: the task goes on where it stands when they are good again. Only with a claim.
    Unauthorized,
    /// The forge wants to be left alone for so long: as above.
    Limited { reason: String, after: Duration },
    /// The journal refused: the lease is lost, or the store broke. Nothing was done outside since.
    Stopped(StoreError),
}

/// What the spine is built from. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub workspace: Workspace,
    pub backend: Arc<Backend>,
    /// `None` where no model is needed: in patch mode.
    pub model: Option<Arc<dyn Model>>,
    /// For the target repository.
    pub forge: Forge,
    /// For the dispatch repository: with an App, each repository has a token of its own.
    pub dispatch: Forge,
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
    pub setup: setup::Settings,
    pub patch_mode: PatchMode,
    pub publish: Publish,
    /// What a change may hold to be published.
    pub guard: Arc<Guard>,
    /// A folder with prompts that replace the built-in ones.
    pub prompts: Option<PathBuf>,
    /// Default: by the model's size and window.
    pub profile: ProfileChoice,
    /// The longest answer of the model, in tokens.
    pub max_output_tokens: u32,
    /// Default: by the model's size.
    pub protocol: ProtocolChoice,
    pub temperature: Option<f32>,
    /// The only one of several attempts whose verified change ends the others; `None`: each does. For replays.
    pub winner: Option<u32>,
}

/// The budgets of a task.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub task: Duration,
    /// One stage; `None`: only the limits of what it does.
    pub stage: Option<Duration>,
    /// One run of the tests.
    pub tests: Duration,
    /// One command of the model.
    pub command: Duration,
    pub steps: u32,
    pub tokens: u64,
    /// What the tokens may cost; `None`: no limit.
    pub cost: Option<CostLimit>,
    /// How often failing tests go back to the model.
    pub verify_rounds: u32,
    /// How many agents work at the task at once, each in a tree of its own; at least 1.
    pub attempts: u32,
}

impl Limits {
    /// Whether a task can be worked within them.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { task, stage, tests, command, steps, tokens, cost: _, verify_rounds: _, attempts } = *self;
        if !(1..=MOST_ATTEMPTS).contains(&attempts) {
            bail!("limits.attempts is {attempts}; it is from 1 to {MOST_ATTEMPTS}");
        }
        if task.is_zero() || tests.is_zero() || command.is_zero() || steps == 0 || tokens == 0 {
            bail!("a limit is zero; limits are at least 1");
        }
        if stage.is_some_and(|stage| stage <= tests) {
            bail!(
                "limits.stage_seconds must be more than limits.test_seconds ({}), for one stage is a run of the tests",
                tests.as_secs()
            );
        }
        Ok(())
    }
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub struct Publish {
    pub unverified: UnverifiedPolicy,
    /// The comments at the start and at the end; labels are set and refusals told in any case.
    pub comments: bool,
    /// One comment that is edited as the task goes on.
    pub status_comment: bool,
    /// Between two edits of the status comment while one stage goes on.
    pub status_interval: Duration,
    /// The commit status `patchwright/verify` on the pull request's head.
    pub commit_status: bool,
    pub comment_on_failure: bool,
    pub close_issues: bool,
    pub trace_file: bool,
    pub review: ReviewPolicy,
}

/// Whether the model looks at a change whose tests pass, before it is published or printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewPolicy {
    #[default]
    Off,
    /// What it finds stands in the pull request, which a person has to look at then.
    Tell,
    /// It goes back to the agent first, once.
    SendBack,
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

/// Why the work does not go on.
#[derive(Debug)]
enum Halt {
    Failed(Failure),
    /// Not even to be reported.
    Stopped(StoreError),
}

/// On the heap from the start: what a task does is deeper than a worker's stack, most of all in a debug build.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Works one task to its end:
///
/// 1. what the journal says of earlier attempts is read; an outcome that stands there is only reported;
/// 2. a pull request of an earlier run ends the task at once;
/// 3. the repository is checked out, and its tests run on the base;
/// 4. the patches, or the agent with the guard and the tests in a loop, make a change, which the journal keeps;
/// 5. exactly the tested tree is delivered;
/// 6. the outcome is reported on the issue, unless the task is to be tried again.
///
/// A claim that was lost stops it before the next effect on the outside.
pub async fn run_task(services: &Services, order: &Order) -> Ending {
    attempt(services, order).await.unwrap_or_else(Ending::Stopped)
}

fn attempt<'a>(services: &'a Services, order: &'a Order) -> Boxed<'a, Result<Ending, StoreError>> {
    Box::pin(async move {
        let memory = Memory::read(order.claim.as_ref(), &order.task).await?;
        let status = Status::new(services, order, &memory);
        let services = &status.followed(services);
        if let Some(outcome) = memory.concluded {
            return report::finished(services, order, &status, outcome).await;
        }
        let mut outcome = Outcome::new(order.task.id.clone(), order.repository.clone());
        let worked = match order.claim.as_ref().filter(|claim| claim.exhausted) {
            Some(claim) => wind_up(services, order, claim, &memory, &mut outcome).await,
            None => status.beside(work(services, order, &memory, &mut outcome)).await,
        };
        if let Err(Halt::Failed(failure)) = &worked
            && let Some(ending) = failure.without_end(services, order).await
        {
            services.events.note(format!("{:#}", failure.error));
            return Ok(ending);
        }
        let (conclusion, transience) = match worked {
            Ok(conclusion) => (conclusion, None),
            Err(Halt::Failed(failure)) => failure.into_conclusion(),
            Err(Halt::Stopped(error)) => return Err(error),
        };
        outcome.conclusion = conclusion;
        outcome.milliseconds = elapsed_milliseconds(order.started);
        services.events.emit(recorded::ended(&outcome));
        if let (Some(wait), Some(after)) = (transience, order.again_after) {
            return report::again(services, &status, outcome, after.max(wait)).await;
        }
        resume::conclude(order.claim.as_ref(), &outcome).await?;
        report::finished(services, order, &status, outcome).await
    })
}

fn work<'a>(
    services: &'a Services,
    order: &'a Order,
    memory: &'a Memory,
    outcome: &'a mut Outcome,
) -> Boxed<'a, Result<Conclusion, Halt>> {
    Box::pin(async move {
        if let Some(published) = services.stage(order, Stage::Intake, publish::find_or_check(services, order)).await? {
            return Ok(publish::conclude_from(services, memory, published, outcome));
        }
        report::started(services, order, outcome).await?;
        let (mut checkout, solution) = match resume::restore(services, order, memory, outcome).await? {
            Some(restored) => restored,
            None => make(services, order, outcome).await?,
        };
        let Some(candidate) = &solution.candidate else { return Ok(solution.conclusion) };
        match &order.delivery {
            Delivery::Diff => {}
            Delivery::PullRequest(_) if publish::is_withheld(services, &solution.conclusion) => {
                return Ok(publish::withhold(solution.conclusion, outcome));
            }
            Delivery::LocalBranch(name) => {
                let commit = publish::commit(services, order, &checkout, candidate, &solution, outcome);
                let commit = services.stage(order, Stage::Commit, commit).await?;
                let create = publish::create_local_branch(&checkout, commit, name, outcome);
                services.stage(order, Stage::Push, create).await?;
            }
            Delivery::PullRequest(repository) => {
                let commit = publish::commit(services, order, &checkout, candidate, &solution, outcome);
                let commit = services.stage(order, Stage::Commit, commit).await?;
                let push = publish::push(services, order, repository, &mut checkout, commit, outcome);
                let branch = match services.stage(order, Stage::Push, push).await? {
                    publish::Pushed::Branch(branch) => branch,
                    publish::Pushed::Published(other) => {
                        return Ok(publish::conclude_from(services, memory, other, outcome));
                    }
                };
                let open = publish::open(services, order, repository, &checkout, branch, &solution.conclusion, outcome);
                services.stage(order, Stage::PullRequest, open).await?;
            }
        }
        Ok(solution.conclusion)
    })
}

/// How a task ends whose attempts are used up: with the pull request that the last one has opened, if it got so far.
async fn wind_up(
    services: &Services,
    order: &Order,
    claim: &Claim,
    memory: &Memory,
    outcome: &mut Outcome,
) -> Result<Conclusion, Halt> {
    match publish::find(services, order).await {
        Ok(Some(published)) => Ok(publish::conclude_from(services, memory, published, outcome)),
        Err(error) if is_unauthorized(&error) || transience(&error).is_some() => Err(Halt::at(Stage::Report, error)),
        Ok(None) | Err(_) => Ok(resume::exhausted(claim, memory)),
    }
}

/// What an error before the first stage makes of a task; and, if it may pass, after how long at least.
pub fn failed(error: anyhow::Error) -> (Conclusion, Option<Duration>) {
    Failure { stage: Stage::Intake, error }.into_conclusion()
}

/// Makes the change, from the checkout to the tests' verdict on it.
fn make<'a>(
    services: &'a Services,
    order: &'a Order,
    outcome: &'a mut Outcome,
) -> Boxed<'a, Result<(Checkout, Solution), Halt>> {
    Box::pin(async move {
        let checkout = services.stage(order, Stage::Checkout, checkout::prepare(services, order, outcome)).await?;
        services.events.emit(recorded::begun(services, order, outcome));
        let environment =
            services.stage(order, Stage::Setup, setup::prepare(services, order, &checkout, outcome)).await?;
        let baseline = baseline::run(services, order, &checkout, environment, outcome);
        let tests = services.stage(order, Stage::Baseline, baseline).await?;
        let solve = solve::solve(services, order, &checkout, tests, outcome);
        let solution = services.stage(order, Stage::Solve, solve).await?;
        resume::remember(order, &checkout, &solution, outcome).await?;
        Ok((checkout, solution))
    })
}

impl Halt {
    /// What an error in a stage means: only the journal's own stops the task.
    fn at(stage: Stage, error: anyhow::Error) -> Self {
        match error.downcast::<StoreError>() {
            Ok(error) => Self::Stopped(error),
            Err(error) => Self::Failed(Failure { stage, error }),
        }
    }
}

impl Failure {
    /// How a claim's attempt ends that failed by what is no matter of its task: it counts for nothing, and nobody is told.
    async fn without_end(&self, services: &Services, order: &Order) -> Option<Ending> {
        order.claim.as_ref()?;
        if let Some(after) = limit_of(&self.error) {
            return Some(Ending::Limited { reason: format!("{:#}", self.error), after });
        }
        self.is_of_credentials(services, order).await.then_some(Ending::Unauthorized)
    }

    /// Whether our credentials are to blame. Git says no more than that it may not, so the forge is asked then.
    async fn is_of_credentials(&self, services: &Services, order: &Order) -> bool {
        let Some(repository) = order.repository.as_ref().filter(|_| is_denied(&self.error)) else {
            return is_unauthorized(&self.error);
        };
        matches!(services.forge.repository(repository).await, Err(ForgeError::Unauthorized))
    }

    /// Stage and cause, and the remedy where the error knows it apart. And, if it may pass, after how long at least.
    fn into_conclusion(self) -> (Conclusion, Option<Duration>) {
        let remedy = self.error.chain().find_map(|cause| {
            let workspace = cause.downcast_ref::<WorkspaceError>().map(WorkspaceError::remedy);
            let push = || cause.downcast_ref::<PushError>().map(PushError::remedy);
            let patch = || cause.downcast_ref::<PatchError>().map(PatchError::remedy);
            let model = || match cause.downcast_ref::<AgentError>() {
                Some(AgentError::Model(error)) => Some(error.remedy().to_owned()),
                Some(_) | None => cause.downcast_ref::<ModelError>().map(|error| error.remedy().to_owned()),
            };
            let leak = || cause.downcast_ref::<guard::Leak>().map(guard::Leak::remedy);
            workspace.or_else(push).or_else(patch).or_else(model).or_else(leak)
        });
        let transience = transience(&self.error);
        let conclusion = Conclusion::Failed {
            stage: self.stage,
            cause: format!("{:#}", self.error),
            remedy: remedy.unwrap_or_default(),
            transient: transience.is_some(),
        };
        (conclusion, transience)
    }
}

impl Services {
    /// Runs one stage: tells of its begin and end, in the journal too, and puts its name on its error.
    fn stage<'a, T: Send + 'a>(
        &'a self,
        order: &'a Order,
        stage: Stage,
        work: impl Future<Output = anyhow::Result<T>> + Send + 'a,
    ) -> Boxed<'a, Result<T, Halt>> {
        let work: Boxed<'a, anyhow::Result<T>> = Box::pin(work.instrument(crate::logging::stage_span(stage.name())));
        Box::pin(async move {
            let started = Instant::now();
            self.events.emit(Event::StageStarted { stage });
            effect::in_stage(stage);
            // Solving has the time of the whole task, and ends in time by itself.
            let worked = match self.settings.limits.stage.filter(|_| stage != Stage::Solve) {
                Some(limit) => match tokio::time::timeout(limit, work).await {
                    Ok(worked) => worked,
                    Err(_) => Err(StageTookTooLong { seconds: limit.as_secs() }.into()),
                },
                None => work.await,
            };
            let result = worked.map_err(|error| Halt::at(stage, error))?;
            if let Some(claim) = &order.claim {
                claim.write(&Entry::StageDone { stage }).await.map_err(Halt::Stopped)?;
            }
            self.events.emit(Event::StageDone { stage, milliseconds: elapsed_milliseconds(started) });
            Ok(result)
        })
    }
}

fn elapsed_milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
