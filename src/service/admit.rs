//! Admission: what polling and webhooks see of an issue becomes a row of the queue, or a refusal that is told once.
//!
//! 1. what is no task is passed over: pull requests, closed issues, issues without the label or without a text;
//! 2. a text that is known is left alone;
//! 3. whether the text can be trusted is judged ([`trust::judge`]);
//! 4. it is parsed, and its target checked against the operator's allow list;
//! 5. the store takes it in, or meets the row that is there.

use anyhow::Context;

use super::Service;
use super::trust::{self, Judgement, Sighting};
use crate::forge::{ForgeError, Issue};
use crate::pipeline::{self, intake};
use crate::store::{Admission, NewTask, Page, Priority, State, TaskRecord};
use crate::task::{self, IssueReference, Rejection, RepositoryName};

/// Why tasks of issues that are no longer tasks are cancelled. An issue that is one again is queued again.
pub(super) const CLOSED: &str = "the issue was closed";
pub(super) const UNLABELLED: &str = "the label was removed";

/// Takes an issue in, if it is a task. `labeller`: who sets the dispatch label at this moment, if the forge tells so.
/// An error is one of the world: the issue is to be looked at again.
pub(super) async fn consider(
    service: &Service,
    dispatch: &RepositoryName,
    issue: &Issue,
    labeller: Option<&str>,
) -> anyhow::Result<()> {
    let is_task = issue.pull_request.is_none() && issue.state == "open" && has_label(issue, &service.config.label);
    let Some(body) = issue.body.as_deref().filter(|_| is_task) else { return Ok(()) };
    let reference = IssueReference { repository: dispatch.clone(), number: issue.number };
    let revision = intake::revision(&issue.title, body);
    let record = service.store.task_of(&reference).await?.filter(|record| record.state != State::Refused);
    if let Some(record) = &record
        && intake::revision(&record.title, &record.body) == revision
    {
        return meet_again(service, issue, record).await;
    }
    let author = issue.user.as_ref().map(|user| user.login.as_str()).unwrap_or_default();
    let sighting = Sighting { edited: record.is_some(), ..sight(service, &reference, issue, author, labeller).await? };
    match trust::judge(&sighting) {
        Judgement::Admit => {}
        Judgement::Ignore => {
            tracing::debug!("{reference} was edited by somebody who may not write; the text that was admitted stays");
            return Ok(());
        }
        Judgement::Refuse(reason) => return refuse(service, &reference, issue, ("author", &revision), reason).await,
    }
    let parsed = match task::parse_issue(&issue.title, Some(body), reference.clone()) {
        Ok(parsed) => parsed,
        Err(Rejection::Empty) => return Ok(()),
        Err(Rejection::Malformed(reason)) => {
            return refuse(service, &reference, issue, ("text", &revision), &reason).await;
        }
    };
    let (default, allowed) = (service.config.target_repository.as_ref(), service.config.allowed_targets.as_deref());
    let target = match intake::target_of(&parsed, &reference, default, allowed) {
        Ok(target) => target,
        Err(error) => {
            return refuse(service, &reference, issue, ("target", &revision), &format!("{error:#}")).await;
        }
    };
    let new = NewTask {
        issue: reference.clone(),
        id: parsed.id,
        title: issue.title.clone(),
        body: body.to_owned(),
        author: author.to_owned(),
        target,
        priority: priority_of(issue),
        created_at: milliseconds(&issue.created_at).unwrap_or_default(),
        revision: revision.clone(),
    };
    match service.store.admit(&new).await.context("cannot store the task")? {
        Admission::New | Admission::Requeued | Admission::Updated => {
            tracing::info!(task = %new.id, issue = %reference, "queued");
            service.queued.notify_one();
        }
        Admission::Known(_) | Admission::TooLate(_) => {}
        Admission::IdTaken { by } => {
            let reason = format!("its task id is that of {by} already. Give it another one");
            tell(service, &reference, ("id", &revision), &reason).await?;
        }
    }
    Ok(())
}

/// Whether an issue has a label; the forge compares without case.
pub(super) fn has_label(issue: &Issue, label: &str) -> bool {
    issue.labels.iter().any(|held| held.name.eq_ignore_ascii_case(label))
}

/// Milliseconds since 1970 of an RFC 3339 time.
pub(super) fn milliseconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Whether somebody is trusted: ourselves, on the operator's list, or with write access to the dispatch repository.
pub(super) async fn is_trusted(service: &Service, dispatch: &RepositoryName, login: &str) -> anyhow::Result<bool> {
    if login.is_empty() {
        return Ok(false);
    }
    let listed = service.config.allowed_authors.iter().any(|allowed| allowed.eq_ignore_ascii_case(login));
    if listed || is_own(service, login).await? {
        return Ok(true);
    }
    Ok(service.permissions.may_write(&service.forge, dispatch, login).await?)
}

/// Whether a login is our own, which a backend or its user often shares.
pub(super) async fn is_own(service: &Service, login: &str) -> anyhow::Result<bool> {
    match service.forge.login().await {
        Ok(own) => Ok(own.eq_ignore_ascii_case(login)),
        // The token of a workflow may not ask who it is.
        Err(ForgeError::Forbidden { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is to be known of a text before it is judged; asks no more than is needed.
async fn sight(
    service: &Service,
    reference: &IssueReference,
    issue: &Issue,
    author: &str,
    labeller: Option<&str>,
) -> anyhow::Result<Sighting> {
    let dispatch = &reference.repository;
    // A time that cannot be read is later than every label.
    let updated_at = milliseconds(&issue.updated_at).unwrap_or(i64::MAX);
    let mut sighting = Sighting { updated_at, ..Sighting::default() };
    if is_trusted(service, dispatch, author).await? {
        sighting.author_trusted = true;
        return Ok(sighting);
    }
    if let Some(labeller) = labeller {
        sighting.labelled_now = is_trusted(service, dispatch, labeller).await?;
        if sighting.labelled_now {
            return Ok(sighting);
        }
    }
    let settings = service.forge.labelled(reference).await?;
    for setting in settings.iter().rev().filter(|setting| setting.label.eq_ignore_ascii_case(&service.config.label)) {
        if is_trusted(service, dispatch, &setting.actor).await? {
            sighting.labelled_at = Some(setting.at);
            break;
        }
    }
    Ok(sighting)
}

/// A text that is known already: its priority may have changed, or its issue be a task again.
async fn meet_again(service: &Service, issue: &Issue, record: &TaskRecord) -> anyhow::Result<()> {
    let priority = priority_of(issue);
    match record.state {
        State::Queued if record.priority != priority => {
            service.store.set_priority(&record.issue, priority).await?;
            service.queued.notify_one();
        }
        State::Cancelled if record.reason.contains(CLOSED) || record.reason.contains(UNLABELLED) => {
            // What a page or a payload says may be older than the cancelling.
            let now = service.forge.issue(&record.issue).await?;
            if now.state == "open"
                && has_label(&now, &service.config.label)
                && service.store.retry(record.key, "the issue is a task again").await?
            {
                service.queued.notify_one();
            }
        }
        State::Queued
        | State::Running
        | State::Completed
        | State::Failed
        | State::Dead
        | State::Cancelled
        | State::Refused => {}
    }
    Ok(())
}

/// Remembers that a text is not worked, and tells its issue once. `(kind, revision)` is not the text's own revision, so
/// that the same text is taken in as soon as the reason is gone.
async fn refuse(
    service: &Service,
    reference: &IssueReference,
    issue: &Issue,
    (kind, revision): (&str, &str),
    reason: &str,
) -> anyhow::Result<()> {
    let author = issue.user.as_ref().map(|user| user.login.as_str()).unwrap_or_default();
    let name = format!("{kind}-{revision}");
    if service.store.refuse(reference, &issue.title, author, &name, reason).await? {
        tracing::info!(issue = %reference, "refused: {reason}");
    }
    // What is worked or was worked stays what it is.
    if service.store.task_of(reference).await?.is_none_or(|record| record.state != State::Refused) {
        return Ok(());
    }
    tell(service, reference, (kind, revision), reason).await
}

async fn tell(
    service: &Service,
    reference: &IssueReference,
    (kind, revision): (&str, &str),
    reason: &str,
) -> anyhow::Result<()> {
    let name = format!("{kind}-{revision}");
    let memo = format!("refusal:{reference}");
    if service.store.page(&memo).await?.is_some_and(|page| page.etag == name) {
        return Ok(());
    }
    pipeline::refused(&service.forge, reference, &name, reason)
        .await
        .with_context(|| format!("{reference} could not be told that it is refused"))?;
    Ok(service.store.set_page(&memo, &Page { etag: name, memo: String::new() }).await?)
}

fn priority_of(issue: &Issue) -> Priority {
    if has_label(issue, "priority:high") {
        Priority::High
    } else if has_label(issue, "priority:low") {
        Priority::Low
    } else {
        Priority::Normal
    }
}
