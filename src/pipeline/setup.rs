//! Setup: what the tests of a repository need is made ready, before anything is changed.
//!
//! The commands come from the operator, from the base commit, or from what its lock files show ([`recipe`]). They run in
//! a box of their own, once: what they leave beside the tracked files is frozen, kept for later tasks with the same
//! recipe and the same lock files, and shown to every later box of the task.

pub mod recipe;
pub mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Order, Services, elapsed_milliseconds, evidence, verify};
use crate::event::Event;
use crate::outcome::{ChangedFile, Outcome, Setup, SetupStep, StepEnding};
use crate::sandbox::egress::{Passage, Phase};
use crate::sandbox::{Command, Ending, Home, Output, Sandbox, Surroundings, WORKSPACE};
use crate::workspace::{Artefacts, Checkout, Files, Found, Hold, Inside, Layer, Preparation, Prepared, StandIn};
use recipe::{Origin, Recipe, RecipeError, RepositoryCommands, Step};
use repository::ShowRepository;

/// Part of each key: another version of it makes everything anew.
const KEY_VERSION: u32 = 1;
/// Files or hosts that a note names.
const MOST_NAMED: usize = 10;

/// The operator's choices.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether anything is set up at all.
    pub enabled: bool,
    /// Of repositories that the config says nothing else of.
    pub repository_commands: RepositoryCommands,
    /// All commands together.
    pub limit: Duration,
    /// What is kept for later tasks.
    pub keep_bytes: u64,
    /// As `repository_commands`.
    pub repository: ShowRepository,
}

/// What the operator says of one repository.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub operator: recipe::Operator,
    /// `None`: as for all.
    pub repository_commands: Option<RepositoryCommands>,
    /// As above.
    pub repository: Option<ShowRepository>,
}

/// What boxes show besides a tree: what the setup has made, and what the tests made on the base. Nobody writes to it.
#[derive(Debug, Default)]
pub(super) struct Environment {
    prepared: Option<Prepared>,
    /// The youngest first.
    layers: Vec<Layer>,
    variables: BTreeMap<String, String>,
    prelude: String,
    repository: Option<StandIn>,
    /// Open for the agent and the tests, where the operator lets them out.
    passage: Option<Passage>,
    /// Files of the base that what was set up depends on.
    inputs: BTreeSet<String>,
}

impl Environment {
    /// A box around `tree` in this environment. `hold` keeps the tree as long as the box lives.
    pub(super) fn around(&self, tree: &Path, hold: Hold) -> Surroundings {
        let layers = self.layers.iter().map(|layer| layer.path().to_owned());
        Surroundings {
            layers: layers.chain(self.prepared.iter().map(Prepared::layer_path)).collect(),
            home: self.prepared.as_ref().map_or(Home::Empty, |prepared| Home::Frozen(prepared.home_path())),
            repository: self.repository_path(),
            environment: self.variables.clone(),
            prelude: self.prelude.clone(),
            network: Passage::network_of(self.passage.as_ref()),
            hold: Some(hold),
            ..Surroundings::of(tree)
        }
    }

    fn repository_path(&self) -> Option<PathBuf> {
        self.repository.as_ref().map(|repository| repository.path().to_owned())
    }

    /// What is in it and never part of a change, unless the agent wrote it through the host.
    pub(super) fn artefacts(&self) -> Artefacts {
        let prepared = self.prepared.iter().map(Prepared::artefacts);
        let all = self.layers.iter().map(Layer::artefacts).chain(prepared);
        all.fold(Artefacts::default(), Artefacts::and)
    }

    /// Whether it depends on files of the base.
    pub(super) fn has_inputs(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// What a change does to the files that the setup depends on, in words: the tests did not see it.
    pub(super) fn outdated(&self, changed: &[ChangedFile]) -> Option<String> {
        let names: Vec<&str> =
            changed.iter().map(|file| file.path.as_str()).filter(|path| self.inputs.contains(*path)).collect();
        let more = names.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = names.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| {
            format!(
                "the tests ran on what the setup has made of the base, and the change touches what that depends on: \
                 {named}{more}"
            )
        })
    }

    /// Shuts the way out of the boxes, where there is one. What was refused, in words.
    pub(super) async fn close(&mut self) -> Vec<String> {
        let Some(passage) = self.passage.take() else { return Vec::new() };
        let refused = passage.close().await;
        refused.iter().take(MOST_NAMED).map(|host| format!("not reached: {host}")).collect()
    }

    /// Freezes what a run has made, if anything: boxes that are opened from here on show it.
    pub(super) fn add(&mut self, layer: Layer) {
        if !layer.artefacts().is_empty() {
            self.layers.insert(0, layer);
        }
    }
}

/// Makes the environment ready, or finds it ready. What the agent and the tests may reach is open from here on.
pub(super) async fn prepare(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    outcome: &mut Outcome,
) -> anyhow::Result<Environment> {
    let passage = order.access.open(Phase::Agent, &services.backend, &services.events)?;
    let mut environment = Environment { passage, ..Environment::default() };
    let started = Instant::now();
    let found = look(services, order, checkout.files().clone()).await?;
    if let Some(reason) = found.repository {
        environment.repository = stand_in(services, checkout, &reason, outcome).await;
    }
    let Some(recipe) = found.recipe else { return Ok(environment) };
    let mut setup = Setup {
        origin: recipe.origin.describe().to_owned(),
        steps: Vec::new(),
        reused: false,
        refused: Vec::new(),
        notes: notes(&recipe),
        milliseconds: 0,
    };
    environment.variables = recipe.environment.clone();
    environment.prelude = prelude(&recipe);
    if !recipe.steps.is_empty() {
        let key = key(services, order, checkout, &recipe, environment.repository.as_ref()).await?;
        // Who waits for another one's setup leaves as much time for the rest.
        let wait = order.deadline.saturating_duration_since(Instant::now()) / 2;
        let prepared = match checkout.prepared(&key, services.settings.setup.limit.min(wait)).await? {
            Found::Prepared(prepared) => {
                // In another version's words it says nothing.
                setup = serde_json::from_str(prepared.note()).unwrap_or(setup);
                setup.reused = true;
                Ok(prepared)
            }
            Found::Nothing(preparation) => {
                make(services, order, &recipe, preparation, environment.repository_path(), &mut setup).await
            }
            Found::Failed { reason, left } => {
                let seconds = left.as_secs() + 1;
                Err(anyhow!("a moment ago (it is not tried again before {seconds} s are over), {reason}"))
            }
        };
        setup.milliseconds = elapsed_milliseconds(started);
        outcome.setup = Some(setup.clone());
        environment.prepared = Some(prepared?);
        environment.inputs.clone_from(&recipe.inputs);
    }
    setup.milliseconds = elapsed_milliseconds(started);
    services.events.note(in_one_line(&setup));
    outcome.setup = Some(setup);
    Ok(environment)
}

/// What a look at the base tells.
struct Looked {
    recipe: Option<Recipe>,
    /// Why boxes show a repository; `None`: they show none.
    repository: Option<String>,
}

async fn look(services: &Services, order: &Order, files: Files) -> anyhow::Result<Looked> {
    let (wishes, settings) = (order.setup.clone(), &services.settings.setup);
    let commands = wishes.repository_commands.unwrap_or(settings.repository_commands);
    let show = wishes.repository.unwrap_or(settings.repository);
    let always = (show == ShowRepository::Always).then(|| "the operator wants one".to_owned());
    if !settings.enabled && show != ShowRepository::Auto {
        return Ok(Looked { recipe: None, repository: always });
    }
    let enabled = settings.enabled;
    let found = evidence::look_at(files, move |listing: &verify::Listing<'_>| {
        let recipe = if enabled { recipe::find(listing, &wishes.operator, commands)? } else { None };
        let repository = if show == ShowRepository::Auto { repository::wanted(listing) } else { always };
        Ok::<Looked, RecipeError>(Looked { recipe, repository })
    });
    Ok(found.await??)
}

/// Makes the repository that boxes show. What stands in its way is told, and the task goes on without.
async fn stand_in(services: &Services, checkout: &Checkout, reason: &str, outcome: &mut Outcome) -> Option<StandIn> {
    let missing = match checkout.stand_in().await {
        Ok(Inside::Made(made)) => {
            let tags = match made.tags() {
                [] => "without a tag".to_owned(),
                tags => format!("with the tags {}", tags.join(", ")),
            };
            let shown = format!("a repository of the base as one commit, {tags}; {reason}");
            services.events.note(format!("the sandbox shows {shown}"));
            outcome.shown_repository = Some(shown);
            return Some(made);
        }
        Ok(Inside::NoCommit) => return None,
        Ok(Inside::TooLarge) => "the tree is too large for one".to_owned(),
        Err(error) => error.to_string(),
    };
    let note = format!("the sandbox shows no repository, though {reason}: {missing}");
    services.events.note(note.clone());
    outcome.notes.push(note);
    None
}

/// Runs the recipe in a box of its own and freezes what it has made. What was made in part is of use for this task alone.
async fn make(
    services: &Services,
    order: &Order,
    recipe: &Recipe,
    preparation: Preparation,
    repository: Option<PathBuf>,
    setup: &mut Setup,
) -> anyhow::Result<Prepared> {
    let passage = order.access.open(Phase::Setup, &services.backend, &services.events)?;
    let surroundings = Surroundings {
        home: Home::Kept(preparation.home_path()),
        environment: recipe.environment.clone(),
        prelude: prelude(recipe),
        network: Passage::network_of(passage.as_ref()),
        repository,
        hold: Some(preparation.hold()),
        ..Surroundings::of(&preparation.tree_path())
    };
    // Without a way out, what is made may rest on caches that are not ours to keep.
    let leans = passage.is_none() && services.backend.shows_caches();
    let began = Instant::now();
    let sandbox = services.backend.open(&surroundings).await?;
    let ran = run(services, order, recipe, sandbox.as_ref(), setup).await;
    sandbox.close().await?;
    if let Some(passage) = passage {
        setup.refused = passage.close().await.iter().map(ToString::to_string).collect();
    }
    if let Ran::Failed(reason) = ran? {
        // Whoever comes meanwhile would spend the same time for the same answer.
        preparation.give_up(reason.clone(), began.elapsed());
        bail!(reason);
    }
    let note = serde_json::to_string(setup)?;
    let prepared = preparation.finish(note, leans || !setup.is_whole()).await?;
    let (workspace, bytes) = (services.workspace.clone(), services.settings.setup.keep_bytes);
    tokio::task::spawn_blocking(move || workspace.limit_prepared(bytes)).await?;
    Ok(prepared)
}

/// How the steps went.
enum Ran {
    Through,
    /// One that is required failed, for this reason.
    Failed(String),
}

/// Runs the steps in order. One that is required and fails ends the task; another one is told of.
async fn run(
    services: &Services,
    order: &Order,
    recipe: &Recipe,
    sandbox: &dyn Sandbox,
    setup: &mut Setup,
) -> anyhow::Result<Ran> {
    let deadline = order.deadline.min(Instant::now() + services.settings.setup.limit);
    for step in &recipe.steps {
        let left = deadline.saturating_duration_since(Instant::now());
        let ran = match left.is_zero() {
            true => SetupStep {
                name: step.name.clone(),
                ending: StepEnding::TimedOut,
                milliseconds: 0,
                excerpt: String::new(),
            },
            false => report(step, &sandbox.run(&command(step, left)).await?),
        };
        services.events.emit(Event::SetupStep { step: ran.clone() });
        let failed = !matches!(ran.ending, StepEnding::Done | StepEnding::Left);
        if failed && step.required {
            let (name, origin, ending) = (&ran.name, &setup.origin, ran.ending.describe());
            let reason = format!("the setup step `{name}` ({origin}) {ending}. It printed:\n{}", ran.excerpt);
            return Ok(Ran::Failed(reason));
        }
        setup.steps.push(ran);
    }
    Ok(Ran::Through)
}

fn command(step: &Step, timeout: Duration) -> Command {
    let mut environment = step.environment.clone();
    environment.insert("CI".into(), "true".into());
    Command { line: step.line.clone(), directory: PathBuf::from(&step.directory), environment, timeout }
}

fn report(step: &Step, output: &Output) -> SetupStep {
    let ending = match output.ending {
        Ending::Exited(0) => StepEnding::Done,
        Ending::Exited(recipe::PROGRAM_IS_MISSING) if !step.required => StepEnding::Left,
        Ending::Exited(exit_code) => StepEnding::Failed { exit_code },
        Ending::Signalled(signal) => StepEnding::Killed { signal },
        Ending::TimedOut => StepEnding::TimedOut,
        Ending::OutOfMemory => StepEnding::OutOfMemory,
        Ending::OutOfDisk => StepEnding::OutOfDisk,
    };
    let excerpt = match ending {
        StepEnding::Done | StepEnding::Left => String::new(),
        StepEnding::Failed { .. }
        | StepEnding::Killed { .. }
        | StepEnding::TimedOut
        | StepEnding::OutOfMemory
        | StepEnding::OutOfDisk => verify::excerpt(&output.head, &output.tail, output.omitted_bytes),
    };
    let milliseconds = u64::try_from(output.duration.as_millis()).unwrap_or(u64::MAX);
    SetupStep { name: step.name.clone(), ending, milliseconds, excerpt }
}

/// What a later task must have in common to be shown the same: the recipe, the contents of its inputs, where it runs, the
/// tags that it saw, and the branch, so that nobody who may write to one branch prepares what the tests of another one see.
async fn key(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    recipe: &Recipe,
    repository: Option<&StandIn>,
) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Key<'a> {
        version: u32,
        program: &'a str,
        remote: String,
        base: Base,
        backend: String,
        recipe: &'a Recipe,
        inputs: BTreeMap<String, String>,
        tags: Option<&'a [String]>,
    }
    #[derive(Serialize)]
    enum Base {
        Branch(String),
        Commit(Option<String>),
    }
    let inputs = checkout.base_entries(recipe.inputs.iter().cloned().collect()).await?;
    let base = match (checkout.base_branch(), checkout.base_commit()) {
        (Some(branch), _) => Base::Branch(branch.to_owned()),
        (None, commit) => Base::Commit(commit.map(|commit| commit.to_string())),
    };
    let key = Key {
        version: KEY_VERSION,
        program: env!("CARGO_PKG_VERSION"),
        remote: order.remote.to_string(),
        base,
        backend: services.backend.fingerprint().await,
        recipe,
        inputs,
        tags: repository.map(StandIn::tags),
    };
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(&key)?)))
}

/// The folders of programs that the recipe installs stand before all others.
fn prelude(recipe: &Recipe) -> String {
    recipe::with_paths(recipe, WORKSPACE, "")
}

fn notes(recipe: &Recipe) -> Vec<String> {
    let wanted = recipe.image.as_ref().filter(|image| image.wanted_by != Origin::Operator);
    let image = wanted
        .map(|image| format!("the image {} was asked for and not used; an operator can set it as `image`", image.name));
    recipe.notes.iter().cloned().chain(image).collect()
}

fn in_one_line(setup: &Setup) -> String {
    let done = setup.steps.iter().filter(|step| step.ending == StepEnding::Done).count();
    match (setup.reused, setup.steps.len()) {
        (true, _) => format!("the setup of an earlier task is reused ({})", setup.origin),
        (false, 0) => format!("there is nothing to set up ({})", setup.origin),
        (false, steps) => format!("{done} of {steps} setup steps went well ({})", setup.origin),
    }
}
