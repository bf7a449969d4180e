//! One claimed task: it is worked beside its heartbeat, and given up when it is cancelled, taken over, too slow, silent,
//! or when the service ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::assemble::NotBegun;
use super::record::Recorder;
use super::{Service, assemble, policy};
use crate::event::Events;
use crate::forge::ForgeError;
use crate::model::Model;
use crate::outcome::{Budget, Conclusion, Outcome, Stage};
use crate::pipeline::{self, Delivery, Ending, Order, Services};
use crate::sandbox::egress::Access;
use crate::store::{Claim, End, Entry, Heartbeat, State, StoreError, TaskRecord};
use crate::task::{self, RepositoryName, Task, TaskId};
use crate::workspace::Remote;

/// Between two heartbeats; a task that is cancelled elsewhere stops so soon.
const BEAT: Duration = Duration::from_secs(2);
/// Beyond the task's own deadline, time to judge and report what there is by then: as long again, within these bounds.
const SHORTEST_GRACE: Duration = Duration::from_secs(15);
const LONGEST_GRACE: Duration = Duration::from_secs(120);
/// The store is asked so often to take an end, before the lease is left to expire.
const ENDINGS: u32 = 10;
/// An issue that could not be told by then is not told any more; with the delays between, that takes most of a day.
const MOST_REPORTS: u32 = 20;
/// Before whatever is tried again at least.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);
/// Telling an issue that its task waits takes at most this long.
const LONGEST_WORD: Duration = Duration::from_secs(15);

/// What a claim is for.
enum Purpose {
    Work(Task),
    /// The outcome stands, or no attempt is left: nothing is needed but the forge.
    Report(Task),
    /// It was stopped, and its issue is yet to be told.
    Stop(Task, String),
    /// The stored text is no task any more.
    Unreadable(Task, String),
    /// Its report has failed, or ended the process, too often.
    Silence(State),
}

/// Why a run was given up.
enum GivenUp {
    /// Somebody wants it stopped.
    Cancelled(String),
    /// Another worker has it: no effect any more.
    Stale,
    /// The service ends.
    Halted,
    /// Nothing was heard of it for so long.
    Stalled(Duration),
    /// It is beyond its time, and has not noticed.
    Overdue,
    Panicked,
}

/// Works a claim to its end.
pub(super) async fn work(service: Arc<Service>, claim: Claim) {
    let task = claim.task.id.as_ref().map(ToString::to_string).unwrap_or_default();
    let span = tracing::error_span!("task", task, issue = %claim.task.issue, attempt = claim.task.attempt);
    async {
        match Box::pin(attempt(&service, &claim)).await {
            Some(end) => conclude(&claim, end).await,
            None => tracing::warn!("another worker has taken the task over"),
        }
        service.queued.notify_one();
    }
    .instrument(span)
    .await;
}

/// One attempt, and how the claim is to end; `None`: it is not ours any more.
async fn attempt(service: &Arc<Service>, claim: &Claim) -> Option<End> {
    let record = &claim.task;
    let (Some(id), Some(target)) = (&record.id, &record.target) else {
        return Some(ended(State::Failed, "the stored task has no id or no target. Edit the issue"));
    };
    let (task, reports_only) = match purpose_of(claim, id) {
        Purpose::Work(task) => (task, false),
        Purpose::Report(task) => (task, true),
        Purpose::Stop(task, reason) => return cancelled(service, claim, &task, &reason).await,
        Purpose::Unreadable(task, reason) => return unreadable(claim, &task, &reason).await,
        Purpose::Silence(state) => {
            tracing::error!("the issue could not be told in {MOST_REPORTS} tries, and is not told any more");
            let pull_request = record.pull_request.clone();
            return Some(End::Ended { state, reason: record.reason.clone(), pull_request });
        }
    };
    let (recorder, events) = Recorder::start(service, claim);
    // What is only reported is tried again however often it takes: no attempt is used up by it.
    let again_after = (reports_only || record.attempt < service.config.queue.attempts)
        .then(|| policy::retry_delay(&service.config.queue, record.attempt, rand::rng().random()));
    // On the heap before it is moved: it is large.
    let run =
        Box::pin(run(service.clone(), claim.clone(), task.clone(), target.clone(), events, again_after, reports_only));
    let run = AbortOnDropHandle::new(tokio::spawn(run.in_current_span()));
    let supervised = supervise(service, claim, &recorder, run).await;
    recorder.finish().await;
    match supervised {
        Ok(Ok(ending)) => end_of(service, claim, ending).await,
        Ok(Err(not_begun)) => not_begun_end(service, claim, &task, not_begun, again_after).await,
        Err(given_up) => give_up(service, claim, &task, given_up, again_after).await,
    }
}

/// What is to be done about a claim.
fn purpose_of(claim: &Claim, id: &TaskId) -> Purpose {
    let record = &claim.task;
    let outcome = stored_outcome(record);
    if record.reports > MOST_REPORTS {
        let state =
            outcome.filter(|_| !record.state.is_end()).map_or(record.state, |outcome| state_of(claim, &outcome));
        return Purpose::Silence(if state.is_end() { state } else { State::Failed });
    }
    let parsed = task::parse_issue(&record.title, Some(&record.body), record.issue.clone());
    let (task, unreadable) = match parsed {
        Ok(task) => (task, None),
        Err(rejection) => (stand_in(record, id), Some(rejection.to_string())),
    };
    match (outcome, &record.cancel, unreadable) {
        (Some(_), _, _) => Purpose::Report(task),
        (None, Some(reason), _) => Purpose::Stop(task, reason.clone()),
        (None, None, Some(reason)) => Purpose::Unreadable(task, reason),
        (None, None, None) if claim.exhausted => Purpose::Report(task),
        (None, None, None) => Purpose::Work(task),
    }
}

/// A task that is only told of.
fn stand_in(record: &TaskRecord, id: &TaskId) -> Task {
    Task {
        id: id.clone(),
        title: record.title.clone(),
        instruction: record.body.clone(),
        patches: Vec::new(),
        target: record.target.clone(),
        issue: Some(record.issue.clone()),
    }
}

fn stored_outcome(record: &TaskRecord) -> Option<Outcome> {
    serde_json::from_str(record.outcome.as_deref()?).ok()
}

/// Assembles what the task needs, and runs it.
async fn run(
    service: Arc<Service>,
    claim: Claim,
    task: Task,
    target: RepositoryName,
    events: Events,
    again_after: Option<Duration>,
    reports_only: bool,
) -> Result<Ending, NotBegun> {
    let assembled = match reports_only {
        true => Ok(reporter(&service, events)),
        false => assemble(&service, &task, &target, events).await,
    };
    let services = match assembled {
        Ok(services) => services,
        Err(NotBegun::Waits { reason, after }) => {
            say_that_it_waits(&service, &claim, &task, &reason).await;
            return Err(NotBegun::Waits { reason, after });
        }
        Err(failed @ NotBegun::Failed(_)) => return Err(failed),
    };
    let order = order(&service, claim, task, &target, &services, again_after);
    Ok(pipeline::run_task(&services, &order).await)
}

/// Waits for the run, and for everything that ends it early. When this returns, the run is no more.
async fn supervise<T>(
    service: &Service,
    claim: &Claim,
    recorder: &Recorder,
    mut run: AbortOnDropHandle<T>,
) -> Result<T, GivenUp> {
    let limit = service.config.pipeline.limits.task;
    let overdue = tokio::time::sleep(limit + limit.clamp(SHORTEST_GRACE, LONGEST_GRACE));
    let mut overdue = std::pin::pin!(overdue);
    let mut heard = Instant::now();
    let given_up = loop {
        let now = service.beat.notified();
        tokio::select! {
            ended = &mut run => return ended.map_err(|error| {
                tracing::error!("the task's run broke: {error}");
                GivenUp::Panicked
            }),
            () = service.halt.cancelled() => break GivenUp::Halted,
            () = &mut overdue => break GivenUp::Overdue,
            () = now => {}
            () = tokio::time::sleep(BEAT) => {}
        }
        if let Some(silence) = recorder.stalled() {
            break GivenUp::Stalled(silence);
        }
        match claim.heartbeat().await {
            Ok(Heartbeat::GoOn) => heard = Instant::now(),
            Ok(Heartbeat::Cancel(reason)) => break GivenUp::Cancelled(reason),
            Err(StoreError::Stale) => break GivenUp::Stale,
            Err(error) => {
                tracing::warn!("no heartbeat: {error}");
                // Nobody can have taken the task over before that.
                if heard.elapsed() > super::queue::LEASE.saturating_sub(2 * BEAT) {
                    break GivenUp::Stale;
                }
            }
        }
    };
    abort(run).await;
    Err(given_up)
}

/// Drops a run's future, which kills its processes and removes its folders, and waits until it is dropped.
async fn abort<T>(run: AbortOnDropHandle<T>) {
    let run: JoinHandle<T> = run.detach();
    run.abort();
    drop(run.await);
}

/// What a task for `target` is worked with.
async fn assemble(
    service: &Service,
    task: &Task,
    target: &RepositoryName,
    events: Events,
) -> Result<Services, NotBegun> {
    let config = &service.config;
    let section = assemble::section_of(&config.repositories, Some(target));
    let image = section.and_then(|section| section.image.as_deref()).filter(|_| !config.image_from_flag);
    let backend = service.boxes.get(image, &config.queue).await?;
    let forge = service.forge.for_repository(target).await.map_err(|error| NotBegun::Failed(error.into()))?;
    let mut model: Option<Arc<dyn Model>> = None;
    if assemble::needs_model(task, config.pipeline.patch_mode) {
        model = Some(service.model.get(&config.queue).await?);
    }
    Ok(Services { backend, model, forge, ..reporter(service, events) })
}

/// What a task is concluded and told with: no model, no sandbox, and the dispatch repository's client for all.
fn reporter(service: &Service, events: Events) -> Services {
    Services {
        workspace: service.workspace.clone(),
        backend: service.boxes.usual(),
        model: None,
        forge: service.forge.clone(),
        dispatch: service.forge.clone(),
        events,
        settings: service.config.pipeline.clone(),
    }
}

fn order(
    service: &Service,
    claim: Claim,
    task: Task,
    target: &RepositoryName,
    services: &Services,
    again_after: Option<Duration>,
) -> Order {
    let config = &service.config;
    let started = Instant::now();
    let access = config.network.access(assemble::section_of(&config.repositories, Some(target)));
    let access = access.unwrap_or_else(|error| {
        tracing::error!("nothing may be reached: {error}");
        Access::none()
    });
    Order {
        task,
        // Its token is asked for when git needs it.
        remote: Remote::Url { url: services.forge.clone_url(target), token: None },
        repository: Some(target.clone()),
        base: None,
        delivery: Delivery::PullRequest(target.clone()),
        test_command: assemble::test_command_of(assemble::section_of(&config.repositories, Some(target))),
        access,
        setup: assemble::setup_of(assemble::section_of(&config.repositories, Some(target))),
        started,
        deadline: started + config.pipeline.limits.task,
        claim: Some(claim),
        again_after,
    }
}

/// Tells the issue what its task waits for, once for each reason. That it could not be told matters to nobody.
async fn say_that_it_waits(service: &Service, claim: &Claim, task: &Task, reason: &str) {
    if claim.waited_for == reason {
        return;
    }
    let word = pipeline::waiting(&service.forge, &service.config.pipeline, task, Some(claim), reason);
    match tokio::time::timeout(LONGEST_WORD, word).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("the issue could not be told that its task waits: {error:#}"),
        Err(_) => tracing::debug!("the issue could not be told within {LONGEST_WORD:?} that its task waits"),
    }
}

async fn end_of(service: &Service, claim: &Claim, ending: Ending) -> Option<End> {
    match ending {
        Ending::Reported(outcome) => {
            let (state, reason) = (state_of(claim, &outcome), reason_of(&outcome));
            tracing::info!("ended: {reason}");
            service.metrics.ended(&claim.task, &outcome, jiff::Timestamp::now().as_millisecond());
            Some(End::Ended { state, reason, pull_request: address_of(&outcome) })
        }
        Ending::Unreported { outcome, reason, after } => {
            tracing::warn!("ended, and is reported later: {reason}");
            Some(report_later(claim, &outcome, after.max(report_delay(service, claim))))
        }
        Ending::Again { outcome, after } => {
            let reason = reason_of(&outcome);
            tracing::warn!("tried again in {} s: {reason}", after.as_secs());
            service.metrics.retried();
            // The model's server may come back as another one, and the sandbox's engine may be down.
            service.model.forget().await;
            if is_of_sandbox(&outcome) {
                service.boxes.doubt().await;
            }
            match claim.exhausted {
                // What the last attempt met is still what is to be told.
                true => Some(End::Released { after, reason: None }),
                false => Some(End::Retry { after, reason }),
            }
        }
        Ending::Unauthorized => Some(unauthorized(service)),
        Ending::Limited { reason, after } => {
            tracing::warn!("given back for {} s: {reason}", after.as_secs());
            Some(End::Released { after, reason: Some(reason) })
        }
        Ending::Stopped(StoreError::Stale) => None,
        Ending::Stopped(error) => Some(End::Retry { after: service.config.queue.retry, reason: error.to_string() }),
    }
}

/// The forge refuses our credentials: the queue claims nothing until they are good again.
fn unauthorized(service: &Service) -> End {
    let reason = ForgeError::Unauthorized.to_string();
    tracing::warn!("given back: {reason}");
    service.refused.store(true, Ordering::Relaxed);
    End::Released { after: service.config.queue.retry.max(SHORTEST_DELAY), reason: Some(reason) }
}

async fn not_begun_end(
    service: &Service,
    claim: &Claim,
    task: &Task,
    not_begun: NotBegun,
    again_after: Option<Duration>,
) -> Option<End> {
    let error = match not_begun {
        NotBegun::Waits { reason, after } => {
            match claim.waited_for == reason {
                true => tracing::debug!("still waits: {reason}"),
                false => tracing::warn!("waits: {reason}"),
            }
            return Some(End::Released { after, reason: Some(reason) });
        }
        NotBegun::Failed(error) if pipeline::is_unauthorized(&error) => return Some(unauthorized(service)),
        NotBegun::Failed(error) => error,
    };
    let mut outcome = Outcome::new(task.id.clone(), claim.task.target.clone());
    let (conclusion, transience) = pipeline::failed(error);
    outcome.conclusion = conclusion;
    match (transience, again_after) {
        (Some(wait), Some(after)) => {
            service.metrics.retried();
            Some(End::Retry { after: after.max(wait), reason: reason_of(&outcome) })
        }
        (Some(_), None) | (None, _) => conclude_later(claim, &outcome).await,
    }
}

async fn give_up(
    service: &Service,
    claim: &Claim,
    task: &Task,
    given_up: GivenUp,
    again_after: Option<Duration>,
) -> Option<End> {
    let concluded = match given_up {
        GivenUp::Stale | GivenUp::Halted => None,
        GivenUp::Cancelled(_) | GivenUp::Stalled(_) | GivenUp::Overdue | GivenUp::Panicked => {
            concluded(service, claim).await
        }
    };
    // What the run has concluded stands, whatever came after.
    if let Some(outcome) = concluded {
        tracing::warn!("given up on its report, which is made later");
        return Some(report_later(claim, &outcome, report_delay(service, claim)));
    }
    let reason = match given_up {
        GivenUp::Stale => return None,
        GivenUp::Halted => {
            tracing::info!("given back, since the service stops");
            return Some(End::Released { after: Duration::ZERO, reason: None });
        }
        GivenUp::Cancelled(reason) => return cancelled(service, claim, task, &reason).await,
        GivenUp::Overdue => {
            let mut outcome = Outcome::new(task.id.clone(), claim.task.target.clone());
            outcome.conclusion = Conclusion::BudgetRanOut { budget: Budget::Time };
            return conclude_later(claim, &outcome).await;
        }
        GivenUp::Stalled(silence) => format!("nothing was heard of the task for {} s", silence.as_secs()),
        GivenUp::Panicked => "the run broke on an error of our own; the log has it".into(),
    };
    tracing::error!("{reason}");
    service.metrics.retried();
    Some(End::Retry { after: again_after.unwrap_or_default(), reason })
}

/// The outcome that the run has written down, if it came so far.
async fn concluded(service: &Service, claim: &Claim) -> Option<Outcome> {
    match service.store.by_key(claim.task.key).await {
        Ok(record) => stored_outcome(&record?),
        Err(error) => {
            tracing::warn!("whether the task had ended cannot be read: {error}");
            None
        }
    }
}

/// Writes an outcome down that the run itself did not come to; another claim reports it.
async fn conclude_later(claim: &Claim, outcome: &Outcome) -> Option<End> {
    tracing::warn!("failed, and is reported by another claim: {}", reason_of(outcome));
    let entry = serde_json::to_string(outcome).map(|outcome| Entry::Concluded { outcome });
    let written = match entry {
        Ok(entry) => claim.write(&entry).await,
        Err(error) => {
            tracing::error!("an outcome cannot be written down: {error}");
            Ok(())
        }
    };
    match written {
        Ok(()) => Some(report_later(claim, outcome, Duration::ZERO)),
        Err(StoreError::Stale) => None,
        Err(error) => Some(End::Retry { after: Duration::ZERO, reason: error.to_string() }),
    }
}

fn report_later(claim: &Claim, outcome: &Outcome, after: Duration) -> End {
    let (state, pull_request) = (state_of(claim, outcome), address_of(outcome));
    End::ReportLater { state, reason: reason_of(outcome), pull_request, after }
}

/// How long to wait before the issue is told once more: longer each time.
fn report_delay(service: &Service, claim: &Claim) -> Duration {
    let tries = claim.task.reports.saturating_add(1);
    policy::retry_delay(&service.config.queue, tries, rand::rng().random()).max(SHORTEST_DELAY)
}

async fn unreadable(claim: &Claim, task: &Task, reason: &str) -> Option<End> {
    let mut outcome = Outcome::new(task.id.clone(), claim.task.target.clone());
    let cause = format!("the text that was taken in cannot be read as a task any more: {reason}");
    let remedy = "Edit the issue.".into();
    outcome.conclusion = Conclusion::Failed { stage: Stage::Intake, cause, remedy, transient: false };
    conclude_later(claim, &outcome).await
}

/// Tells the issue of a task that was stopped; told later, where the reason that it could not be may pass.
async fn cancelled(service: &Service, claim: &Claim, task: &Task, reason: &str) -> Option<End> {
    tracing::info!("cancelled: {reason}");
    let tell = pipeline::cancelled(&service.forge, &service.config.pipeline, task, Some(claim), reason);
    let told = tokio::select! {
        told = tell => told,
        () = service.halt.cancelled() => return Some(End::Released { after: Duration::ZERO, reason: None }),
        never = keep(claim) => match never {},
    };
    let (state, reason, pull_request) = (State::Cancelled, reason.to_owned(), claim.task.pull_request.clone());
    let error = match told {
        Ok(()) => return Some(End::Ended { state, reason, pull_request }),
        Err(error) => error,
    };
    if matches!(error.downcast_ref(), Some(StoreError::Stale)) {
        return None;
    }
    let refused = pipeline::is_unauthorized(&error);
    if refused {
        service.refused.store(true, Ordering::Relaxed);
    }
    match pipeline::transience(&error) {
        None if !refused => {
            tracing::warn!("the issue cannot be told that its task was stopped: {error:#}");
            Some(End::Ended { state, reason, pull_request })
        }
        wait => {
            tracing::warn!("the issue is told later that its task was stopped: {error:#}");
            let after = report_delay(service, claim).max(wait.unwrap_or_default());
            Some(End::ReportLater { state, reason, pull_request, after })
        }
    }
}

/// Keeps the lease for as long as it is polled.
async fn keep(claim: &Claim) -> Infallible {
    loop {
        tokio::time::sleep(BEAT).await;
        if let Err(error) = claim.heartbeat().await {
            tracing::warn!("no heartbeat: {error}");
        }
    }
}

/// Hands the end to the store. Where it does not take it, the lease expires, and the journal knows how far it was.
async fn conclude(claim: &Claim, end: End) {
    for attempt in 0..ENDINGS {
        match claim.end(end.clone()).await {
            Ok(()) => return,
            Err(StoreError::Stale) => return tracing::warn!("another worker has taken the task over"),
            Err(error) => tracing::error!("the task's end is not stored yet: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200) * (attempt + 1)).await;
    }
}

fn ended(state: State, reason: &str) -> End {
    End::Ended { state, reason: reason.to_owned(), pull_request: None }
}

/// Whether it failed where it needed a sandbox.
fn is_of_sandbox(outcome: &Outcome) -> bool {
    match &outcome.conclusion {
        Conclusion::Failed { stage: Stage::Baseline | Stage::Solve | Stage::Verify, .. } => true,
        Conclusion::Failed { .. }
        | Conclusion::Verified
        | Conclusion::NeedsReview
        | Conclusion::Unverified
        | Conclusion::NoChange
        | Conclusion::BudgetRanOut { .. } => false,
    }
}

fn state_of(claim: &Claim, outcome: &Outcome) -> State {
    // A report changes nothing.
    if claim.task.report_due && claim.task.state.is_end() {
        return claim.task.state;
    }
    match &outcome.conclusion {
        Conclusion::Verified | Conclusion::NeedsReview | Conclusion::Unverified | Conclusion::NoChange => {
            State::Completed
        }
        Conclusion::Failed { transient: true, .. } => State::Dead,
        Conclusion::BudgetRanOut { .. } | Conclusion::Failed { .. } if claim.exhausted => State::Dead,
        Conclusion::BudgetRanOut { .. } | Conclusion::Failed { .. } => State::Failed,
    }
}

fn address_of(outcome: &Outcome) -> Option<String> {
    outcome.pull_request.as_ref().map(|pull_request| pull_request.url.clone())
}

/// How it ended, in one sentence for people.
fn reason_of(outcome: &Outcome) -> String {
    match &outcome.conclusion {
        Conclusion::Verified => "a change whose tests pass".into(),
        Conclusion::NeedsReview => "a change whose tests pass, and which a person has to look at".into(),
        Conclusion::Unverified => "a change that is not verified".into(),
        Conclusion::NoChange => "nothing had to be changed".into(),
        Conclusion::BudgetRanOut { budget } => format!("the {} ran out", budget.describe()),
        Conclusion::Failed { stage: Stage::Intake, cause, remedy, .. } => format!("{cause} {remedy}").trim().to_owned(),
        Conclusion::Failed { stage, cause, remedy, .. } => {
            format!("{}: {cause} {remedy}", stage.name()).trim().to_owned()
        }
    }
}
