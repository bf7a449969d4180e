//! Admission: what polling and webhooks see of an issue becomes a row of the queue, or a refusal that is told once.
//!
//! 1. what is no task is passed over: pull requests, closed issues, issues without the label or without a text;
//! 2. what is known already is left alone;
//! 3. where more is known than this, what was seen may be old: the issue is read anew;
//! 4. whether the text can be trusted is judged ([`trust::judge`]);
//! 5. it is parsed, and its target checked against the operator's allow list;
//! 6. the store takes it in, or meets the row that is there.
//!
//! Payloads come late, twice and in any order, and pages are worked while payloads come. So of one issue one thing is
//! considered at a time, and only the very first that is seen of it is believed as it stands.

use anyhow::Context;
use tokio::sync::{Mutex, MutexGuard};

use super::Service;
use super::poll;
use super::trust::{self, Judgement, Sighting};
use crate::forge::{ForgeError, Issue};
use crate::pipeline::{self, intake};
use crate::store::{Admission, NewTask, Page, Priority, State, TaskRecord};
use crate::task::{self, IssueReference, Rejection, RepositoryName};

/// Why tasks of issues that are no longer tasks are cancelled. An issue that is one again is queued again.
const CLOSED: &str = "the issue was closed";
const UNLABELLED: &str = "the label was removed";
/// So often the forge is given time to know itself what it has told.
pub(super) const PATIENCE: u32 = 4;
/// Why an answer is not acted on.
const BEHIND: &str = "the forge answers with what was before";
/// The forge's times are in seconds. What was changed longer ago than this, in milliseconds, was not changed again
/// within its second.
const SETTLED: i64 = 10_000;

/// What is seen of an issue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub issue: &'a Issue,
    /// Who sets the dispatch label at this moment, if the forge tells so.
    pub labeller: Option<&'a str>,
    /// How often this was looked at before; later than the first time it may be old.
    pub attempt: u32,
}

/// How it is known that an issue is no task any more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Departure<'a> {
    /// It stands on no page.
    Unlisted,
    /// A payload says so, which shows the issue as of this time.
    Told(&'a str),
    /// It is not there any more, so that there is nobody to ask.
    Deleted,
}

/// What came of a look at an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Considered {
    Done,
    /// It cannot be decided yet, and why; nothing is wrong.
    LookAgain(&'static str),
}

/// One thing at a time for an issue: between a look at what is known of it and what follows, nobody else may act.
pub(super) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..64).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    async fn take(&self, issue: &IssueReference) -> MutexGuard<'_, ()> {
        let place = usize::try_from(issue.number).unwrap_or_default() % self.0.len();
        self.0[place].lock().await
    }
}

/// Takes an issue in, if it is a task. An error is one of the world: the issue is to be looked at again.
pub(super) async fn consider(
    service: &Service,
    dispatch: &RepositoryName,
    seen: Seen<'_>,
) -> anyhow::Result<Considered> {
    let reference = IssueReference { repository: dispatch.clone(), number: seen.issue.number };
    if !is_task(service, seen.issue) {
        return Ok(Considered::Done);
    }
    let _turn = service.turns.take(&reference).await;
    let record = service.store.task_of(&reference).await?;
    if is_known(service, &reference, seen, record.as_ref()).await? {
        return Ok(Considered::Done);
    }
    let fresh;
    let issue = match seen.attempt > 0 || record.is_some() || service.store.page(&gone(&reference)).await?.is_some() {
        true => {
            fresh = service.forge.issue(&reference).await?;
            if seen.attempt < PATIENCE && is_behind(&fresh, &seen.issue.updated_at) {
                return Ok(Considered::LookAgain(BEHIND));
            }
            &fresh
        }
        false => seen.issue,
    };
    if !is_task(service, issue) {
        return Ok(Considered::Done);
    }
    match record {
        Some(record) if record.state == State::Running && is_withdrawn(record.cancel.as_deref()) => {
            Ok(Considered::LookAgain("its task is still being stopped"))
        }
        Some(record) if is_same_text(issue, &record) => {
            meet_again(service, issue, &record).await.map(|()| Considered::Done)
        }
        record => decide(service, &reference, Seen { issue, ..seen }, record.as_ref()).await,
    }
}

/// An issue is said to be no task any more: its task is stopped, if the forge says the same.
pub(super) async fn withdraw(
    service: &Service,
    reference: &IssueReference,
    departure: Departure<'_>,
) -> anyhow::Result<Considered> {
    let _turn = service.turns.take(reference).await;
    let Some(record) = service.store.task_of(reference).await? else {
        // What was seen before may still be on its way.
        let empty = Page { etag: String::new(), memo: String::new() };
        service.store.set_page(&gone(reference), &empty).await?;
        return Ok(Considered::Done);
    };
    match record.state {
        State::Queued | State::Running => {}
        State::Completed | State::Failed | State::Dead | State::Cancelled | State::Refused => {
            return Ok(Considered::Done);
        }
    }
    let reason = match departure {
        Departure::Deleted => CLOSED,
        Departure::Unlisted | Departure::Told(_) => {
            let now = service.forge.issue(reference).await?;
            if let Departure::Told(at) = departure
                && is_behind(&now, at)
            {
                return Ok(Considered::LookAgain(BEHIND));
            }
            if now.state != "open" {
                CLOSED
            } else if !has_label(&now, &service.config.label) {
                UNLABELLED
            } else {
                return Ok(Considered::Done);
            }
        }
    };
    let state = service.store.cancel(record.key, reason).await?;
    tracing::info!(issue = %reference, ?state, "cancelled: {reason}");
    service.beat.notify_waiters();
    service.queued.notify_one();
    Ok(Considered::Done)
}

/// Whether an error of the forge's stays however often the same is tried.
pub(super) fn is_lasting(error: &ForgeError) -> bool {
    match error {
        ForgeError::NotFound { .. }
        | ForgeError::Forbidden { .. }
        | ForgeError::Unprocessable { .. }
        | ForgeError::Unexpected { .. } => true,
        // A token is renewed.
        ForgeError::Unauthorized | ForgeError::RateLimited { .. } | ForgeError::Transient { .. } => false,
    }
}

/// Takes in a text that the queue does not hold, or says why not.
async fn decide(
    service: &Service,
    reference: &IssueReference,
    seen: Seen<'_>,
    record: Option<&TaskRecord>,
) -> anyhow::Result<Considered> {
    let issue = seen.issue;
    let body = issue.body.as_deref().unwrap_or_default();
    let revision = intake::revision(&issue.title, body);
    let author = issue.user.as_ref().map(|user| user.login.as_str()).unwrap_or_default();
    let edited = record.is_some_and(|record| record.state != State::Refused);
    let Some(sighting) = sight(service, reference, issue, author).await? else {
        return Ok(Considered::LookAgain("its text has just been changed"));
    };
    let judgement = trust::judge(&Sighting { edited, ..sighting });
    if let Some(labeller) = seen.labeller.filter(|_| seen.attempt < PATIENCE)
        && judgement != Judgement::Admit
        && is_trusted(service, &reference.repository, labeller).await?
    {
        return Ok(Considered::LookAgain("its history does not show its label yet"));
    }
    let refusal = match judgement {
        Judgement::Admit => match read(service, reference, issue, author) {
            Ok(Some(new)) => return admit(service, &new).await,
            Ok(None) => return Ok(Considered::Done),
            Err((kind, reason)) => Some((kind, revision, reason)),
        },
        Judgement::Ignore => {
            tracing::debug!("{reference} was edited by somebody who may not write; the text that was admitted stays");
            None
        }
        // Told once for each reason: who edits on is not told again.
        Judgement::Refuse(reason) => Some(("author", intake::revision("", reason), reason.to_owned())),
    };
    if let Some((kind, revision, reason)) = refusal {
        refuse(service, reference, issue, &format!("{kind}-{revision}"), &reason).await?;
    }
    remember(service, reference, issue).await.map(|()| Considered::Done)
}

/// The task in a text that is trusted; `None`: there is no text. The error: what is wrong with it, and why.
fn read(
    service: &Service,
    reference: &IssueReference,
    issue: &Issue,
    author: &str,
) -> Result<Option<NewTask>, (&'static str, String)> {
    let body = issue.body.as_deref().unwrap_or_default();
    let parsed = match task::parse_issue(&issue.title, Some(body), reference.clone()) {
        Ok(parsed) => parsed,
        Err(Rejection::Empty) => return Ok(None),
        Err(Rejection::Malformed(reason)) => return Err(("text", reason)),
    };
    let (default, allowed) = (service.config.target_repository.as_ref(), service.config.allowed_targets.as_deref());
    let target = intake::target_of(&parsed, reference, default, allowed);
    Ok(Some(NewTask {
        issue: reference.clone(),
        id: parsed.id,
        title: issue.title.clone(),
        body: body.to_owned(),
        author: author.to_owned(),
        target: target.map_err(|error| ("target", format!("{error:#}")))?,
        priority: priority_of(issue),
        created_at: milliseconds(&issue.created_at).unwrap_or_default(),
        revision: intake::revision(&issue.title, body),
    }))
}

async fn admit(service: &Service, new: &NewTask) -> anyhow::Result<Considered> {
    match service.store.admit(new).await.context("cannot store the task")? {
        Admission::New | Admission::Requeued | Admission::Updated => {
            tracing::info!(task = %new.id, issue = %new.issue, "queued");
            service.queued.notify_one();
        }
        Admission::Known(_) | Admission::TooLate(_) => {}
        Admission::IdTaken { by } => {
            let reason = format!("its task id is that of {by} already. Give it another one");
            tell(service, &new.issue, &format!("id-{}", new.revision), &reason).await?;
        }
    }
    Ok(Considered::Done)
}

/// Whether what is seen is what is known, so that nothing follows from it.
async fn is_known(
    service: &Service,
    reference: &IssueReference,
    seen: Seen<'_>,
    record: Option<&TaskRecord>,
) -> anyhow::Result<bool> {
    let Some(record) = record else { return Ok(false) };
    if is_same_text(seen.issue, record) {
        return Ok(match record.state {
            State::Queued => record.priority == priority_of(seen.issue),
            State::Running => !is_withdrawn(record.cancel.as_deref()),
            State::Cancelled => !is_withdrawn(Some(&record.reason)),
            State::Completed | State::Failed | State::Dead | State::Refused => true,
        });
    }
    if seen.labeller.is_some() {
        return Ok(false);
    }
    let judged = service.store.page(&judged(reference)).await?;
    Ok(judged.is_some_and(|page| page.etag == poll::rules(service) && page.memo == seen.issue.updated_at))
}

/// Remembers that an issue as it stands is not worked, so that it is not asked about until it changes, or the
/// operator's rules do.
async fn remember(service: &Service, reference: &IssueReference, issue: &Issue) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now().as_millisecond();
    if milliseconds(&issue.updated_at).is_some_and(|updated| updated < now.saturating_sub(SETTLED)) {
        let page = Page { etag: poll::rules(service), memo: issue.updated_at.clone() };
        service.store.set_page(&judged(reference), &page).await?;
    }
    Ok(())
}

fn judged(reference: &IssueReference) -> String {
    format!("judged:{reference}")
}

/// The page that says that an issue without a row was said to be no task any more.
fn gone(reference: &IssueReference) -> String {
    format!("gone:{reference}")
}

fn is_task(service: &Service, issue: &Issue) -> bool {
    let has_text = issue.pull_request.is_none() && issue.body.is_some();
    has_text && issue.state == "open" && has_label(issue, &service.config.label)
}

/// What was refused has no text in the queue.
fn is_same_text(issue: &Issue, record: &TaskRecord) -> bool {
    let body = issue.body.as_deref().unwrap_or_default();
    record.state != State::Refused
        && intake::revision(&record.title, &record.body) == intake::revision(&issue.title, body)
}

/// Whether an answer of the forge's is older than what was seen: its copies do not learn of a change all at once.
fn is_behind(fresh: &Issue, seen_at: &str) -> bool {
    milliseconds(&fresh.updated_at).zip(milliseconds(seen_at)).is_some_and(|(fresh, seen)| fresh < seen)
}

/// Whether a task was stopped since its issue was none any more.
fn is_withdrawn(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| reason.contains(CLOSED) || reason.contains(UNLABELLED))
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

/// What is to be known of a text before it is judged; asks no more than is needed. `None`: the text is another one now.
async fn sight(
    service: &Service,
    reference: &IssueReference,
    issue: &Issue,
    author: &str,
) -> anyhow::Result<Option<Sighting>> {
    if is_trusted(service, &reference.repository, author).await? {
        return Ok(Some(Sighting { author_trusted: true, ..Sighting::default() }));
    }
    let history = service.forge.history(reference).await?;
    let lines = |text: &str| text.replace('\r', "");
    if history.title != issue.title || lines(&history.body) != lines(issue.body.as_deref().unwrap_or_default()) {
        return Ok(None);
    }
    let mut labelled_at = None;
    for setting in history.labelled.iter().rev() {
        if setting.label.eq_ignore_ascii_case(&service.config.label)
            && is_trusted(service, &reference.repository, &setting.actor).await?
        {
            labelled_at = Some(setting.at);
            break;
        }
    }
    Ok(Some(Sighting { labelled_at, changed_at: history.changed_at, ..Sighting::default() }))
}

/// A text that is known already: its priority may have changed, or its issue be a task again.
async fn meet_again(service: &Service, issue: &Issue, record: &TaskRecord) -> anyhow::Result<()> {
    let priority = priority_of(issue);
    match record.state {
        State::Queued if record.priority != priority => {
            service.store.set_priority(&record.issue, priority).await?;
            service.queued.notify_one();
        }
        State::Cancelled if is_withdrawn(Some(&record.reason)) => {
            if service.store.retry(record.key, "the issue is a task again").await? {
                tracing::info!(issue = %record.issue, "queued, since the issue is a task again");
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

/// Notes that a text is not worked, and tells its issue once. `name` is not the text's own revision, so that the same
/// text is taken in as soon as the reason is gone.
async fn refuse(
    service: &Service,
    reference: &IssueReference,
    issue: &Issue,
    name: &str,
    reason: &str,
) -> anyhow::Result<()> {
    let author = issue.user.as_ref().map(|user| user.login.as_str()).unwrap_or_default();
    if service.store.refuse(reference, &issue.title, author, name, reason).await? {
        tracing::info!(issue = %reference, "refused: {reason}");
    }
    // What is worked or was worked stays what it is.
    if service.store.task_of(reference).await?.is_none_or(|record| record.state != State::Refused) {
        return Ok(());
    }
    tell(service, reference, name, reason).await
}

/// Tells an issue once, under this name, why it is not worked. Where it can never be told, that is logged.
async fn tell(service: &Service, reference: &IssueReference, name: &str, reason: &str) -> anyhow::Result<()> {
    let memo = format!("refusal:{reference}");
    if service.store.page(&memo).await?.is_some_and(|page| page.etag == name) {
        return Ok(());
    }
    match pipeline::refused(&service.forge, reference, name, reason).await {
        Ok(()) => {}
        Err(error) if is_lasting(&error) => {
            tracing::warn!(issue = %reference, "it is refused, and cannot be told: {error}");
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{reference} could not be told that it is refused"));
        }
    }
    Ok(service.store.set_page(&memo, &Page { etag: name.to_owned(), memo: String::new() }).await?)
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
