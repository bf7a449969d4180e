//! `patchwright.toml`: the operator's config. Unknown keys fail. It is never read from a repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::flags::SandboxFlag;
use crate::pipeline::{PatchMode, UnverifiedPolicy};

/// The whole file; every key is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Named in comments. Default: `Patchwright`.
    pub agent_name: Option<String>,
    /// Folder for mirrors and tasks. Default: the user's cache folder, and the system's temporary folder.
    pub workspace: Option<PathBuf>,
    /// Folder with prompts that replace the built-in ones of the same name. Default: none.
    pub prompts: Option<PathBuf>,
    /// Repositories that an issue may name as its target, as `owner/name` or `owner/*`.
    /// Default: those of the dispatch repository's owner.
    pub allowed_targets: Option<Vec<String>>,
    pub github: GithubSection,
    pub model: ModelSection,
    pub sandbox: SandboxSection,
    pub limits: LimitsSection,
    pub commit: CommitSection,
    pub publish: PublishSection,
    pub log: super::logging::LogSection,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    pub endpoint: Option<String>,
    pub name: Option<String>,
    /// A file that holds the key. Default: none; the environment's `LLM_API_KEY` wins.
    pub key_file: Option<PathBuf>,
    /// The context window in tokens. Default: what the server tells.
    pub context_window: Option<u64>,
    /// The longest answer in tokens. Default: 4096.
    pub max_output_tokens: Option<u32>,
    /// Default: the server's own.
    pub temperature: Option<f32>,
    /// How long the model may be silent, in seconds. Default: 300.
    pub silence_seconds: Option<u64>,
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// The whole task. Default: 1800.
    pub task_seconds: Option<u64>,
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
    /// What becomes of a change that is not verified: `draft` or `none`. Default: `draft`.
    pub unverified: Option<UnverifiedPolicy>,
    /// Comments and labels on the dispatch issue. Default: true.
    pub comments: Option<bool>,
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
}
