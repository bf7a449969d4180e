//! The set of bugs in `tests/bugs/`: each becomes a git repository, and a line of a file for `patchwright eval`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::git;
use crate::github::copy;

/// The file of tasks in the folder that [`write`] fills.
pub const TASKS: &str = "tasks.jsonl";

/// One bug, as its folder has it.
#[derive(Debug, Clone)]
pub struct Bug {
    pub name: String,
    /// Holds `repo/`, `hidden/` and `fix.patch`.
    pub folder: PathBuf,
    pub task: Task,
}

/// `task.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    pub language: String,
    pub level: Level,
    pub visible: Visible,
    pub files: Vec<String>,
    pub test_command: String,
    pub problem_statement: String,
}

/// How hard it is, as its author thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Easy,
    Medium,
    Hard,
}

/// What the tests that the agent sees do before anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visible {
    Passes,
    Fails,
}

/// All bugs, by name.
pub fn all() -> anyhow::Result<Vec<Bug>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bugs");
    let entries = std::fs::read_dir(&root).with_context(|| format!("cannot read {}", root.display()))?;
    let mut bugs = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        if !folder.join("task.toml").is_file() {
            continue;
        }
        let text = std::fs::read_to_string(folder.join("task.toml"))?;
        let task = toml::from_str(&text).with_context(|| format!("{} does not fit", folder.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bugs.push(Bug { name, folder, task });
    }
    bugs.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(bugs)
}

/// Makes `repos/NAME` for each bug, and `tasks.jsonl`; `out` must be empty or new. The same bugs make the same commits.
pub async fn write(out: &Path, bugs: &[Bug]) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let is_empty = std::fs::read_dir(out)?.next().is_none();
    anyhow::ensure!(is_empty, "{} is not empty. Name a new folder", out.display());
    let mut lines = String::new();
    for bug in bugs {
        let line = make(out, bug).await.with_context(|| format!("the bug {} cannot be used", bug.name))?;
        lines.push_str(&format!("{line}\n"));
    }
    Ok(std::fs::write(out.join(TASKS), lines)?)
}

/// The repository with one commit, and the task's line.
async fn make(out: &Path, bug: &Bug) -> anyhow::Result<Value> {
    let place = format!("repos/{}", bug.name);
    let folder = out.join(&place);
    copy(&bug.folder.join("repo"), &folder)?;
    git::bytes(&folder, &["init", "--quiet", "--template=", "--initial-branch=main"]).await?;
    let base = git::commit_all(&folder, "All there is so far", 0).await?;
    copy(&bug.folder.join("hidden"), &folder)?;
    git::bytes(&folder, &["add", "--all", "--force"]).await?;
    let patch = git::text(&folder, &["diff", "--cached", "--binary", "HEAD"]).await?;
    git::bytes(&folder, &["reset", "--quiet", "--hard", "HEAD"]).await?;
    // What is not in any commit is not there for an agent to find either.
    git::bytes(&folder, &["prune", "--expire=now"]).await?;
    Ok(json!({
        "instance_id": bug.name,
        "repo": place,
        "base_commit": base,
        "problem_statement": bug.task.problem_statement.trim(),
        "test_patch": patch + "\n",
        "test_command": bug.task.test_command,
        "language": bug.task.language,
        "level": bug.task.level,
        "files": bug.task.files,
    }))
}
