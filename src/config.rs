//! Raw settings (file, environment, flags) become resolved ones. The only reader of the environment.
//!
//! Flags win over the environment, the environment over the file. A value that cannot be used is an error that names
//! where it came from; nothing falls back silently.

pub mod doctor;
pub mod environment;
pub mod eval;
pub mod file;
pub mod flags;
pub mod health;
pub mod logging;
pub mod model;
pub mod network;
pub mod serve;
pub mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::SecretString;
use url::Url;

use crate::forge::Credentials;
use crate::pipeline::{self, Guard, Limits, Publish};
use crate::policy::Rules;
use crate::task::{IssueReference, RepositoryName, TaskId};
use crate::{forge, sandbox, workspace};
use environment::Environment;
use file::{ConfigFile, RepositorySection};
use flags::{Flags, RunFlags, SandboxFlag, WorkFlags};
use model::ModelConfig;

const MIB: u64 = 1024 * 1024;

/// Everything that one `patchwright run` needs, checked.
#[derive(Debug)]
pub struct RunConfig {
    pub source: Source,
    pub repository: Option<RepositoryArgument>,
    pub base: Option<String>,
    pub destination: Destination,
    pub test_command: Option<String>,
    pub json: bool,
    pub record: Option<PathBuf>,
    /// The target of issues that name none.
    pub target_repository: Option<RepositoryName>,
    pub allowed_targets: Option<Vec<String>>,
    /// By `owner/name` in lower case.
    pub repositories: BTreeMap<String, RepositorySection>,
    pub network: network::NetworkConfig,
    /// `--image` was given; it wins over a repository's own.
    pub image_from_flag: bool,
    pub model: ModelConfig,
    pub pipeline: pipeline::Settings,
    pub forge: forge::Settings,
    pub sandbox: sandbox::Settings,
    pub workspace: workspace::Settings,
}

/// Where the instruction comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// `--task`; `None`: standard input.
    CommandLine { text: Option<String>, id: Option<TaskId> },
    /// `--issue`.
    Issue(IssueReference),
}

/// What `--repo` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryArgument {
    /// A folder of this machine.
    Local(PathBuf),
    /// A clone address outside the forge.
    Url(Url),
    /// A repository on the forge.
    Forge(RepositoryName),
}

impl std::fmt::Display for RepositoryArgument {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RepositoryArgument::Local(folder) => write!(formatter, "{}", folder.display()),
            RepositoryArgument::Url(url) => write!(formatter, "{url}"),
            RepositoryArgument::Forge(name) => write!(formatter, "{name}"),
        }
    }
}

/// Where the result goes, before the target is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To standard output.
    Diff,
    /// Onto this new branch of the local repository.
    LocalBranch(String),
    /// To the forge.
    PullRequest,
}

/// Resolves `patchwright run`.
pub fn resolve_run(flags: &Flags, run: &RunFlags, environment: &Environment) -> anyhow::Result<RunConfig> {
    let file = read_config_file(flags.config.as_deref(), environment)?;
    let forge = resolve_forge(&file, environment)?;
    let repository = run.repo.as_deref().map(|text| parse_repository(text, &forge.server_url)).transpose()?;
    let source = resolve_source(run)?;
    let destination = resolve_destination(run, repository.as_ref())?;
    if let Some(record) = &run.record
        && record.exists()
    {
        bail!("--record {}: the file exists already. Name a new one", record.display());
    }
    let target_repository = resolve_target(environment)?;
    let model = model::resolve(&file, &run.work, environment)?;
    let sandbox = resolve_sandbox(&file, &run.work, environment)?;
    let workspace = resolve_workspace(&file, environment)?;
    Ok(RunConfig {
        source,
        repository,
        base: run.base.clone(),
        destination,
        test_command: run.test_command.clone(),
        json: run.json,
        record: run.record.clone(),
        target_repository,
        allowed_targets: file.allowed_targets.clone(),
        pipeline: resolve_pipeline(&file, &run.work, environment, &model)?,
        model,
        forge,
        network: network::resolve(&file, environment, &sandbox.sources, workspace.temporary.clone())?,
        sandbox,
        workspace,
        image_from_flag: run.work.image.is_some(),
        repositories: resolve_repositories(file.repositories)?,
    })
}

/// The target of issues that name none.
fn resolve_target(environment: &Environment) -> anyhow::Result<Option<RepositoryName>> {
    let named = environment.get("TARGET_REPO");
    named
        .map(|text| RepositoryName::parse(text).with_context(|| format!("TARGET_REPO=`{text}` is not OWNER/NAME")))
        .transpose()
}

fn resolve_repositories(
    sections: BTreeMap<String, RepositorySection>,
) -> anyhow::Result<BTreeMap<String, RepositorySection>> {
    let checked = sections.into_iter().map(|(name, section)| match RepositoryName::parse(&name) {
        Some(name) => Ok((name.to_string().to_ascii_lowercase(), section)),
        None => bail!("[repositories.\"{name}\"]: the name is not OWNER/NAME"),
    });
    checked.collect()
}

/// The repository's root, if `folder` is below it: a diff is relative to the root.
pub fn repository_root_above(folder: &Path) -> Option<&Path> {
    let is_repository = |folder: &Path| folder.join(".git").exists() || folder.join("HEAD").is_file();
    folder.ancestors().find(|folder| is_repository(folder)).filter(|root| *root != folder)
}

fn resolve_pipeline(
    file: &ConfigFile,
    work: &WorkFlags,
    environment: &Environment,
    model: &ModelConfig,
) -> anyhow::Result<pipeline::Settings> {
    let agent_name = environment.get("AGENT_NAME").map(str::to_owned).or(file.agent_name.clone());
    Ok(pipeline::Settings {
        agent_name: agent_name.unwrap_or_else(|| "Patchwright".into()),
        author: workspace::Author {
            name: file.commit.author_name.clone().unwrap_or_else(|| "Patchwright".into()),
            email: file.commit.author_email.clone().unwrap_or_else(|| "patchwright@localhost".into()),
        },
        limits: resolve_limits(file, work, environment)?,
        setup: resolve_setup(file, environment)?,
        patch_mode: file.publish.patch_mode.unwrap_or_default(),
        publish: resolve_publish(file, environment)?,
        guard: Arc::new(resolve_guard(file)?),
        prompts: file.prompts.clone(),
        profile: work.profile.or(file.agent.profile).unwrap_or_default(),
        max_output_tokens: model.max_output_tokens,
        protocol: file.model.protocol.unwrap_or_default(),
        temperature: model.temperature,
        winner: None,
    })
}

/// The policy, and with its own keys put over it, that of each repository.
fn resolve_guard(file: &ConfigFile) -> anyhow::Result<Guard> {
    let mut own = BTreeMap::new();
    for (name, section) in file.repositories.iter().filter(|(_, section)| !section.policy.is_empty()) {
        let wrong = || format!("[repositories.\"{name}\".policy] does not fit");
        let mut rules = toml::Table::try_from(&file.policy).with_context(wrong)?;
        for (key, value) in section.policy.clone() {
            match (rules.get_mut(&key), value) {
                (Some(toml::Value::Table(usual)), toml::Value::Table(own)) => usual.extend(own),
                (_, value) => drop(rules.insert(key, value)),
            }
        }
        own.insert(name.to_ascii_lowercase(), rules.try_into::<Rules>().with_context(wrong)?);
    }
    Ok(Guard::new(file.policy.clone(), own, &file.secrets)?)
}

/// The config file's path: the one that was named, else the usual one if it exists.
fn config_file(named: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let named = named.map(Path::to_owned).or_else(|| environment.get("PATCHWRIGHT_CONFIG").map(PathBuf::from));
    let usual = || environment.config_folder().map(|folder| folder.join("patchwright.toml"));
    named.or_else(|| usual().filter(|path| path.exists()))
}

fn read_config_file(named: Option<&Path>, environment: &Environment) -> anyhow::Result<ConfigFile> {
    let Some(path) = config_file(named, environment) else { return Ok(ConfigFile::default()) };
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read the config file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("the config file {} does not fit", path.display()))
}

fn resolve_forge(file: &ConfigFile, environment: &Environment) -> anyhow::Result<forge::Settings> {
    let url = |name: &str, in_file: &Option<String>, default: &str| {
        let text = environment.get(name).or(in_file.as_deref()).unwrap_or(default);
        parse_http_url(text).with_context(|| format!("{name} cannot be used"))
    };
    Ok(forge::Settings {
        api_url: url("GITHUB_API_URL", &file.github.api_url, "https://api.github.com")?,
        server_url: url("GITHUB_SERVER_URL", &file.github.server_url, "https://github.com")?,
        credentials: resolve_credentials(file, environment)?,
        timeout: Duration::from_secs(30),
        longest_wait: Duration::from_secs(120),
        write_spacing: Duration::from_millis(file.github.write_spacing_ms.unwrap_or(1_000)),
    })
}

/// A token or an App, whole, and not both.
fn resolve_credentials(file: &ConfigFile, environment: &Environment) -> anyhow::Result<Credentials> {
    let section = &file.github;
    let token = match environment.secret("GITHUB_TOKEN") {
        Some(token) => Some(token),
        None => read_secret("github.token_file", section.token_file.as_deref())?,
    };
    let id = environment.number("GITHUB_APP_ID")?.or(section.app_id);
    let key_file = environment.get("GITHUB_APP_PRIVATE_KEY_PATH").map(PathBuf::from).or(section.app_key_file.clone());
    let installation = environment.number("GITHUB_APP_INSTALLATION_ID")?.or(section.app_installation);
    let credentials = match (token, id, key_file, installation) {
        (None, None, None, None) => Credentials::None,
        (Some(token), None, None, None) => Credentials::Token(token),
        (Some(_), ..) => bail!(
            "both a token (GITHUB_TOKEN or github.token_file) and a GitHub App (GITHUB_APP_... or github.app_...) are \
             set. Remove one of them"
        ),
        (None, Some(id), Some(path), Some(installation)) => {
            let key =
                read_secret("github.app_key_file", Some(&path))?.context("the App's private key cannot be read")?;
            Credentials::App { id, key, installation }
        }
        (None, id, key_file, installation) => {
            let parts = [
                (id.is_none(), "GITHUB_APP_ID (github.app_id)"),
                (key_file.is_none(), "GITHUB_APP_PRIVATE_KEY_PATH (github.app_key_file)"),
                (installation.is_none(), "GITHUB_APP_INSTALLATION_ID (github.app_installation)"),
            ];
            let missing: Vec<&str> = parts.into_iter().filter(|(missing, _)| *missing).map(|(_, name)| name).collect();
            bail!("the GitHub App is set in part only: {} is missing. Set all three, or none", missing.join(" and "))
        }
    };
    credentials.check()?;
    Ok(credentials)
}

/// A file holds one secret, which the config calls `name`; white space around it is not part of it.
fn read_secret(name: &str, path: Option<&Path>) -> anyhow::Result<Option<SecretString>> {
    let Some(path) = path else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the secret's file {}", path.display()))?;
    match text.trim() {
        "" => bail!("the secret's file {} is empty", path.display()),
        secret => {
            crate::logging::keep_secret(name, secret);
            Ok(Some(SecretString::from(secret)))
        }
    }
}

fn parse_http_url(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).context("it is not a URL such as https://host/path")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        bail!("the address must begin with https:// (or http://)");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("the address must hold no user name and no password; secrets go into the environment");
    }
    Ok(url)
}

/// What `--repo` means: a folder if it exists or looks like a path, else an address, else `OWNER/NAME`.
fn parse_repository(text: &str, server_url: &Url) -> anyhow::Result<RepositoryArgument> {
    if text.contains("://") {
        let url = parse_clone_url(text)?;
        return Ok(match name_on_forge(&url, server_url) {
            Some(name) => RepositoryArgument::Forge(name),
            None => RepositoryArgument::Url(url),
        });
    }
    let path = Path::new(text);
    if path.is_dir() {
        let absolute = path.canonicalize().with_context(|| format!("--repo {text}: the folder cannot be opened"))?;
        return Ok(RepositoryArgument::Local(absolute));
    }
    if path.is_file() {
        bail!("--repo {text}: this is a file. Name the repository's folder");
    }
    let looks_like_a_path = text.starts_with(['.', '/', '~']) || text.contains('\\');
    match RepositoryName::parse(text) {
        Some(name) if !looks_like_a_path => Ok(RepositoryArgument::Forge(name)),
        Some(_) | None if text.contains(':') => {
            bail!("--repo {text}: ssh addresses are not supported. Use the https:// address with a token")
        }
        Some(_) | None => bail!("--repo {text}: there is no such folder, and it is not OWNER/NAME or a clone address"),
    }
}

fn parse_clone_url(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).with_context(|| format!("--repo {text}: not a valid address"))?;
    match url.scheme() {
        "file" => Ok(url),
        "http" | "https" => parse_http_url(text).context("--repo: the address cannot be used"),
        other => bail!("--repo: {other}:// addresses are not supported. Use the https:// address with a token"),
    }
}

fn name_on_forge(url: &Url, server_url: &Url) -> Option<RepositoryName> {
    let same_host = (url.scheme(), url.host_str(), url.port_or_known_default())
        == (server_url.scheme(), server_url.host_str(), server_url.port_or_known_default());
    let path = url.path().strip_prefix(server_url.path().trim_end_matches('/'))?.trim_matches('/');
    same_host.then(|| RepositoryName::parse(path.strip_suffix(".git").unwrap_or(path))).flatten()
}

fn resolve_source(run: &RunFlags) -> anyhow::Result<Source> {
    let id = run
        .task_id
        .as_deref()
        .map(|text| TaskId::parse(text).with_context(|| format!("--task-id `{text}`: 4 to 64 of A-Z a-z 0-9 _ -")))
        .transpose()?;
    match (&run.issue, &run.task) {
        (Some(issue), _) => {
            let issue =
                IssueReference::parse(issue).with_context(|| format!("--issue `{issue}` is not OWNER/REPO#N"))?;
            Ok(Source::Issue(issue))
        }
        (None, Some(text)) if text == "-" => Ok(Source::CommandLine { text: None, id }),
        (None, Some(text)) if text.trim().is_empty() => bail!("--task is empty. Say what is to be changed"),
        (None, Some(text)) => Ok(Source::CommandLine { text: Some(text.clone()), id }),
        (None, None) => bail!("there is no instruction. Give --task TEXT or --issue OWNER/REPO#N"),
    }
}

fn resolve_destination(run: &RunFlags, repository: Option<&RepositoryArgument>) -> anyhow::Result<Destination> {
    let local = matches!(repository, Some(RepositoryArgument::Local(_)));
    match (&run.branch, repository) {
        (Some(name), Some(RepositoryArgument::Local(_))) => Ok(Destination::LocalBranch(name.clone())),
        (Some(_), _) => {
            bail!("--branch needs a local folder as --repo; elsewhere the branch's name follows the task's id")
        }
        (None, _) if run.dry_run || (local && run.issue.is_none()) => Ok(Destination::Diff),
        (None, Some(RepositoryArgument::Url(_) | RepositoryArgument::Local(_))) if run.issue.is_some() => {
            bail!(
                "--issue with a repository that is not on the forge needs --dry-run: there is nowhere to open a pull request"
            )
        }
        (None, Some(RepositoryArgument::Url(_))) => {
            bail!(
                "the address is not on the forge (GITHUB_SERVER_URL), so no pull request can be opened. Add --dry-run for the diff"
            )
        }
        (None, Some(RepositoryArgument::Local(_) | RepositoryArgument::Forge(_)) | None) => {
            Ok(Destination::PullRequest)
        }
    }
}

fn resolve_publish(file: &ConfigFile, environment: &Environment) -> anyhow::Result<Publish> {
    let section = &file.publish;
    Ok(Publish {
        unverified: section.unverified.unwrap_or_default(),
        comments: section.comments.unwrap_or(true),
        status_comment: section.status_comment.unwrap_or(false),
        status_interval: Duration::from_secs(15),
        commit_status: section.commit_status.unwrap_or(false),
        comment_on_failure: environment.boolean("COMMENT_ON_FAILURE")?.or(section.comment_on_failure).unwrap_or(true),
        close_issues: environment.boolean("CLOSE_ISSUES_ON_SUCCESS")?.or(section.close_issues).unwrap_or(false),
        trace_file: section.trace_file.unwrap_or(false),
        review: section.review.unwrap_or_default(),
    })
}

fn resolve_limits(file: &ConfigFile, work: &WorkFlags, environment: &Environment) -> anyhow::Result<Limits> {
    let section = &file.limits;
    let task_seconds = environment.number("TASK_TIMEOUT_SECONDS")?.or(section.task_seconds).unwrap_or(1800);
    let limits = Limits {
        task: work.timeout.unwrap_or(Duration::from_secs(task_seconds)),
        stage: section.stage_seconds.map(Duration::from_secs),
        tests: Duration::from_secs(section.test_seconds.unwrap_or(600)),
        command: Duration::from_secs(section.command_seconds.unwrap_or(120)),
        steps: work.max_steps.or(section.steps).unwrap_or(50),
        tokens: work.max_tokens.or(section.tokens).unwrap_or(1_000_000),
        cost: serve::resolve_cost_limit(file)?,
        verify_rounds: section.verify_rounds.unwrap_or(3),
        attempts: work.attempts.or(section.attempts).unwrap_or(1),
    };
    limits.check().map(|()| limits)
}

fn resolve_setup(file: &ConfigFile, environment: &Environment) -> anyhow::Result<pipeline::setup::Settings> {
    let section = &file.setup;
    let limit = Duration::from_secs(section.seconds.unwrap_or(600));
    if limit.is_zero() {
        bail!("setup.seconds is zero. Set setup.enabled = false if nothing is to be set up");
    }
    Ok(pipeline::setup::Settings {
        enabled: environment.boolean("PATCHWRIGHT_SETUP")?.or(section.enabled).unwrap_or(true),
        repository_commands: section.repository_commands.unwrap_or_default(),
        repository: section.repository.unwrap_or_default(),
        limit,
        keep_bytes: section.keep_mib.unwrap_or(20 * 1024).saturating_mul(MIB),
    })
}

fn resolve_sandbox(
    file: &ConfigFile,
    work: &WorkFlags,
    environment: &Environment,
) -> anyhow::Result<sandbox::Settings> {
    let section = &file.sandbox;
    let choice = match work.sandbox.or(section.backend).unwrap_or(SandboxFlag::Auto) {
        SandboxFlag::Auto => sandbox::Choice::Auto,
        SandboxFlag::Container => sandbox::Choice::Container,
        SandboxFlag::Namespace => sandbox::Choice::Namespace,
    };
    Ok(sandbox::Settings {
        choice,
        limits: sandbox::Limits {
            memory_bytes: section.memory_mib.unwrap_or(4096).saturating_mul(MIB),
            processes: section.processes.unwrap_or(512),
            file_size_bytes: section.file_size_mib.unwrap_or(1024).saturating_mul(MIB),
            disk_bytes: section.disk_mib.unwrap_or(8192).saturating_mul(MIB),
            disk_files: section.disk_files.unwrap_or(1_000_000),
            output_bytes: 64 * 1024,
        },
        image: work.image.clone().or(section.image.clone()),
        helper: std::env::current_exe().context("cannot find our own program, which the sandbox is started with")?,
        path: environment.get("PATH").map(Into::into),
        home: environment.home(),
        tool_homes: environment.tool_homes(),
        docker_host: environment.get("DOCKER_HOST").map(str::to_owned).or(section.engine.clone()),
        engine: resolve_engine(file, environment)?,
        runtime: section.runtime.clone(),
        minimum_level: section.minimum_level.unwrap_or(sandbox::level::Level::Confined),
        sources: network::package_sources(file, environment),
        owner: environment.owner(),
    })
}

fn resolve_engine(file: &ConfigFile, environment: &Environment) -> anyhow::Result<sandbox::EngineSettings> {
    let section = &file.sandbox;
    // As Docker's own client: the folder counts only if verifying is asked for.
    let wants_tls = environment.get("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
    let usual = || environment.home().map(|home| home.join(".docker"));
    let named = wants_tls.then(|| environment.get("DOCKER_CERT_PATH").map(PathBuf::from).or_else(usual)).flatten();
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).with_context(|| format!("the path {} cannot be used", path.display()))
    };
    Ok(sandbox::EngineSettings {
        certificates: named.or(section.engine_certificates.clone()).map(absolute).transpose()?,
        is_plain_allowed: section.engine_plain.unwrap_or(false),
        ssh_config: section.engine_ssh_config.clone().map(absolute).transpose()?,
        ssh_agent: environment.get("SSH_AUTH_SOCK").map(Into::into),
        files: section.engine_files.unwrap_or_default(),
        folder: resolve_workspace(file, environment).ok().map(|workspace| workspace.temporary),
    })
}

fn resolve_workspace(file: &ConfigFile, environment: &Environment) -> anyhow::Result<workspace::Settings> {
    let search_path = environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let git = which::which_in(workspace::GIT, Some(search_path), "/")
        .context("git was not found on the PATH. Install git")?;
    let folder = environment.get("WORKSPACE_DIR").map(PathBuf::from).or(file.workspace.clone());
    let (cache, temporary) = match folder {
        Some(folder) => {
            let folder = std::path::absolute(&folder)
                .with_context(|| format!("the workspace folder {} cannot be used", folder.display()))?;
            (folder.join("mirrors"), folder.join("tasks"))
        }
        None => {
            let cache = environment.cache_folder().context("there is no cache folder. Set HOME or WORKSPACE_DIR")?;
            (cache.join("mirrors"), environment.temporary_folder())
        }
    };
    Ok(workspace::Settings {
        git,
        cache,
        temporary,
        git_timeout: Duration::from_secs(600),
        environment: environment.network_settings_for_git(),
    })
}
