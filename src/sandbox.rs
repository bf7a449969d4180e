//! Where the repository's own code runs: never on the host.
//!
//! A [`Backend`] is found once at start by a real probe; [`Backend::open`] puts a box around one folder, and each
//! [`Sandbox::run`] runs one shell line in it at `/workspace`. No backend, no run: there is no fallback to the host.

mod attach;
mod attempt;
pub mod capture;
mod cgroup;
pub mod container;
pub mod disk;
pub mod egress;
mod engine;
mod helper;
mod landlock;
mod layers;
pub mod level;
pub mod namespace;
mod online;
mod open;
mod ownership;
mod plan;
mod portable;
mod probe;
mod registry;
pub mod remote;
mod room;
pub mod seccomp;
mod shape;
pub mod sources;
mod surround;
mod toolchains;
mod watch;

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use level::{Level, Standing};
pub use plan::WORKSPACE;

/// A box around one folder.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Runs one line with `sh -c`. When it returns, no process of the command is alive.
    async fn run(&self, command: &Command) -> Result<Output, SandboxError>;

    /// What this box is, for people: `namespace, level hardened (seccomp, landlock 6; memory by cgroup v2)`.
    fn description(&self) -> &str;

    /// Ends the box and waits until it is gone. Dropping it does the same without waiting.
    async fn close(&self) -> Result<(), SandboxError>;
}

/// One shell line to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// For `sh -c`.
    pub line: String,
    /// Below `/workspace`; empty for its root.
    pub directory: PathBuf,
    /// Added to the sandbox's own minimal environment.
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
}

/// What a command may use. Each is per command, not per process, where the backend can do so.
#[derive(Debug, Clone)]
pub struct Limits {
    pub memory_bytes: u64,
    pub processes: u64,
    /// The largest file that a process may write.
    pub file_size_bytes: u64,
    /// What a box may hold on the host's disk, and how many files and folders.
    pub disk_bytes: u64,
    pub disk_files: u64,
    /// How much output is kept: half of it from the head, half from the tail.
    pub output_bytes: usize,
}

/// What a box is put around, and what it may reach.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Read-write at `/workspace`.
    pub tree: PathBuf,
    /// Folders whose files are seen in `/workspace` where `tree` has none, the first before the next. Never written.
    pub layers: Vec<PathBuf>,
    pub home: Home,
    /// A folder that is seen at `/workspace/.git` and never written: each box has a copy. `None`: there is none.
    pub repository: Option<PathBuf>,
    pub network: Network,
    /// Added to the sandbox's own minimal environment, for each command.
    pub environment: BTreeMap<String, String>,
    /// Shell text before each command's line.
    pub prelude: String,
    /// Let go of when nothing of the box lives any more, also if it is dropped: the folders' own removal, say.
    pub hold: Option<Arc<dyn Any + Send + Sync>>,
}

/// The home folder of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Empty for each command.
    Empty,
    /// This folder of the host: what is written stays. It has one box, which runs one command at a time, so that nothing
    /// moves in it while mounts are made there.
    Kept(PathBuf),
    /// The contents of this folder, for each command (`namespace`) or box (`container`) anew.
    Frozen(PathBuf),
}

/// What a box reaches besides itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    Off,
    /// The proxy that listens on this Unix socket, and nothing else. The socket's folder is the passage's own.
    Proxy(PathBuf),
}

impl Surroundings {
    /// A tree, and nothing else.
    pub fn of(tree: &Path) -> Self {
        Self {
            tree: tree.to_owned(),
            layers: Vec::new(),
            home: Home::Empty,
            repository: None,
            network: Network::Off,
            environment: BTreeMap::new(),
            prelude: String::new(),
            hold: None,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    Signalled(i32),
    /// The command's timeout; the whole process tree was killed.
    TimedOut,
    /// The memory limit; the whole process tree was killed.
    OutOfMemory,
    /// The limit on what the box holds on disk; the whole process tree was killed.
    OutOfDisk,
}

/// What a command printed (standard output and error as they came, in one stream) and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub ending: Ending,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// Bytes dropped between head and tail.
    pub omitted_bytes: u64,
    pub duration: Duration,
}

/// Which backend the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A container engine that answers and has an image, else namespaces, else an error.
    Auto,
    Container,
    Namespace,
}

/// What the sandbox needs to know; all of it from the operator.
#[derive(Debug, Clone)]
pub struct Settings {
    pub choice: Choice,
    pub limits: Limits,
    /// Image for `container`.
    pub image: Option<String>,
    /// The program that is re-executed with [`namespace::HELPER_ARGUMENT`]: our own binary.
    pub helper: PathBuf,
    /// `PATH`, `HOME` and `DOCKER_HOST` of the operator: where toolchains and the engine are looked for.
    pub path: Option<std::ffi::OsString>,
    pub home: Option<PathBuf>,
    /// Folders of tools that stand elsewhere than in `home`, by their usual name below it: `.cargo`, `.rustup`, ...
    pub tool_homes: BTreeMap<String, PathBuf>,
    pub docker_host: Option<String>,
    pub engine: EngineSettings,
    /// The engine's runtime for `container`, such as `runsc`; `None`: the engine's usual one.
    pub runtime: Option<String>,
    /// Below it no backend is taken.
    pub minimum_level: Level,
    /// Where the operator's package managers get packages.
    pub sources: sources::Sources,
    /// Identifies this installation's containers, for the sweep at start.
    pub owner: String,
}

/// How an engine that `DOCKER_HOST` names is reached, and how it gets files.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`: TCP is used with TLS.
    pub certificates: Option<PathBuf>,
    /// TCP without TLS to other machines than this one.
    pub is_plain_allowed: bool,
    /// OpenSSH's configuration instead of the user's own.
    pub ssh_config: Option<PathBuf>,
    /// The socket of the operator's agent (`SSH_AUTH_SOCK`).
    pub ssh_agent: Option<std::ffi::OsString>,
    pub files: EngineFiles,
    /// Where the folders of tasks will be, if it is there already: where it is tried whether the engine sees our files.
    pub folder: Option<PathBuf>,
}

/// How an engine gets the files of a box.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineFiles {
    /// It shows our folders if it sees them, which is tried; else they are sent.
    #[default]
    Auto,
    /// It shows our folders, or is not used.
    Shared,
    /// They are sent and fetched.
    Sent,
}

/// Why there is no box, or why it broke. Never: a command that failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("no sandbox is available: {reason}. {remedy}")]
    Unavailable { reason: String, remedy: String },
    #[error("the sandbox broke: {0}")]
    Broken(String),
}

/// A backend that was probed and works.
pub enum Backend {
    Container(container::Engine),
    Namespace(namespace::Launcher),
}

impl Backend {
    /// Finds the backend that `settings` ask for and tries it with a real command.
    pub async fn probe(settings: &Settings) -> Result<Self, SandboxError> {
        match settings.choice {
            Choice::Container => Self::probe_container(settings).await,
            Choice::Namespace => Self::probe_namespace(settings).await,
            Choice::Auto => {
                let container = match Self::probe_container(settings).await {
                    Ok(backend) => return Ok(backend),
                    Err(error) => error,
                };
                Self::probe_namespace(settings).await.map_err(|namespace| neither(container, namespace))
            }
        }
    }

    async fn probe_container(settings: &Settings) -> Result<Self, SandboxError> {
        let engine = container::Engine::probe(settings).await?;
        Self::Container(engine).of_level(settings.minimum_level)
    }

    async fn probe_namespace(settings: &Settings) -> Result<Self, SandboxError> {
        let launcher = namespace::Launcher::probe(settings).await?;
        Self::Namespace(launcher).of_level(settings.minimum_level)
    }

    /// Refuses what does not hold enough.
    fn of_level(self, minimum: Level) -> Result<Self, SandboxError> {
        let standing = self.standing();
        let level = standing.level();
        if level.is_some_and(|level| level >= minimum) {
            return Ok(self);
        }
        let reached = level.map_or_else(|| "no level at all".to_owned(), |level| format!("the level `{level}`"));
        // Not every level has what the one below it has.
        let wanted = if level.is_none() { Level::Basic } else { minimum };
        Err(SandboxError::Unavailable {
            reason: format!(
                "the {} sandbox reaches {reached}; for `{wanted}` it lacks {}",
                self.name(),
                standing.explain(wanted)
            ),
            remedy: match level {
                Some(level) => format!(
                    "See docs/sandbox.md for what each level needs, or accept less: `minimum_level = \"{level}\"` in \
                     the config's section [sandbox]"
                ),
                None => "See docs/sandbox.md for what it needs".into(),
            },
        })
    }

    /// Whether it still works, by one real command; what it holds is not tried anew.
    pub async fn check(&self) -> Result<(), SandboxError> {
        let folder = tempfile::tempdir()
            .map_err(|error| SandboxError::Broken(format!("cannot create a temporary folder: {error}")))?;
        let sandbox = self.open(&Surroundings::of(folder.path())).await?;
        let (line, directory, environment) = ("true".to_owned(), PathBuf::new(), BTreeMap::new());
        let ran = sandbox.run(&Command { line, directory, environment, timeout: CHECK_LIMIT }).await;
        sandbox.close().await?;
        match ran?.ending {
            Ending::Exited(0) => Ok(()),
            ending => Err(SandboxError::Broken(format!("a test command ended with {ending:?}"))),
        }
    }

    /// What was tried of it when it was found, and what came of that.
    pub fn standing(&self) -> &Standing {
        match self {
            Self::Container(engine) => engine.standing(),
            Self::Namespace(launcher) => launcher.standing(),
        }
    }

    /// What it is, for people; each of its boxes says the same.
    pub fn description(&self) -> &str {
        match self {
            Self::Container(engine) => engine.description(),
            Self::Namespace(launcher) => launcher.description(),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Namespace(_) => "namespace",
        }
    }

    /// Puts a box around what the surroundings name.
    pub async fn open(&self, surroundings: &Surroundings) -> Result<Box<dyn Sandbox>, SandboxError> {
        match self {
            Self::Container(engine) => engine.open(surroundings).await,
            Self::Namespace(launcher) => launcher.open(surroundings).await,
        }
    }

    /// Changes when what a box shows besides its surroundings does: another image, other programs on this machine.
    pub async fn fingerprint(&self) -> String {
        match self {
            Self::Container(engine) => engine.fingerprint().await,
            Self::Namespace(launcher) => launcher.fingerprint(),
        }
    }

    /// Whether boxes show caches of this machine's package managers, which are not ours to keep.
    pub fn shows_caches(&self) -> bool {
        match self {
            Self::Container(_) => false,
            Self::Namespace(launcher) => launcher.shows_caches(),
        }
    }

    /// Why no box of this backend reaches a proxy; `None`: they do.
    pub fn why_no_network(&self) -> Option<&str> {
        match self {
            Self::Container(engine) => engine.why_no_network(),
            Self::Namespace(_) => None,
        }
    }

    /// Removes what earlier processes of this owner left behind and no living process uses.
    pub async fn sweep(&self) -> Result<usize, SandboxError> {
        match self {
            Self::Container(engine) => engine.sweep().await,
            Self::Namespace(launcher) => Ok(launcher.sweep()),
        }
    }

    /// Ends all boxes that are still open, within `limit`: for signals.
    pub async fn close_all(&self, limit: Duration) {
        match self {
            Self::Container(engine) => engine.close_all(limit).await,
            Self::Namespace(launcher) => launcher.close_all(limit).await,
        }
        // What they held is let go of then.
        await_removals(limit).await;
    }
}

/// Waits, up to `limit`, until the boxes that were dropped are gone, and what they held is let go of: before the program ends,
/// and for an interrupt during [`Backend::probe`], which leaves no backend to close.
pub async fn await_removals(limit: Duration) {
    registry::await_removals(limit).await;
}

/// How long the command of a check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// Linux's limit on one argument of a program, with its zero at the end.
const LONGEST_LINE: usize = 128 * 1024 - 1;

/// Adds what the surroundings give to each command.
fn complete(surroundings: &Surroundings, command: &Command) -> Command {
    let mut environment = surroundings.environment.clone();
    environment.extend(command.environment.clone());
    let line = match surroundings.prelude.trim_end() {
        "" => command.line.clone(),
        prelude => format!("{prelude}\n{}", command.line),
    };
    Command { line, environment, ..command.clone() }
}

/// The answer to a line that no shell can be started with: as a shell answers to what it cannot execute.
fn unrunnable(line: &str) -> Option<Output> {
    let reason = if line.contains('\0') {
        "the line holds a zero byte"
    } else if line.len() > LONGEST_LINE {
        "the line is longer than 128 KiB: put it into a file and run that"
    } else {
        return None;
    };
    Some(not_run(Ending::Exited(126), reason))
}

/// The answer for a command that was not started.
fn not_run(ending: Ending, reason: &str) -> Output {
    Output {
        ending,
        head: format!("sandbox: {reason}\n").into_bytes(),
        tail: Vec::new(),
        omitted_bytes: 0,
        duration: Duration::ZERO,
    }
}

/// One error of two: why there is no container and why there are no namespaces, and what to do about either.
fn neither(container: SandboxError, namespace: SandboxError) -> SandboxError {
    let split = |error: SandboxError| match error {
        SandboxError::Unavailable { reason, remedy } => (reason, remedy),
        SandboxError::Broken(reason) => (reason, String::new()),
    };
    let (container, container_remedy) = split(container);
    let (namespace, namespace_remedy) = split(namespace);
    SandboxError::Unavailable {
        reason: format!("container: {container}; namespace: {namespace}"),
        remedy: format!("{container_remedy} {namespace_remedy}").trim().to_owned(),
    }
}
