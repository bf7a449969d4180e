//! `patchwright.toml`: the operator's config. Unknown keys fail. It is never read from a repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::flags::SandboxFlag;
use crate::model::{ProbeMode, Provider};
use crate::pipeline::setup::recipe::RepositoryCommands;
use crate::pipeline::setup::repository::ShowRepository;
use crate::pipeline::{PatchMode, ProfileChoice, ProtocolChoice, ReviewPolicy, UnverifiedPolicy};
use crate::policy::Rules;
use crate::sandbox::EngineFiles;
use crate::sandbox::level::Level;
use crate::secrets::Allow;

/// The whole file; every key is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Named in comments. Default: `Patchwright`.
    pub agent_name: Option<String>,
    /// Folder for mirrors and tasks. Default: the user's cache folder, and the system's temporary folder.
    pub workspace: Option<PathBuf>,
    /// Folder for the service's database, an absolute path. Default: the user's state folder.
    pub state: Option<PathBuf>,
    /// A PostgreSQL database instead, that several services may share: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    /// Default: none; the environment's `DATABASE_URL` wins.
    pub database: Option<String>,
    /// Folder with prompts that replace the built-in ones of the same name. Default: none.
    pub prompts: Option<PathBuf>,
    /// Repositories that an issue may name as its target, as `owner/name` or `owner/*`.
    /// Default: those of the dispatch repository's owner.
    pub allowed_targets: Option<Vec<String>>,
    pub github: GithubSection,
    pub model: ModelSection,
    pub agent: AgentSection,
    pub sandbox: SandboxSection,
    pub network: super::network::NetworkSection,
    pub limits: LimitsSection,
    pub setup: SetupSection,
    pub commit: CommitSection,
    pub publish: PublishSection,
    /// What a change may touch, and what becomes of one that does.
    pub policy: Rules,
    /// What may stand in a change though it looks like a secret.
    pub secrets: Allow,
    pub log: super::logging::LogSection,
    pub service: ServiceSection,
    pub budget: BudgetSection,
    /// By `owner/name`.
    pub repositories: BTreeMap<String, RepositorySection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GithubSection {
    /// Default: `https://api.github.com`.
    pub api_url: Option<String>,
    /// Default: `https://github.com`.
    pub server_url: Option<String>,
    /// A file that holds the token. Default: none; the environment's `GITHUB_TOKEN` wins.
    pub token_file: Option<PathBuf>,
    /// The id of a GitHub App, instead of a token. Default: none; the environment's `GITHUB_APP_ID` wins.
    pub app_id: Option<u64>,
    /// A file that holds the App's private key, in PEM form. Default: none; the environment's
    /// `GITHUB_APP_PRIVATE_KEY_PATH` wins.
    pub app_key_file: Option<PathBuf>,
    /// The id of the App's installation. Default: none; the environment's `GITHUB_APP_INSTALLATION_ID` wins.
    pub app_installation: Option<u64>,
    /// Milliseconds between writes, after the first few; 0 for none. Default: 1000, which GitHub asks for.
    pub write_spacing_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Default: the first local server that answers.
    pub endpoint: Option<String>,
    /// Default: the server's only model, else its first.
    pub name: Option<String>,
    /// `vllm`, `ollama`, `llamacpp`, `lmstudio`, `openai`, `azure`, `openrouter`, `anthropic` or `other`. Default: found by
    /// the address, and by what the server tells.
    pub provider: Option<Provider>,
    /// A file that holds the key. Default: none; the environment's `LLM_API_KEY` wins.
    pub key_file: Option<PathBuf>,
    /// The environment's variable that holds the key. Default: `LLM_API_KEY`.
    pub key_env: Option<String>,
    /// The context window in tokens. Default: what the server tells.
    pub context_window: Option<u64>,
    /// The longest answer in tokens. Default: 4096.
    pub max_output_tokens: Option<u32>,
    /// `auto`, `native`, `schema`, `fenced` or `whole-file`: how the model says what is to be done. Default: `auto`, by what
    /// is known of the model.
    pub protocol: Option<ProtocolChoice>,
    /// Default: the server's own.
    pub temperature: Option<f32>,
    /// How long the model may be silent, in seconds. Default: 300.
    pub silence_seconds: Option<u64>,
    /// `auto`, `off` or `always`: whether the model's abilities are tried at the start. Default: `auto`, once a week.
    pub probe: Option<ProbeMode>,
    /// Sent with every request. Default: none.
    pub headers: BTreeMap<String, HeaderSetting>,
    /// Fields of every request's body. Default: none.
    pub body: toml::Table,
    /// Of a million tokens. Default: unknown.
    pub price: Option<super::model::PriceSection>,
    /// Asked where the ones before do not answer. Default: none.
    pub fallback: Vec<FallbackSection>,
}

/// An endpoint that stands in for another.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FallbackSection {
    pub endpoint: String,
    /// As in `[model]`, and so are those below.
    pub name: Option<String>,
    pub provider: Option<Provider>,
    pub key_file: Option<PathBuf>,
    pub key_env: Option<String>,
    pub context_window: Option<u64>,
    pub headers: BTreeMap<String, HeaderSetting>,
    pub body: toml::Table,
    pub price: Option<super::model::PriceSection>,
}

/// A header's value, or the environment's variable that holds it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a text, or { env = \"NAME\" } for a secret")]
pub enum HeaderSetting {
    Plain(String),
    Secret(FromEnvironment),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromEnvironment {
    pub env: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSection {
    /// `auto`, `small`, `medium` or `large`: how much the model is shown, and which tools it gets. Default: `auto`, by
    /// its parameters and window.
    pub profile: Option<ProfileChoice>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxSection {
    /// `auto`, `container` or `namespace`. Default: `auto`.
    pub backend: Option<SandboxFlag>,
    /// Default: none; without one, `auto` takes namespaces.
    pub image: Option<String>,
    /// Default: 4096.
    pub memory_mib: Option<u64>,
    /// Default: 512.
    pub processes: Option<u64>,
    /// The largest file that may be written. Default: 1024.
    pub file_size_mib: Option<u64>,
    /// What the working tree of one sandbox may hold on disk. Default: 8192.
    pub disk_mib: Option<u64>,
    /// How many files and folders it may hold. Default: 1,000,000.
    pub disk_files: Option<u64>,
    /// `basic`, `confined`, `hardened` or `virtual`: a sandbox that reaches less is not used. Default: `confined`.
    pub minimum_level: Option<Level>,
    /// The container engine's runtime, such as `runsc` (gVisor) or `kata`. Default: the engine's usual one.
    pub runtime: Option<String>,
    /// The container engine: `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`. Default: a socket of this machine.
    pub engine: Option<String>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem` for an engine by TCP. Default: no TLS.
    pub engine_certificates: Option<PathBuf>,
    /// Whether an engine on another machine may be spoken to by TCP without TLS. Default: false.
    pub engine_plain: Option<bool>,
    /// How an engine gets the files: `auto`, `shared` (it shows this machine's) or `sent`. Default: `auto`.
    pub engine_files: Option<EngineFiles>,
    /// OpenSSH's configuration for an engine by SSH. Default: the user's own.
    pub engine_ssh_config: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// The whole task. Default: 1800.
    pub task_seconds: Option<u64>,
    /// One stage but solving, which has the task's time; more than `test_seconds`. Default: no limit of its own.
    pub stage_seconds: Option<u64>,
    /// One run of the tests. Default: 600.
    pub test_seconds: Option<u64>,
    /// One command of the model. Default: 120.
    pub command_seconds: Option<u64>,
    /// Requests to the model. Default: 50.
    pub steps: Option<u32>,
    /// Prompts and answers together. Default: 1,000,000.
    pub tokens: Option<u64>,
    /// How often failing tests go back to the model. Default: 3.
    pub verify_rounds: Option<u32>,
    /// Agents that work at a task at once. Default: 1.
    pub attempts: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitSection {
    /// Default: `Patchwright`.
    pub author_name: Option<String>,
    /// Default: `patchwright@localhost`.
    pub author_email: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishSection {
    /// `only` or `then-model`. Default: `only`.
    pub patch_mode: Option<PatchMode>,
    /// `off`, `tell` or `send-back`: whether the model looks at a change whose tests pass. Default: `off`.
    pub review: Option<ReviewPolicy>,
    /// What becomes of a change that is not verified: `draft` or `none`. Default: `draft`.
    pub unverified: Option<UnverifiedPolicy>,
    /// Comments on the dispatch issue when a task begins and ends. Default: true. Labels are set and refusals are told
    /// in any case.
    pub comments: Option<bool>,
    /// One comment on the dispatch issue that is edited as the task goes on. Default: true in the service, else false.
    pub status_comment: Option<bool>,
    /// The commit status `patchwright/verify` on the pull request's head. Default: true in the service, else false.
    pub commit_status: Option<bool>,
    /// Also comment when a task failed. Default: true.
    pub comment_on_failure: Option<bool>,
    /// Close the dispatch issue when its pull request is open. Default: false.
    pub close_issues: Option<bool>,
    /// Add `agent-tasks/<id8>.md` to the pull request. Default: false.
    pub trace_file: Option<bool>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepositorySection {
    pub test_command: Option<String>,
    pub image: Option<String>,
    /// Commands that make the tests able to run, for `sh -c` at its root, one after the other; an empty list for none.
    /// Default: from the repository, as far as `setup.repository_commands` lets it.
    pub setup: Option<Vec<String>>,
    /// As `setup.repository_commands`, for this repository.
    pub repository_commands: Option<RepositoryCommands>,
    /// As `setup.repository`, for this repository.
    pub repository: Option<ShowRepository>,
    /// Keys of `[policy]` that are others for this repository.
    pub policy: toml::Table,
    /// Added to `network.allow`. Default: none.
    pub network_allow: Vec<super::network::AllowEntry>,
    /// Added to `network.agent_allow`. Default: none.
    pub network_agent_allow: Vec<super::network::AllowEntry>,
}

/// What the tests of repositories need, and what is made ready before a task.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetupSection {
    /// Default: true.
    pub enabled: Option<bool>,
    /// `run`: commands that a repository gives make its tests able to run. `ignore`: only fixed commands for the lock
    /// files that are there, without packages' scripts where the tool can do so. Default: `run`.
    pub repository_commands: Option<RepositoryCommands>,
    /// `auto`, `always` or `never`: boxes show a repository of the base at `/workspace/.git`, with the nearest tag. `auto`:
    /// where a tool that takes versions from tags, or a test that calls git, is found in the base. Default: `auto`.
    pub repository: Option<ShowRepository>,
    /// All commands of one setup. Default: 600.
    pub seconds: Option<u64>,
    /// What is kept for later tasks, on the disk of the workspace. Default: 20480.
    pub keep_mib: Option<u64>,
}

/// What `patchwright serve` does beyond a single run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSection {
    /// Dispatch repositories, as `owner/name`. Required, here or as `DISPATCH_REPO` or `--dispatch`.
    pub dispatch: Vec<String>,
    /// The label of issues that are tasks. Default: `copilot-agent`.
    pub label: Option<String>,
    /// Ask the forge for new issues again and again. Default: true; `false` needs webhooks.
    pub polling: Option<bool>,
    /// Default: 60.
    pub poll_seconds: Option<u64>,
    /// Logins whose issues are worked although they cannot write to the dispatch repository. Default: none.
    pub allowed_authors: Vec<String>,
    /// Tasks that are worked at a time. Default: 3.
    pub workers: Option<u32>,
    /// Tasks of one target repository that are worked at a time. Default: as many as `workers`.
    pub workers_per_repository: Option<u32>,
    /// How often a task is tried again after a transient failure. Default: 3.
    pub retries: Option<u32>,
    /// Before the first of them; doubles each time, up to an hour. Default: 60.
    pub retry_seconds: Option<u64>,
    /// A task from which nothing is heard for so long is given up. Default: 900.
    pub stall_seconds: Option<u64>,
    /// How long running tasks may go on after a signal to stop. Default: 10.
    pub drain_seconds: Option<u64>,
    /// Where webhooks, health and metrics are answered. Default: `127.0.0.1:8080`.
    pub listen: Option<String>,
    /// A file that holds the webhooks' secret. Default: none; without one there are no webhooks.
    pub webhook_secret_file: Option<PathBuf>,
    /// The largest webhook that is read. Default: 1024.
    pub webhook_kib: Option<u64>,
    /// Answer `/metrics`. Default: true.
    pub metrics: Option<bool>,
    /// Also answer `/metrics` on this port. Default: none.
    pub metrics_port: Option<u16>,
    /// Answer `/healthz` and `/readyz`. Default: true.
    pub health: Option<bool>,
    /// Also answer `/healthz` and `/readyz` on this port. Default: none.
    pub health_port: Option<u16>,
    /// No task begins while the workspace holds more. Default: no limit.
    pub workspace_mib: Option<u64>,
    /// No task begins while the workspace's disk has less room. Default: 256.
    pub free_mib: Option<u64>,
}

/// What may be spent, for one attempt at a task, and from midnight to midnight (UTC); past that, nothing new begins.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSection {
    /// Prompts and answers of all tasks. Default: no limit.
    pub tokens_a_day: Option<u64>,
    /// Of the tasks for one target repository. Default: no limit.
    pub repository_tokens_a_day: Option<u64>,
    /// Of one attempt at a task, which then ends with what it has; in the currency of the prices. Tokens that the
    /// model's server does not count are estimated. Default: no limit.
    pub cost_a_task: Option<f64>,
    /// Answers without a count of tokens are left out. Default: no limit.
    pub cost_a_day: Option<f64>,
    pub repository_cost_a_day: Option<f64>,
}
