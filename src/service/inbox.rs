//! The inbox: webhooks that were taken in go through the same doors as what polling finds.
//!
//! Several are worked at a time, those of one issue one after the other. A delivery that cannot be worked, since the
//! forge does not answer, is tried again until it can be; what the forge refuses for good is given up after a few times.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::Service;
use super::admit::{self, Considered, Departure, Seen};
use super::command::{self, Said};
use super::webhook::Payload;
use crate::forge::ForgeError;
use crate::pipeline;
use crate::store::{Delivery, StoreError};
use crate::task::IssueReference;

/// Deliveries that are read from the store at a time.
const BATCH: u32 = 100;
/// No more are held in memory; the others wait in the store.
const MOST_HELD: usize = 1_000;
/// Deliveries that are worked at a time.
const MOST_AT_WORK: usize = 8;
/// How often a delivery is tried that the forge refuses for good.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The inbox is looked at so often even if nothing was heard.
const IDLE: Duration = Duration::from_secs(30);

/// A delivery about an issue of ours.
struct Item {
    id: String,
    event: String,
    payload: Payload,
    issue: IssueReference,
    /// How often it was tried.
    attempt: u32,
    due: Instant,
}

/// What is to be worked, by the store's numbers, which are in the order of its coming.
#[derive(Default)]
struct Inbox {
    ready: BTreeMap<i64, Item>,
    /// The duration: when it is to be tried again.
    at_work: JoinSet<(i64, Item, Option<Duration>)>,
    /// The issues of those.
    busy: HashSet<IssueReference>,
    /// The newest that was read from the store.
    last: i64,
}

/// Works deliveries until the service stops.
pub(super) async fn run(service: Arc<Service>) {
    let mut inbox = Inbox::default();
    let mut look = true;
    loop {
        let mut pause = IDLE;
        if look && inbox.held() < MOST_HELD {
            match inbox.fill(&service).await {
                Ok(read) => look = read == BATCH as usize,
                Err(error) => {
                    tracing::warn!("the inbox cannot be read: {error:#}");
                    pause = FIRST_PAUSE;
                }
            }
        }
        if let Some(due) = inbox.begin(&service) {
            pause = pause.min(due.saturating_duration_since(Instant::now()));
        }
        tokio::select! {
            Some(worked) = inbox.at_work.join_next() => match worked {
                Ok(worked) => inbox.settle(worked),
                Err(error) => tracing::error!("a delivery was dropped: {error}"),
            },
            () = service.received.notified(), if !look => look = true,
            () = tokio::time::sleep(pause) => look = true,
            () = service.stop.cancelled() => return,
        }
    }
}

impl Inbox {
    fn held(&self) -> usize {
        self.ready.len() + self.at_work.len()
    }

    /// Takes what is new from the store; how many there were.
    async fn fill(&mut self, service: &Service) -> anyhow::Result<usize> {
        let deliveries = service.store.inbox(self.last, BATCH).await?;
        let read = deliveries.len();
        for (number, delivery) in deliveries {
            match item(service, &delivery) {
                Some(item) => drop(self.ready.insert(number, item)),
                None => service.store.delivered(&delivery.id).await?,
            }
            self.last = number;
        }
        Ok(read)
    }

    /// Begins what is due, as far as there is room; when the next one is due. An issue's later deliveries wait for its
    /// earlier ones.
    fn begin(&mut self, service: &Arc<Service>) -> Option<Instant> {
        let now = Instant::now();
        let (mut earlier, mut due, mut next) = (HashSet::new(), Vec::new(), None::<Instant>);
        for (number, item) in &self.ready {
            if self.at_work.len() + due.len() >= MOST_AT_WORK {
                break;
            }
            if self.busy.contains(&item.issue) || !earlier.insert(&item.issue) {
                continue;
            }
            match item.due <= now {
                true => due.push(*number),
                false => next = Some(next.map_or(item.due, |next| next.min(item.due))),
            }
        }
        for number in due {
            if let Some(item) = self.ready.remove(&number) {
                self.busy.insert(item.issue.clone());
                self.at_work.spawn(attempt(service.clone(), number, item));
            }
        }
        next
    }

    fn settle(&mut self, (number, mut item, again): (i64, Item, Option<Duration>)) {
        self.busy.remove(&item.issue);
        if let Some(pause) = again {
            item.attempt = item.attempt.saturating_add(1);
            item.due = Instant::now() + pause;
            self.ready.insert(number, item);
        }
    }
}

/// A delivery that is about an issue of ours.
fn item(service: &Service, delivery: &Delivery) -> Option<Item> {
    let payload: Payload = match serde_json::from_slice(&delivery.payload) {
        Ok(payload) => payload,
        Err(error) => {
            tracing::debug!("delivery {} ({}) is not read: {error}", delivery.id, delivery.event);
            return None;
        }
    };
    let dispatch = service.dispatch_repository(&payload.repository.full_name)?;
    let issue = IssueReference { repository: dispatch.clone(), number: payload.issue.number };
    let (id, event) = (delivery.id.clone(), delivery.event.clone());
    Some(Item { id, event, payload, issue, attempt: 0, due: Instant::now() })
}

/// Works one, and says when it is to be tried again; `None`: it is done with.
async fn attempt(service: Arc<Service>, number: i64, item: Item) -> (i64, Item, Option<Duration>) {
    let worked = AssertUnwindSafe(work(&service, &item)).catch_unwind().await;
    let worked = worked.unwrap_or_else(|_| Err(anyhow::anyhow!("it broke on an error of our own")));
    let mut again = again_after(&item, worked);
    if again.is_none()
        && let Err(error) = service.store.delivered(&item.id).await
    {
        tracing::warn!("delivery {} is worked again: {error}", item.id);
        again = Some(FIRST_PAUSE);
    }
    (number, item, again)
}

fn again_after(item: &Item, worked: anyhow::Result<Considered>) -> Option<Duration> {
    let pause = FIRST_PAUSE.saturating_mul(1 << item.attempt.min(8)).min(LONGEST_PAUSE);
    match worked {
        Ok(Considered::Done) => None,
        Ok(Considered::LookAgain(why)) => {
            tracing::debug!("delivery {} is tried again: {why}", item.id);
            Some(pause)
        }
        Err(error) if is_lasting(&error) && item.attempt + 1 >= ATTEMPTS => {
            tracing::warn!("delivery {} about {} is given up: {error:#}", item.id, item.issue);
            None
        }
        Err(error) => {
            tracing::debug!("delivery {} is tried again: {error:#}", item.id);
            Some(pipeline::limit_of(&error).unwrap_or_default().max(pause))
        }
    }
}

/// Whether trying again is of no use, as far as can be told.
fn is_lasting(error: &anyhow::Error) -> bool {
    let forge = error.chain().find_map(|cause| cause.downcast_ref::<ForgeError>());
    match forge {
        Some(error) => admit::is_lasting(error),
        None => !error.chain().any(|cause| cause.is::<StoreError>()),
    }
}

/// One delivery. An error is one of the world.
async fn work(service: &Service, item: &Item) -> anyhow::Result<Considered> {
    let (payload, dispatch) = (&item.payload, &item.issue.repository);
    let label = &service.config.label;
    let is_ours = payload.label.as_ref().is_some_and(|named| named.name.eq_ignore_ascii_case(label));
    let was_task = admit::has_label(&payload.issue, label);
    let seen = Seen { issue: &payload.issue, labeller: None, attempt: item.attempt };
    let told = match item.attempt < admit::PATIENCE {
        true => Departure::Told(&payload.issue.updated_at),
        false => Departure::Unlisted,
    };
    match (item.event.as_str(), payload.action.as_str()) {
        ("issues", "labeled") if is_ours => {
            let labeller = payload.sender.as_ref().map(|sender| sender.login.as_str());
            admit::consider(service, dispatch, Seen { labeller, ..seen }).await
        }
        // Another label may be one of priority.
        ("issues", "opened" | "edited" | "reopened" | "labeled") => admit::consider(service, dispatch, seen).await,
        ("issues", "unlabeled") if !is_ours => admit::consider(service, dispatch, seen).await,
        ("issues", "unlabeled") => admit::withdraw(service, &item.issue, told).await,
        ("issues", "closed") if was_task => admit::withdraw(service, &item.issue, told).await,
        ("issues", "deleted" | "transferred") if was_task => {
            admit::withdraw(service, &item.issue, Departure::Deleted).await
        }
        ("issue_comment", "created") => {
            let Some(comment) = &payload.comment else { return Ok(Considered::Done) };
            let author = comment.user.as_ref().map(|user| user.login.as_str()).unwrap_or_default();
            let body = comment.body.as_deref().unwrap_or_default();
            let said = Said { id: comment.id, issue: payload.issue.number, author, body };
            command::obey(service, dispatch, said).await
        }
        (_, _) => Ok(Considered::Done),
    }
}
