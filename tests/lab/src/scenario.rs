//! Scenarios: folders of data, run through the real binary against a lab of their own. The format is told in the
//! lab's README.

mod check;
mod run;
mod transcript;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

pub use check::check;
pub use run::{Change, Report, environment, run};
pub use transcript::{compare, render};

use crate::github::{Fault, FaultRule, Permission};
use crate::model::Script;

/// One scenario as it stands on disk.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The folder's name.
    pub name: String,
    pub folder: PathBuf,
    /// `issue.md`: the issue's body, or the text of the task.
    pub text: String,
    pub settings: Settings,
    /// `replies.jsonl`; without it there is no model server.
    pub script: Option<Script>,
}

/// `scenario.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the scenario shows, in one sentence.
    pub about: String,
    /// The command line after `patchwright`, with placeholders.
    pub args: Vec<String>,
    #[serde(default)]
    pub serve: Serve,
    /// The issue's title.
    #[serde(default = "default_title")]
    pub title: String,
    /// The issue's body is `null`, and `issue.md` is not read.
    #[serde(default)]
    pub no_body: bool,
    #[serde(default = "default_target")]
    pub target: String,
    /// The repository with the issue; the target itself if absent.
    pub dispatch: Option<String>,
    #[serde(default = "default_labels")]
    pub labels: Vec<String>,
    #[serde(default = "default_branch")]
    pub branch: String,
    /// The branch that the result is compared with; the default one if absent.
    pub base: Option<String>,
    /// The repository has no commit.
    #[serde(default)]
    pub empty: bool,
    #[serde(default)]
    pub private: bool,
    #[serde(default)]
    pub without_filter: bool,
    #[serde(default = "default_permission")]
    pub permission: Permission,
    /// Programs that must be on the PATH; else the scenario cannot run here.
    #[serde(default)]
    pub requires: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Further texts that must be seen nowhere, besides the lab's own tokens.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// The model says secrets of its own accord: that they are in what it is sent is no violation.
    #[serde(default)]
    pub model_knows: bool,
    /// For the whole run, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
    /// How often the binary is run, one run after the other; all but the last may end as they like.
    #[serde(default = "default_runs")]
    pub runs: u32,
    #[serde(default)]
    pub faults: Vec<FaultSetting>,
    #[serde(default)]
    pub expect: Expectations,
}

/// Where the repository stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serve {
    /// On the lab's GitHub, with an issue.
    #[default]
    Github,
    /// In a local folder, `{repository}`.
    Local,
}

/// A fault, as [`FaultRule`] has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSetting {
    pub method: String,
    pub path: String,
    /// `secondary_limit`, `primary_limit`, `status`, `slow`, `hangup`, `answer_lost` or `cut_body`.
    pub fault: String,
    /// For `status`.
    pub status: Option<u16>,
    /// For the limits and for `slow`.
    pub seconds: Option<u64>,
    #[serde(default = "default_runs")]
    pub times: u32,
    #[serde(default)]
    pub after: u32,
}

/// What must come out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectations {
    pub exit: i32,
    pub stdout: Stdout,
    pub stdout_contains: Vec<String>,
    pub stderr_contains: Vec<String>,
    pub stderr_lacks: Vec<String>,
    /// Fields of the `--json` object, by JSON pointer.
    pub json: BTreeMap<String, toml::Value>,
    /// The branch with the result, on GitHub or in the local repository.
    pub branch: Option<String>,
    /// Paths that the result lacks and the base has.
    pub deleted: Vec<String>,
    /// Paths in `expected/` that are executable.
    pub executable: Vec<String>,
    /// Symbolic links that are new or changed, and their targets.
    pub symlinks: BTreeMap<String, String>,
    /// Nothing was changed at all: no branch, no diff.
    pub unchanged: bool,
    pub pull: Option<PullExpectation>,
    pub issue: Option<IssueExpectation>,
}

/// What standard output must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdout {
    #[default]
    Any,
    Empty,
    /// A diff that applies to the base.
    Diff,
    /// The address of the one pull request, on one line.
    PullRequest,
    /// One JSON object.
    Json,
}

/// The one pull request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PullExpectation {
    pub draft: bool,
    pub title: Option<String>,
    /// Exactly these labels, in any order.
    pub labels: Option<Vec<String>>,
    pub body: Vec<String>,
    pub body_lacks: Vec<String>,
}

/// The issue afterwards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueExpectation {
    /// Exactly these labels, in any order.
    pub labels: Option<Vec<String>>,
    /// A text for each comment that was added, in order.
    pub comments: Option<Vec<String>>,
    #[serde(default = "yes")]
    pub open: bool,
}

/// The scenario folders below `folder`, sorted by name.
pub fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.join("scenario.toml").is_file());
    found.sort();
    Ok(found)
}

/// Runs scenarios one after the other and prints what does not fit; `true` if all fits. Without folders: all of the
/// repository's.
pub async fn run_folders(binary: &Path, mut folders: Vec<PathBuf>) -> anyhow::Result<bool> {
    if folders.is_empty() {
        folders = list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"))?;
    }
    let binary = binary.canonicalize().with_context(|| format!("cannot find {}", binary.display()))?;
    let mut all_fit = true;
    for folder in folders {
        let scenario = Scenario::load(&folder)?;
        if let Some(program) = scenario.missing_program() {
            println!("SKIPPED {}: there is no {program}", scenario.name);
            continue;
        }
        let report = run(&binary, &scenario).await?;
        let mut wrong = check(&report, &scenario);
        wrong.extend(compare(&report, &scenario)?);
        all_fit &= wrong.is_empty();
        let word = if wrong.is_empty() { "ok" } else { "FAILED" };
        println!("{word} {} ({:.1} s)", scenario.name, report.elapsed.as_secs_f64());
        wrong.iter().for_each(|wrong| println!("  - {}", wrong.replace('\n', "\n    ")));
    }
    Ok(all_fit)
}

impl Scenario {
    /// Reads a scenario's folder.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let read = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .with_context(|| format!("cannot read {name} of {}", folder.display()))
        };
        let settings: Settings = toml::from_str(&read("scenario.toml")?)
            .with_context(|| format!("scenario.toml of {}", folder.display()))?;
        for fault in &settings.faults {
            fault.rule()?;
        }
        let text = if settings.no_body { String::new() } else { read("issue.md")? };
        let script = match folder.join("replies.jsonl").exists() {
            true => Some(Script::parse(&read("replies.jsonl")?).with_context(|| folder.display().to_string())?),
            false => None,
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, folder, text, settings, script })
    }

    /// The first of the programs it needs that is not on the PATH, or of the commands (with a space) that fail.
    pub fn missing_program(&self) -> Option<&str> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        let found = |needed: &str| match needed.contains(' ') {
            true => {
                std::process::Command::new("sh").args(["-c", needed]).output().is_ok_and(|run| run.status.success())
            }
            false => on_path(needed),
        };
        self.settings.requires.iter().map(String::as_str).find(|program| !found(program))
    }

    /// The repository with the issue.
    pub fn dispatch(&self) -> &str {
        self.settings.dispatch.as_deref().unwrap_or(&self.settings.target)
    }
}

impl FaultSetting {
    fn rule(&self) -> anyhow::Result<FaultRule> {
        let seconds = self.seconds.unwrap_or(1);
        let fault = match self.fault.as_str() {
            "secondary_limit" => Fault::SecondaryLimit { retry_after: seconds },
            "primary_limit" => Fault::PrimaryLimit { seconds },
            "status" => Fault::Status(self.status.context("the fault `status` needs `status`")?),
            "slow" => Fault::Slow(Duration::from_secs(seconds)),
            "hangup" => Fault::Hangup,
            "answer_lost" => Fault::AnswerLost,
            "cut_body" => Fault::CutBody,
            other => anyhow::bail!("there is no fault `{other}`"),
        };
        Ok(FaultRule::new(&self.method, &self.path, fault).times(self.times).after(self.after))
    }
}

fn default_title() -> String {
    "Agent Task".into()
}

fn default_target() -> String {
    "acme/widgets".into()
}

fn default_branch() -> String {
    "main".into()
}

fn default_labels() -> Vec<String> {
    vec!["copilot-agent".into()]
}

fn default_permission() -> Permission {
    Permission::Write
}

fn default_timeout() -> u64 {
    120
}

fn default_runs() -> u32 {
    1
}

fn yes() -> bool {
    true
}
