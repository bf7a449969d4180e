//! Report: what the dispatch issue is told. A report that cannot be posted never changes the outcome.

use std::time::Duration;

use super::effect::effect;
use super::publish;
use super::status::{self, Status};
use super::transient::{is_unauthorized, transience};
use super::{Delivery, Ending, Halt, Order, Services, Settings};
use crate::forge::render::{self, Logs, Marker, Standing};
use crate::forge::{CommitState, CommitStatus, Forge, ForgeError};
use crate::outcome::{Conclusion, Outcome, Stage, Verdict};
use crate::store::{Claim, Effect, StoreError};
use crate::task::{IssueReference, Task};

/// Labels that users' tools look for.
const RUNNING: &str = "agent-running";
const PROCESSED: &str = "processed";
const FAILED: &str = "agent-failed";
/// The context of the commit status.
const CONTEXT: &str = "patchwright/verify";

/// Says that the task is being worked.
pub(super) async fn started(services: &Services, order: &Order, outcome: &mut Outcome) -> Result<(), Halt> {
    let Some(issue) = reported_issue(order) else { return Ok(()) };
    let (claim, forge) = (order.claim.as_ref(), &services.dispatch);
    let marker = Marker::Started(&order.task.id).to_string();
    let comment = render::started_comment(&order.task.id, &services.settings.agent_name, jiff::Timestamp::now());
    let told = async {
        if services.settings.publish.comments {
            let post = forge.comment_once(issue, &marker, &comment);
            effect(claim, Effect::StartedComment, "", post, |()| String::new()).await?;
        }
        let label = forge.change_labels(issue, &[RUNNING], &[FAILED]);
        effect(claim, Effect::RunningLabels, "", label, |()| String::new()).await
    };
    match told.await.map_err(|error| Halt::at(Stage::Intake, error)) {
        Ok(()) => Ok(()),
        Err(Halt::Failed(failure)) => {
            note(services, outcome, format!("the issue could not be told: {:#}", failure.error));
            Ok(())
        }
        Err(halt) => Err(halt),
    }
}

/// Says how the task ended: on the commit, in the comments, and with labels. What fails is noted; with a claim, what
/// failed for a reason that may pass is left to another claim.
pub(super) async fn finished(
    services: &Services,
    order: &Order,
    status: &Status,
    mut outcome: Outcome,
) -> Result<Ending, StoreError> {
    mark_commit(services, order, &mut outcome).await?;
    if reported_issue(order).is_none() && !status.is_wanted() && publish::needs_label(order, &outcome).is_none() {
        return Ok(Ending::Reported(outcome));
    }
    let told = services.stage(order, Stage::Report, async {
        let mut told = publish::label(services, order, &outcome).await;
        if told.as_ref().is_err_and(|error| error.is::<StoreError>()) {
            return told;
        }
        told = tell(services, order, &outcome).await.and(told);
        if told.as_ref().is_err_and(|error| error.is::<StoreError>()) {
            return told;
        }
        status.end(Standing::Ended(&outcome)).await.and(told)
    });
    let failure = match told.await {
        Ok(()) => return Ok(Ending::Reported(outcome)),
        Err(Halt::Stopped(error)) => return Err(error),
        Err(Halt::Failed(failure)) => failure,
    };
    let reason = format!("not everything could be told: {:#}", failure.error);
    note(services, &mut outcome, reason.clone());
    if order.claim.is_some() && is_unauthorized(&failure.error) {
        return Ok(Ending::Unauthorized);
    }
    Ok(match (transience(&failure.error), &order.claim) {
        (Some(after), Some(_)) => Ending::Unreported { outcome, reason, after },
        (Some(_) | None, _) => Ending::Reported(outcome),
    })
}

/// Says that the task goes on after a while. That it could not be said matters to nobody.
pub(super) async fn again(
    services: &Services,
    status: &Status,
    outcome: Outcome,
    after: Duration,
) -> Result<Ending, StoreError> {
    let cause = match &outcome.conclusion {
        Conclusion::Failed { stage, cause, .. } => format!("in `{}`, {cause}", stage.name()),
        Conclusion::Verified
        | Conclusion::NeedsReview
        | Conclusion::Unverified
        | Conclusion::NoChange
        | Conclusion::BudgetRanOut { .. } => String::new(),
    };
    let at = jiff::Timestamp::now();
    let at = at.checked_add(jiff::SignedDuration::try_from(after).unwrap_or_default()).unwrap_or(at);
    match status.end(Standing::Again { at, cause: &cause }).await.map_err(anyhow::Error::downcast::<StoreError>) {
        Ok(()) => {}
        Err(Ok(error)) => return Err(error),
        Err(Err(error)) => services.events.note(format!("the issue could not be told: {error:#}")),
    }
    Ok(Ending::Again { outcome, after })
}

/// Tells the issue of a task that failed before its first stage.
pub async fn failed_early(
    forge: &Forge,
    settings: &Settings,
    task: &Task,
    conclusion: &Conclusion,
) -> Result<(), ForgeError> {
    let Some(issue) = &task.issue else { return Ok(()) };
    let mut outcome = Outcome::new(task.id.clone(), None);
    outcome.conclusion = conclusion.clone();
    if settings.publish.comments && settings.publish.comment_on_failure {
        let comment = render::finished_comment(&settings.agent_name, &outcome, Logs::Runner);
        forge.comment_once(issue, &Marker::Failed(&task.id).to_string(), &comment).await?;
    }
    forge.change_labels(issue, &[FAILED], &[]).await
}

/// Tells the issue that its task was stopped. Idempotent; for after the future of [`super::run_task`] was dropped, or
/// instead of it. `forge` is the dispatch repository's.
pub async fn cancelled(
    forge: &Forge,
    settings: &Settings,
    task: &Task,
    claim: Option<&Claim>,
    reason: &str,
) -> anyhow::Result<()> {
    if let Some(issue) = &task.issue {
        let label = forge.change_labels(issue, &[], &[RUNNING]);
        effect(claim, Effect::FinishedLabels, "", label, |()| String::new()).await?;
    }
    status::put(forge, settings, task, claim, Standing::Stopped { reason }).await
}

/// Says on the status comment what a task waits for that cannot begin. `forge` is the dispatch repository's.
pub async fn waiting(
    forge: &Forge,
    settings: &Settings,
    task: &Task,
    claim: Option<&Claim>,
    reason: &str,
) -> anyhow::Result<()> {
    status::put(forge, settings, task, claim, Standing::Waiting { reason }).await
}

async fn tell(services: &Services, order: &Order, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(issue) = reported_issue(order) else { return Ok(()) };
    let (claim, forge, publish) = (order.claim.as_ref(), &services.dispatch, &services.settings.publish);
    let marker = Marker::of(outcome);
    let failed = match marker {
        Marker::Started(_) | Marker::Completed(_) | Marker::Status(_) => false,
        Marker::Failed(_) | Marker::Rejected { .. } => true,
    };
    let marker = marker.to_string();
    let existed = outcome.pull_request.as_ref().is_some_and(|pull_request| pull_request.existed);
    // The run that has opened the pull request has told the same. An older failure says nothing of this end.
    if existed && forge.has_comment(issue, &marker).await? {
        return Ok(());
    }
    if publish.comments && (!failed || publish.comment_on_failure) {
        let logs = if claim.is_some() { Logs::Store } else { Logs::Runner };
        let comment = render::finished_comment(&services.settings.agent_name, outcome, logs);
        let post = async {
            match claim {
                // A task that is tried anew may fail anew, for another reason than its comment tells.
                Some(_) => forge.put_comment(issue, &marker, &comment, None).await.map(|number| number.to_string()),
                None => forge.comment_once(issue, &marker, &comment).await.map(|()| String::new()),
            }
        };
        effect(claim, Effect::FinishedComment, "", post, String::clone).await?;
    }
    let (add, remove) = if failed { (FAILED, PROCESSED) } else { (PROCESSED, FAILED) };
    let (added, removed) = ([add], [RUNNING, remove]);
    let label = forge.change_labels(issue, &added, &removed);
    effect(claim, Effect::FinishedLabels, add, label, |()| String::new()).await?;
    if publish.close_issues && !failed {
        effect(claim, Effect::CloseIssue, "", forge.close_issue(issue), |()| String::new()).await?;
    }
    Ok(())
}

/// Sets the verdict as a status of the commit that the pull request was opened for. A token that may not do so is no
/// failure of the task.
async fn mark_commit(services: &Services, order: &Order, outcome: &mut Outcome) -> Result<(), StoreError> {
    let Delivery::PullRequest(repository) = &order.delivery else { return Ok(()) };
    let ours = outcome.pull_request.as_ref().is_some_and(|pull_request| !pull_request.existed);
    let (Some(commit), Some(verdict)) = (outcome.commit.clone(), &outcome.verdict) else { return Ok(()) };
    let Some(state) = state_of(verdict).filter(|_| ours && services.settings.publish.commit_status) else {
        return Ok(());
    };
    let status = CommitStatus {
        state,
        context: CONTEXT.into(),
        description: render::verdict_description(verdict),
        target_url: None,
    };
    let set = services.forge.set_status(repository, &commit, &status);
    match effect(order.claim.as_ref(), Effect::CommitStatus, &commit, set, |()| String::new()).await {
        Ok(()) => Ok(()),
        Err(error) => match error.downcast::<StoreError>() {
            Ok(error) => Err(error),
            Err(error) => {
                note(services, outcome, format!("the commit's status could not be set: {error:#}"));
                Ok(())
            }
        },
    }
}

/// What a verdict is as a commit status. What was not tested has none: a green or red mark would say that it was.
fn state_of(verdict: &Verdict) -> Option<CommitState> {
    match verdict {
        Verdict::Verified => Some(CommitState::Success),
        Verdict::Broken | Verdict::StillRed => Some(CommitState::Failure),
        Verdict::Inconclusive { .. } => Some(CommitState::Error),
        Verdict::Untested { .. } => None,
    }
}

/// The issue that is told of an order: none in a dry run.
fn reported_issue(order: &Order) -> Option<&IssueReference> {
    order.task.issue.as_ref().filter(|_| order.is_published())
}

fn note(services: &Services, outcome: &mut Outcome, text: String) {
    services.events.note(&text);
    outcome.notes.push(text);
}
