//! `patchwright doctor`: everything that a task needs, tried, on one screen.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::assemble::connect_model;
use super::health;
use crate::config::doctor::DoctorConfig;
use crate::config::model::ModelConfig;
use crate::forge::{self, Forge};
use crate::logging::redact::redact;
use crate::model::probe::advice;
use crate::model::{Endpoints, Model, Provider};
use crate::outcome::printable;
use crate::sandbox::level::{Defence, Level, Standing};
use crate::sandbox::{self, Backend, Choice, SandboxError};
use crate::store::{self, Store};
use crate::workspace::{self, Workspace};

/// Whatever has not answered by then is down. A sandbox is tried with several commands.
const LONGEST_CHECK: Duration = Duration::from_secs(60);
/// A server may have to load the model before it can be tried.
const LONGEST_MODEL_CHECK: Duration = Duration::from_secs(180);
/// Characters of one line's text.
const LONGEST_LINE: usize = 400;
/// Of a model, in tokens: less is filled after a few steps.
const SMALL_WINDOW: u64 = 8_192;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// Something is less than it could be, or is not needed for every task.
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub state: State,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Of a sandbox: what was tried of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Of a sandbox: what that comes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing failed.
    pub well: bool,
    pub checks: Vec<Check>,
}

/// Looks at everything; each part waits for something else, so they are tried side by side.
pub async fn examine(config: &DoctorConfig) -> Report {
    let (git, boxes, model, forge, store) = tokio::join!(
        git(&config.workspace),
        sandboxes(&config.sandbox),
        model(&config.model),
        forge_check(&config.forge),
        store_check(&config.store),
    );
    let mut checks = vec![config_file(config), git];
    checks.extend(boxes);
    checks.extend(model);
    checks.extend([forge, store]);
    checks.extend(disk(config));
    checks.extend(network(config));
    Report { well: checks.iter().all(|check| check.state != State::Fail), checks }
}

/// Prints the report; as JSON, or as lines for people.
pub fn print(report: &Report, json: bool, output: &mut impl Write) -> std::io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *output, report)?;
        return writeln!(output);
    }
    for check in &report.checks {
        let state = match check.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        writeln!(output, "{state}  {:<20} {}", check.name, line(&check.detail))?;
        for finding in check.standing.iter().flat_map(|standing| &standing.findings) {
            let mark = if finding.holds { "+" } else { "-" };
            let detail = if finding.detail.is_empty() { String::new() } else { format!(": {}", finding.detail) };
            writeln!(output, "      {:<20} {mark} {}{}", "", finding.defence.name(), line(&detail))?;
        }
        if let Some(remedy) = &check.remedy {
            writeln!(output, "      {:<20} > {}", "", line(remedy))?;
        }
    }
    writeln!(output, "{}", if report.well { "All is well." } else { "Something is not well; see FAIL above." })
}

/// Whatever servers and files say is shown harmlessly.
fn line(text: &str) -> String {
    printable(text).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST_LINE).collect()
}

impl Check {
    fn new(name: &str, state: State, detail: impl Display) -> Self {
        let (name, detail) = (name.to_owned(), redact(&detail.to_string()).into_owned());
        Self { name, state, detail, remedy: None, standing: None, level: None }
    }

    fn ok(name: &str, detail: impl Display) -> Self {
        Self::new(name, State::Ok, detail)
    }

    fn fail(name: &str, error: &anyhow::Error) -> Self {
        Self::new(name, State::Fail, format!("{error:#}"))
    }

    fn with(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()).filter(|remedy| !remedy.is_empty()), ..self }
    }
}

fn config_file(config: &DoctorConfig) -> Check {
    match &config.file {
        Ok(Some(path)) => Check::ok("config", path.display()),
        Ok(None) => Check::ok("config", "no file; defaults, environment and flags"),
        Err(error) => Check::fail("config", error),
    }
}

async fn git(settings: &anyhow::Result<workspace::Settings>) -> Check {
    let settings = match settings {
        Ok(settings) => settings.clone(),
        Err(error) => return Check::fail(workspace::GIT, error),
    };
    let program = settings.git.display().to_string();
    match Workspace::new(settings) {
        Ok(workspace) => match workspace.check().await {
            Ok(()) => Check::ok(workspace::GIT, program),
            Err(error) => Check::new(workspace::GIT, State::Fail, error),
        },
        Err(error) => Check::new(workspace::GIT, State::Fail, error),
    }
}

/// Both backends with what each holds, and whether the one that would be taken suffices.
async fn sandboxes(settings: &anyhow::Result<sandbox::Settings>) -> Vec<Check> {
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return vec![Check::fail("sandbox", error)],
    };
    let one = |choice| {
        // The weakest that is one at all: what each reaches is to be seen.
        let settings = sandbox::Settings { choice, minimum_level: Level::Basic, ..settings.clone() };
        async move { tokio::time::timeout(LONGEST_CHECK, Backend::probe(&settings)).await }
    };
    let (container, namespace) = tokio::join!(one(Choice::Container), one(Choice::Namespace));
    let mut checks = Vec::new();
    for (choice, found) in [(Choice::Container, container), (Choice::Namespace, namespace)] {
        let found = found.unwrap_or_else(|_| Err(SandboxError::Broken("it did not answer in time".into())));
        checks.push(backend(choice, &found, settings));
    }
    let wanted = |check: &&Check| match settings.choice {
        Choice::Auto => true,
        Choice::Container => check.name.ends_with("container"),
        Choice::Namespace => check.name.ends_with("namespace"),
    };
    let suffices = |check: &&Check| check.level.is_some_and(|level| level >= settings.minimum_level);
    let taken = checks.iter().filter(wanted).find(suffices).map(|check| check.name.clone());
    let mut checks: Vec<Check> = checks
        .into_iter()
        .map(|check| match (check.state, wanted(&&check) && taken.is_none()) {
            (State::Warn, true) => Check { state: State::Fail, ..check },
            (State::Ok | State::Warn | State::Fail, _) => check,
        })
        .collect();
    if let (Some(name), true) = (taken, settings.choice == Choice::Auto) {
        let name = name.trim_start_matches("sandbox ").to_owned();
        checks.push(Check::ok("sandbox", format!("`auto` takes {name}")));
    }
    checks
}

fn backend(choice: Choice, found: &Result<Backend, SandboxError>, settings: &sandbox::Settings) -> Check {
    let name = match choice {
        Choice::Container => "sandbox container",
        Choice::Namespace => "sandbox namespace",
        Choice::Auto => "sandbox",
    };
    let backend = match found {
        Ok(backend) => backend,
        Err(SandboxError::Unavailable { reason, remedy }) => {
            return Check::new(name, State::Warn, reason).with(remedy.as_str());
        }
        Err(error @ SandboxError::Broken(_)) => return Check::new(name, State::Warn, error),
    };
    let standing = backend.standing().clone();
    let level = standing.level();
    let minimum = settings.minimum_level;
    let check = match level {
        Some(level) if level >= minimum => Check::ok(name, backend.description()),
        Some(_) | None => Check::new(
            name,
            State::Warn,
            format!("{}; for `{minimum}` it lacks {}", backend.description(), standing.explain(minimum)),
        ),
    };
    let remedy = match choice {
        Choice::Namespace if !standing.holds(Defence::Cgroup) => {
            "For limits by control groups run it in a systemd unit with `Delegate=yes` (deploy/)"
        }
        Choice::Namespace | Choice::Container | Choice::Auto => "",
    };
    Check { standing: Some(standing), level, ..check.with(remedy) }
}

/// The model, and what it can do.
async fn model(config: &anyhow::Result<ModelConfig>) -> Vec<Check> {
    let config = match config {
        Ok(config) => config,
        Err(error) => return vec![Check::fail("model", error)],
    };
    match tokio::time::timeout(LONGEST_MODEL_CHECK, connect_model(config, config.probe)).await {
        Ok(Ok((model, notes))) => {
            let mut checks = vec![reached(&model)];
            checks.extend(notes.iter().map(|note| Check::ok("model", note)));
            checks.extend(abilities(&model));
            checks
        }
        // Without an endpoint, tasks that bring their own patches can be worked.
        Ok(Err(error)) => {
            let state = if config.is_named() { State::Fail } else { State::Warn };
            vec![Check::new("model", state, &error).with(error.remedy())]
        }
        Err(_) => vec![Check::new("model", State::Fail, "its server did not answer in time")],
    }
}

fn reached(model: &Endpoints) -> Check {
    let (card, provider) = (model.card(), model.provider().name());
    let window = card
        .window
        .map_or_else(|| "the server does not tell its window".to_owned(), |window| format!("window {window} tokens"));
    let check = Check::ok("model", format!("{} at {} ({provider}), {window}", card.name, model.endpoint()));
    match (card.window, model.provider()) {
        (None, _) => Check { state: State::Warn, ..check }.with("Set model.context_window in the config"),
        (Some(window), Provider::Ollama) if window < SMALL_WINDOW => Check { state: State::Warn, ..check }
            .with("Ollama cuts what is longer, in silence: set model.context_window, or OLLAMA_CONTEXT_LENGTH"),
        (Some(_), _) => check,
    }
}

fn abilities(model: &Endpoints) -> Option<Check> {
    let abilities = model.card().abilities?;
    let detail = format!("{abilities} ({})", model.found().describe());
    let check = Check::ok("model abilities", detail);
    Some(match advice(model.provider(), &abilities) {
        Some(advice) => Check { state: State::Warn, ..check }.with(advice),
        None => check,
    })
}

async fn forge_check(settings: &anyhow::Result<forge::Settings>) -> Check {
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return Check::fail("forge", error),
    };
    let forge = match Forge::new(settings) {
        Ok(forge) => forge,
        Err(error) => return Check::fail("forge", &error),
    };
    let address = &settings.api_url;
    let asked = async {
        forge.check().await?;
        forge.who().await
    };
    match tokio::time::timeout(LONGEST_CHECK, asked).await {
        Ok(Ok(who)) if forge.has_token() => Check::ok("forge", format!("{address}: {who}")),
        Ok(Ok(who)) => Check::new("forge", State::Warn, format!("{address}: {who}"))
            .with("Set GITHUB_TOKEN, or a GitHub App; without one there are only dry runs"),
        Ok(Err(error)) => Check::fail("forge", &anyhow::Error::from(error).context(address.to_string())),
        Err(_) => Check::new("forge", State::Fail, format!("{address} did not answer in time")),
    }
}

/// An existing database is opened; one that is not there yet is not made.
async fn store_check(settings: &anyhow::Result<store::Settings>) -> Check {
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return Check::fail("store", error),
    };
    let shown = match settings {
        store::Settings::Sqlite { path } => path.display().to_string(),
        store::Settings::Postgres { .. } => "PostgreSQL".to_owned(),
    };
    if let store::Settings::Sqlite { path } = settings
        && !path.exists()
    {
        return Check::ok("store", format!("{shown} is not there yet; the first `patchwright serve` makes it"));
    }
    let checked = async { Store::open(settings).await?.check().await };
    match checked.await {
        Ok(()) => Check::ok("store", shown),
        Err(error) => Check::new("store", State::Fail, format!("{shown}: {error}")),
    }
}

fn disk(config: &DoctorConfig) -> Vec<Check> {
    let folders = config.workspace.iter().flat_map(|workspace| [workspace.temporary.clone(), workspace.cache.clone()]);
    let store = config.store.iter().filter_map(|store| store.folder().map(Path::to_path_buf));
    let existing =
        |folder: std::path::PathBuf| folder.ancestors().find(|folder| folder.exists()).map(Path::to_path_buf);
    let folders: Vec<_> = folders.chain(store).filter_map(existing).collect();
    vec![match health::room(folders.iter().map(|folder| folder.as_path()), config.free_limit) {
        None => Check::ok("disk", format!("at least {} MiB are free where tasks work", config.free_limit >> 20)),
        Some(reason) => Check::new("disk", State::Fail, reason),
    }]
}

fn network(config: &DoctorConfig) -> Vec<Check> {
    let proxy = match config.proxies.as_slice() {
        [] => Check::ok("proxy", "none"),
        proxies => Check::ok("proxy", proxies.join(", ")),
    };
    let unreadable = |path: &Path| match path.is_dir() {
        true => std::fs::read_dir(path).err(),
        false => std::fs::read(path).err(),
    };
    let authorities = config.authorities.iter().map(|(name, path)| match unreadable(path) {
        None => Check::ok("authorities", format!("{name}={}", path.display())),
        Some(error) => Check::new("authorities", State::Fail, format!("{name}={}: {error}", path.display())),
    });
    std::iter::once(proxy).chain(authorities).collect()
}
