//! The status comment: one comment on the dispatch issue that says where the task stands, edited as it goes on.
//!
//! It follows the stream of events, beside the work and within its future: it ends with it, never fails it, and makes it
//! wait only for an edit that is on its way when the work is done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::resume::Memory;
use super::{Order, Services, Settings, effect};
use crate::event::{Event, Events};
use crate::forge::Forge;
use crate::forge::render::{self, Marker, Standing};
use crate::outcome::Stage;
use crate::store::{Claim, Effect, StoreError};
use crate::task::{IssueReference, Task, TaskId};

/// Between two edits for two stages: of those that are passed faster, the last is shown.
const SETTLE: Duration = Duration::from_secs(2);
/// An edit that is only on the way takes at most this long; the last one may take what the forge's client allows.
const LONGEST_EDIT: Duration = Duration::from_secs(15);

/// What the events tell of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    /// `None`: claimed, and not begun.
    stage: Option<Stage>,
    /// Requests to the model so far.
    requests: u32,
}

/// The status comment of one task.
pub(super) struct Status {
    progress: Arc<watch::Sender<Progress>>,
    /// `None`: the operator wants none, or there is no issue.
    comment: Option<Comment>,
}

/// Where the comment stands, and by whose right it is written.
struct Comment {
    forge: Forge,
    issue: IssueReference,
    id: TaskId,
    claim: Option<Claim>,
    agent: String,
    interval: Duration,
    most_requests: u32,
    /// Its number at the forge, as soon as it is known.
    known: Mutex<Option<u64>>,
}

impl Status {
    /// The comment of a task that is about to be worked; nothing is posted yet.
    pub(super) fn new(services: &Services, order: &Order, memory: &Memory) -> Self {
        let comment = order
            .is_published()
            .then(|| {
                Comment::new(&services.dispatch, &services.settings, &order.task, order.claim.as_ref(), memory.comment)
            })
            .flatten();
        Self { progress: Arc::new(watch::channel(Progress::default()).0), comment }
    }

    /// Whether there is a comment to write.
    pub(super) fn is_wanted(&self) -> bool {
        self.comment.is_some()
    }

    /// The services, with events that the comment follows.
    pub(super) fn followed(&self, services: &Services) -> Services {
        let (progress, events) = (Arc::clone(&self.progress), services.events.clone());
        let followed = Events::with_attempts(move |event, attempt| {
            progress.send_if_modified(|progress| progress.follow(event));
            events.of_attempt(attempt).emit(event.clone());
        });
        Services { events: followed, ..services.clone() }
    }

    /// Does the work, and keeps the comment up to date meanwhile.
    pub(super) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(comment) = &self.comment else { return work.await };
        let done = CancellationToken::new();
        let (mut work, mut keep) = (Box::pin(work), Box::pin(comment.keep(self.progress.subscribe(), &done)));
        let result = tokio::select! {
            result = &mut work => result,
            () = &mut keep => return work.await,
        };
        done.cancel();
        keep.await;
        result
    }

    /// Says how the task ended, or that it goes on later.
    pub(super) async fn end(&self, standing: Standing<'_>) -> anyhow::Result<()> {
        match &self.comment {
            Some(comment) => comment.put(standing).await,
            None => Ok(()),
        }
    }
}

/// Says where a task stands that nobody works now.
pub(super) async fn put(
    forge: &Forge,
    settings: &Settings,
    task: &Task,
    claim: Option<&Claim>,
    standing: Standing<'_>,
) -> anyhow::Result<()> {
    let known = Memory::read(claim, task).await?.comment;
    match Comment::new(forge, settings, task, claim, known) {
        Some(comment) => comment.put(standing).await,
        None => Ok(()),
    }
}

impl Comment {
    fn new(forge: &Forge, settings: &Settings, task: &Task, claim: Option<&Claim>, known: Option<u64>) -> Option<Self> {
        let issue = task.issue.clone().filter(|_| settings.publish.status_comment)?;
        Some(Self {
            forge: forge.clone(),
            issue,
            id: task.id.clone(),
            claim: claim.cloned(),
            agent: settings.agent_name.clone(),
            interval: settings.publish.status_interval,
            most_requests: settings.limits.steps,
            known: Mutex::new(known),
        })
    }

    /// Shows the progress until the work is done, or the claim is lost.
    async fn keep(&self, mut progress: watch::Receiver<Progress>, done: &CancellationToken) {
        let mut shown: Option<(Progress, Instant)> = None;
        loop {
            let now = *progress.borrow_and_update();
            if let Some((last, at)) = shown {
                let pause = if last.stage == now.stage { self.interval } else { self.interval.min(SETTLE) };
                tokio::select! {
                    () = done.cancelled() => return,
                    () = tokio::time::sleep_until(at + pause) => {}
                    changed = progress.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
            let put = tokio::time::timeout(LONGEST_EDIT, self.put(self.standing(now))).await;
            match put {
                Ok(Err(error)) if error.is::<StoreError>() => return,
                Ok(Err(error)) => tracing::debug!("the status comment could not be edited: {error:#}"),
                Err(_) => tracing::debug!("the status comment could not be edited within {LONGEST_EDIT:?}"),
                Ok(Ok(())) => {}
            }
            shown = Some((now, Instant::now()));
            tokio::select! {
                () = done.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return },
            }
        }
    }

    fn standing(&self, progress: Progress) -> Standing<'static> {
        match progress.stage {
            None => Standing::Claimed,
            Some(stage) => Standing::Working { stage, request: progress.requests, most_requests: self.most_requests },
        }
    }

    async fn put(&self, standing: Standing<'_>) -> anyhow::Result<()> {
        let attempt = self.claim.as_ref().map_or(1, |claim| claim.task.attempt);
        let body = render::status_comment(&self.agent, &self.id, attempt, &standing);
        let marker = Marker::Status(&self.id).to_string();
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let put = |known| self.forge.put_comment(&self.issue, &marker, &body, known);
        let claim = self.claim.as_ref();
        let number = match known {
            None => effect::effect(claim, Effect::StatusComment, "", put(None), u64::to_string).await?,
            Some(_) => effect::again(claim, Effect::StatusComment, put(known)).await?,
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
        Ok(())
    }
}

impl Progress {
    /// Takes an event in; whether it changes what is shown.
    fn follow(&mut self, event: &Event) -> bool {
        let before = *self;
        match event {
            Event::StageStarted { stage } => self.stage = Some(*stage),
            // The tests are over, and the agent goes on or has ended.
            Event::StageDone { stage: Stage::Verify, .. } => self.stage = Some(Stage::Solve),
            // Of all attempts together.
            Event::Reply { .. } => self.requests += 1,
            Event::StageDone { .. }
            | Event::Note { .. }
            | Event::Message { .. }
            | Event::Call { .. }
            | Event::CallResult { .. }
            | Event::SetupStep { .. }
            | Event::Tests { .. }
            | Event::Begun(_)
            | Event::Exchange(_)
            | Event::Ended(_) => {}
        }
        *self != before
    }
}
