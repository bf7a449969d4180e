//! Intake: an issue or a line of the user becomes a task with a target that the operator allows.

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::forge::{Forge, ForgeError, render};
use crate::task::{self, IssueReference, Rejection, RepositoryName, Task, TaskId};
use crate::weak::{self, Defence};

/// The label of an issue that could not be worked.
const FAILED: &str = "agent-failed";

/// Reads a task from its dispatch issue. With `tell`, a text that is no task is answered on the issue, once.
pub async fn from_issue(forge: &Forge, reference: &IssueReference, tell: bool) -> anyhow::Result<Task> {
    let issue = forge.issue(reference).await?;
    if issue.pull_request.is_some() {
        bail!("{reference} is a pull request, not an issue. Give the number of the dispatch issue");
    }
    match task::parse_issue(&issue.title, issue.body.as_deref(), reference.clone()) {
        Ok(task) => Ok(task),
        Err(rejection) => {
            // An issue without a text is not a task at all, so there is nothing to tell anybody.
            if tell && rejection != Rejection::Empty {
                let revision = revision(&issue.title, issue.body.as_deref().unwrap_or_default());
                // A rejection that cannot be posted is still the rejection that the user must read.
                if let Err(error) = refused(forge, reference, &revision, &rejection.to_string()).await {
                    tracing::warn!("the issue could not be told: {error}");
                }
            }
            Err(rejection).with_context(|| format!("{reference} is not a task"))
        }
    }
}

/// Names a text of an issue: another one is another text.
pub fn revision(title: &str, body: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(title.as_bytes());
    hash.update([0]);
    hash.update(body.as_bytes());
    hex::encode(hash.finalize()).chars().take(16).collect()
}

/// Tells an issue once, for this text of it, why it is not worked.
pub async fn refused(forge: &Forge, issue: &IssueReference, revision: &str, reason: &str) -> Result<(), ForgeError> {
    let marker = render::Marker::Rejected { issue: issue.number, revision }.to_string();
    forge.comment_once(issue, &marker, &render::rejection_comment(issue.number, revision, reason)).await?;
    forge.change_labels(issue, &[FAILED], &[]).await
}

/// Makes a task of an instruction from the command line. Without `id`, the same instruction for the same base has the same id, so that a second run finds the first one's pull request.
pub fn from_command_line(
    instruction: &str,
    id: Option<TaskId>,
    repository: &str,
    base: Option<&str>,
) -> Result<Task, Rejection> {
    let derived = || {
        let name = format!("{repository}\n{}\n{instruction}", base.unwrap_or_default());
        TaskId::parse(&Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string())
    };
    match id.or_else(derived) {
        Some(id) => task::from_command_line(instruction, id),
        None => Err(Rejection::Malformed("no id could be derived; give one with --task-id".into())),
    }
}

/// The repository that a task is for: what its text names, else the operator's default, else the dispatch repository.
/// It must be on the operator's allow list, by default: repositories of the dispatch repository's owner, and the
/// operator's own default.
pub fn target_of(
    task: &Task,
    issue: &IssueReference,
    default: Option<&RepositoryName>,
    allowed: Option<&[String]>,
) -> anyhow::Result<RepositoryName> {
    let named = task.target.as_ref().or(default).unwrap_or(&issue.repository);
    let own: Vec<String> =
        [format!("{}/*", issue.repository.owner)].into_iter().chain(default.map(ToString::to_string)).collect();
    let allowed = allowed.unwrap_or(&own);
    let is_allowed =
        weak::is_off(Defence::AllowedTargets) || allowed.iter().any(|pattern| matches_repository(pattern, named));
    if !is_allowed {
        bail!(
            "the target {named} is not on the allow list ({}). Add it to `allowed_targets` in \
             patchwright.toml, or name it with --repo",
            allowed.join(", ")
        );
    }
    Ok(named.clone())
}

/// `owner/name` or `owner/*`, in any case, as GitHub compares names.
fn matches_repository(pattern: &str, repository: &RepositoryName) -> bool {
    match pattern.split_once('/') {
        Some((owner, "*")) => owner.eq_ignore_ascii_case(&repository.owner),
        Some((owner, name)) => {
            owner.eq_ignore_ascii_case(&repository.owner) && name.eq_ignore_ascii_case(&repository.name)
        }
        None => false,
    }
}
