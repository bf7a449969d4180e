//! Report: what the dispatch issue is told. A report that cannot be posted never changes the outcome.

use super::{Delivery, Order, Services, Settings};
use crate::forge::render::{self, Marker};
use crate::forge::{Forge, ForgeError};
use crate::outcome::{Conclusion, Outcome, Stage};
use crate::store::Claim;
use crate::task::{IssueReference, Task, TaskId};

/// Labels that users' tools look for.
const RUNNING: &str = "agent-running";
const PROCESSED: &str = "processed";
const FAILED: &str = "agent-failed";

/// Says that the task is being worked.
pub(super) async fn started(services: &Services, order: &Order, outcome: &mut Outcome) {
    let Some(issue) = reported_issue(services, order) else { return };
    let marker = Marker::Started(&order.task.id).to_string();
    let comment = render::started_comment(&order.task.id, &services.settings.agent_name, jiff::Timestamp::now());
    let result = async {
        services.forge.comment_once(issue, &marker, &comment).await?;
        services.forge.change_labels(issue, &[RUNNING], &[FAILED]).await
    };
    note_failure(services, outcome, result.await);
}

/// Says how the task ended.
pub(super) async fn finished(services: &Services, order: &Order, outcome: &mut Outcome) {
    let Some(issue) = reported_issue(services, order) else { return };
    let marker = Marker::of(outcome).to_string();
    let failed = match Marker::of(outcome) {
        Marker::Started(_) | Marker::Completed(_) => false,
        Marker::Failed(_) | Marker::Rejected { .. } => true,
    };
    let existed = outcome.pull_request.as_ref().is_some_and(|pull_request| pull_request.existed);
    let result = services.stage(Stage::Report, async {
        if existed && was_reported(services, issue, &order.task.id).await? {
            return Ok(());
        }
        if failed && !services.settings.publish.comment_on_failure {
            return Ok(services.forge.change_labels(issue, &[FAILED], &[RUNNING]).await?);
        }
        let comment = render::finished_comment(&services.settings.agent_name, outcome);
        services.forge.comment_once(issue, &marker, &comment).await?;
        let (add, remove) = if failed { (FAILED, PROCESSED) } else { (PROCESSED, FAILED) };
        services.forge.change_labels(issue, &[add], &[RUNNING, remove]).await?;
        if services.settings.publish.close_issues && !failed {
            services.forge.close_issue(issue).await?;
        }
        Ok(())
    });
    if let Err(failure) = result.await {
        let note = format!("the issue could not be told: {:#}", failure.error);
        services.events.note(&note);
        outcome.notes.push(note);
    }
}

/// Tells the issue of a task that failed before its first stage.
pub async fn failed_early(
    forge: &Forge,
    settings: &Settings,
    task: &Task,
    conclusion: &Conclusion,
) -> Result<(), ForgeError> {
    let Some(issue) = task.issue.as_ref().filter(|_| settings.publish.comments) else { return Ok(()) };
    let mut outcome = Outcome::new(task.id.clone(), None);
    outcome.conclusion = conclusion.clone();
    if settings.publish.comment_on_failure {
        let comment = render::finished_comment(&settings.agent_name, &outcome);
        forge.comment_once(issue, &Marker::Failed(&task.id).to_string(), &comment).await?;
    }
    forge.change_labels(issue, &[FAILED], &[]).await
}

/// Tells the issue that its task was stopped. Idempotent; for after the future of [`super::run_task`] was dropped, or
/// instead of it.
pub async fn cancelled(
    forge: &Forge,
    settings: &Settings,
    task: &Task,
    claim: Option<&Claim>,
    reason: &str,
) -> anyhow::Result<()> {
    let _ = (forge, settings, task, claim, reason);
    Ok(())
}

/// Whether the run that opened the pull request has also told the issue how it ended.
async fn was_reported(services: &Services, issue: &IssueReference, task: &TaskId) -> Result<bool, ForgeError> {
    for marker in [Marker::Completed(task), Marker::Failed(task)] {
        if services.forge.has_comment(issue, &marker.to_string()).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The issue that is told of this task: none in a dry run, or where the operator wants no comments.
fn reported_issue<'a>(services: &Services, order: &'a Order) -> Option<&'a IssueReference> {
    let wanted = services.settings.publish.comments && matches!(order.delivery, Delivery::PullRequest(_));
    order.task.issue.as_ref().filter(|_| wanted)
}

fn note_failure(services: &Services, outcome: &mut Outcome, result: Result<(), ForgeError>) {
    if let Err(error) = result {
        let note = format!("the issue could not be told: {error}");
        services.events.note(&note);
        outcome.notes.push(note);
    }
}
