//! One claimed task: it is worked beside its heartbeat, and given up when it is cancelled, taken over, too slow, silent,
//! or when the service ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::record::Recorder;
use super::{Service, assemble, policy};
use crate::event::Events;
use crate::model::Model;
use crate::outcome::{Budget, Conclusion, Outcome, Stage};
use crate::pipeline::{self, Delivery, Ending, Order, Services};
use crate::store::{Claim, End, Entry, Heartbeat, State, StoreError};
use crate::task::{self, Task};
use crate::workspace::Remote;

/// Between two heartbeats; a task that is cancelled elsewhere stops so soon.
const BEAT: Duration = Duration::from_secs(2);
/// The task's own deadline, and time to judge and report what there is by then.
const GRACE: Duration = Duration::from_secs(120);
/// The store is asked so often to take an end, before the lease is left to expire.
const ENDINGS: u32 = 10;

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
    let parsed = task::parse_issue(&record.title, Some(&record.body), record.issue.clone());
    let (task, target) = match (parsed, &record.target) {
        (Ok(task), Some(target)) => (task, target.clone()),
        (_, _) => return Some(ended(State::Failed, "the stored text is no task any more. Edit the issue")),
    };
    if let Some(reason) = &record.cancel {
        return Some(cancelled(service, claim, &task, reason).await);
    }
    let (recorder, events) = Recorder::start(service, claim);
    let again_after = (!claim.exhausted && record.attempt < service.config.queue.attempts)
        .then(|| policy::retry_delay(&service.config.queue, record.attempt, rand::rng().random()));
    let services = match assemble(service, &task, &target, events, again_after).await {
        Ok(services) => services,
        Err(NotNow { reason, after }) => {
            service.metrics.retried();
            return Some(End::Retry { after, reason });
        }
    };
    let order = match order(service, claim, task.clone(), &target, &services, again_after).await {
        Ok(order) => order,
        Err(NotNow { reason, after }) => {
            service.metrics.retried();
            return Some(End::Retry { after, reason });
        }
    };
    // On the heap before it is moved: it is large.
    let run = Box::pin(async move { pipeline::run_task(&services, &order).await });
    let run = AbortOnDropHandle::new(tokio::spawn(run.in_current_span()));
    let supervised = supervise(service, claim, &recorder, run).await;
    recorder.finish().await;
    match supervised {
        Ok(ending) => end_of(service, claim, ending).await,
        Err(given_up) => give_up(service, claim, &task, given_up, again_after).await,
    }
}

/// Waits for the run, and for everything that ends it early. When this returns, the run is no more.
async fn supervise(
    service: &Service,
    claim: &Claim,
    recorder: &Recorder,
    mut run: AbortOnDropHandle<Ending>,
) -> Result<Ending, GivenUp> {
    let overdue = tokio::time::sleep(service.config.pipeline.limits.task + GRACE);
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
        if recorder.silence() > service.config.queue.stall {
            break GivenUp::Stalled(recorder.silence());
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
async fn abort(run: AbortOnDropHandle<Ending>) {
    let run: JoinHandle<Ending> = run.detach();
    run.abort();
    drop(run.await);
}

/// Not worth beginning: what is missing may come back.
struct NotNow {
    reason: String,
    after: Duration,
}

/// What a task for `target` is worked with. Where no attempt is left, the run itself meets what is missing, and reports it.
async fn assemble(
    service: &Arc<Service>,
    task: &Task,
    target: &task::RepositoryName,
    events: Events,
    again_after: Option<Duration>,
) -> Result<Services, NotNow> {
    let config = &service.config;
    let not_now = |reason: String| NotNow { reason, after: again_after.unwrap_or(config.queue.retry) };
    let section = assemble::section_of(&config.repositories, Some(target));
    let image = section.and_then(|section| section.image.as_deref()).filter(|_| !config.image_from_flag);
    let backend = service.boxes.get(image).await.map_err(|error| not_now(error.to_string()))?;
    let forge = service.forge.for_repository(target).await.map_err(|error| not_now(error.to_string()))?;
    let mut model: Option<Arc<dyn Model>> = None;
    if assemble::needs_model(task, config.pipeline.patch_mode) {
        model = match (service.model.get().await, again_after) {
            (Ok(model), _) => Some(model),
            (Err(error), Some(_)) => {
                service.metrics.model_failed();
                return Err(not_now(format!("{error}. {}", error.remedy())));
            }
            (Err(error), None) => Some(Arc::new(assemble::Absent::new(error))),
        };
    }
    Ok(Services {
        workspace: service.workspace.clone(),
        backend,
        model,
        forge,
        dispatch: service.forge.clone(),
        events,
        settings: config.pipeline.clone(),
    })
}

async fn order(
    service: &Service,
    claim: &Claim,
    task: Task,
    target: &task::RepositoryName,
    services: &Services,
    again_after: Option<Duration>,
) -> Result<Order, NotNow> {
    let config = &service.config;
    let token = services
        .forge
        .git_token()
        .await
        .map_err(|error| NotNow { reason: error.to_string(), after: again_after.unwrap_or(config.queue.retry) })?;
    let started = Instant::now();
    Ok(Order {
        task,
        remote: Remote::Url { url: services.forge.clone_url(target), token },
        repository: Some(target.clone()),
        base: None,
        delivery: Delivery::PullRequest(target.clone()),
        test_command: assemble::test_command_of(assemble::section_of(&config.repositories, Some(target))),
        started,
        deadline: started + config.pipeline.limits.task,
        claim: Some(claim.clone()),
        again_after,
    })
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
            let (state, pull_request) = (state_of(claim, &outcome), address_of(&outcome));
            Some(End::ReportLater { state, reason: reason_of(&outcome), pull_request, after })
        }
        Ending::Again { outcome, after } => {
            let reason = reason_of(&outcome);
            tracing::warn!("tried again in {} s: {reason}", after.as_secs());
            service.metrics.retried();
            // The model's server may come back as another one.
            service.model.forget().await;
            Some(End::Retry { after, reason })
        }
        Ending::Stopped(StoreError::Stale) => None,
        Ending::Stopped(error) => Some(End::Retry { after: service.config.queue.retry, reason: error.to_string() }),
    }
}

async fn give_up(
    service: &Service,
    claim: &Claim,
    task: &Task,
    given_up: GivenUp,
    again_after: Option<Duration>,
) -> Option<End> {
    match given_up {
        GivenUp::Stale => None,
        GivenUp::Halted => {
            tracing::info!("given back, since the service stops");
            Some(End::Released)
        }
        GivenUp::Cancelled(reason) => Some(cancelled(service, claim, task, &reason).await),
        GivenUp::Stalled(silence) => {
            let reason = format!("nothing was heard of the task for {} s", silence.as_secs());
            tracing::error!("{reason}");
            service.metrics.retried();
            Some(End::Retry { after: again_after.unwrap_or_default(), reason })
        }
        GivenUp::Panicked => {
            service.metrics.retried();
            let reason = "the run broke on an error of our own; the log has it".into();
            Some(End::Retry { after: again_after.unwrap_or_default(), reason })
        }
        GivenUp::Overdue => {
            let mut outcome = Outcome::new(task.id.clone(), claim.task.target.clone());
            outcome.conclusion = Conclusion::BudgetRanOut { budget: Budget::Time };
            conclude_later(claim, &outcome).await
        }
    }
}

/// Writes an outcome down that the run itself did not come to; another claim reports it.
async fn conclude_later(claim: &Claim, outcome: &Outcome) -> Option<End> {
    let reason = reason_of(outcome);
    let entry = serde_json::to_string(outcome).map(|outcome| Entry::Concluded { outcome });
    let written = match entry {
        Ok(entry) => claim.write(&entry).await,
        Err(error) => {
            tracing::error!("an outcome cannot be written down: {error}");
            Ok(())
        }
    };
    match written {
        Ok(()) => Some(End::ReportLater { state: State::Failed, reason, pull_request: None, after: Duration::ZERO }),
        Err(StoreError::Stale) => None,
        Err(error) => Some(End::Retry { after: Duration::ZERO, reason: error.to_string() }),
    }
}

/// Tells the issue of a task that was stopped; told later, where the forge does not answer.
async fn cancelled(service: &Service, claim: &Claim, task: &Task, reason: &str) -> End {
    tracing::info!("cancelled: {reason}");
    let told = pipeline::cancelled(&service.forge, &service.config.pipeline, task, Some(claim), reason).await;
    let reason = reason.to_owned();
    match told {
        Ok(()) => End::Ended { state: State::Cancelled, reason, pull_request: claim.task.pull_request.clone() },
        Err(error) => {
            tracing::warn!("the issue is told later that its task was stopped: {error:#}");
            let pull_request = claim.task.pull_request.clone();
            End::ReportLater { state: State::Cancelled, reason, pull_request, after: service.config.queue.retry }
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

fn state_of(claim: &Claim, outcome: &Outcome) -> State {
    match &outcome.conclusion {
        Conclusion::Verified | Conclusion::Unverified | Conclusion::NoChange => State::Completed,
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
        Conclusion::Unverified => "a change that is not verified".into(),
        Conclusion::NoChange => "nothing had to be changed".into(),
        Conclusion::BudgetRanOut { budget } => format!("the {} ran out", budget.describe()),
        Conclusion::Failed { stage: Stage::Intake, cause, remedy, .. } => format!("{cause} {remedy}").trim().to_owned(),
        Conclusion::Failed { stage, cause, remedy, .. } => {
            format!("{}: {cause} {remedy}", stage.name()).trim().to_owned()
        }
    }
}
