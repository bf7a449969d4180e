//! The inbox: webhooks that were taken in, one after the other, through the same doors as what polling finds.
//!
//! A delivery that cannot be worked, since the forge does not answer, is tried again later, and does not hold up the
//! others; polling finds what is given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Service;
use super::admit::{self, CLOSED, UNLABELLED};
use super::command::{self, Said};
use super::poll;
use super::webhook::Payload;
use crate::store::Delivery;
use crate::task::IssueReference;

/// Deliveries that are read from the store at a time.
const BATCH: u32 = 100;
/// How often a delivery is tried.
const ATTEMPTS: u32 = 8;
/// Before the second attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The inbox is looked at so often even if nothing was heard.
const IDLE: Duration = Duration::from_secs(30);

/// Deliveries that failed: how often, and when they are tried again.
type Waiting = HashMap<String, (u32, Instant)>;

/// Works deliveries until the service stops.
pub(super) async fn run(service: Arc<Service>) {
    let mut waiting = Waiting::new();
    loop {
        let worked = tokio::select! {
            worked = drain(&service, &mut waiting) => worked,
            () = service.stop.cancelled() => return,
        };
        let pause = match worked {
            Ok(true) => continue,
            Ok(false) if waiting.is_empty() => IDLE,
            Ok(false) => FIRST_PAUSE,
            Err(error) => {
                tracing::warn!("the inbox cannot be read: {error:#}");
                FIRST_PAUSE
            }
        };
        tokio::select! {
            () = service.received.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = service.stop.cancelled() => return,
        }
    }
}

/// Works what is due; whether there was anything.
async fn drain(service: &Service, waiting: &mut Waiting) -> anyhow::Result<bool> {
    let limit = BATCH.saturating_add(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
    let mut any = false;
    for delivery in service.store.inbox(limit).await? {
        let attempt = match waiting.get(&delivery.id) {
            Some((_, due)) if *due > Instant::now() => continue,
            Some((attempt, _)) => *attempt,
            None => 0,
        };
        any = true;
        if let Err(error) = work(service, &delivery).await {
            if attempt + 1 < ATTEMPTS {
                tracing::debug!("delivery {} is tried again: {error:#}", delivery.id);
                let due = Instant::now() + FIRST_PAUSE.saturating_mul(1 << attempt);
                waiting.insert(delivery.id, (attempt + 1, due));
                continue;
            }
            tracing::warn!("delivery {} is given up, and left to polling: {error:#}", delivery.id);
        }
        waiting.remove(&delivery.id);
        service.store.delivered(&delivery.id).await?;
    }
    Ok(any)
}

/// One delivery. An error is one of the world.
async fn work(service: &Service, delivery: &Delivery) -> anyhow::Result<()> {
    let payload: Payload = match serde_json::from_slice(&delivery.payload) {
        Ok(payload) => payload,
        Err(error) => {
            tracing::debug!("delivery {} ({}) is not read: {error}", delivery.id, delivery.event);
            return Ok(());
        }
    };
    let Some(dispatch) = service.dispatch_repository(&payload.repository.full_name) else { return Ok(()) };
    let reference = IssueReference { repository: dispatch.clone(), number: payload.issue.number };
    let label = &service.config.label;
    let is_ours = payload.label.as_ref().is_some_and(|named| named.name.eq_ignore_ascii_case(label));
    match (delivery.event.as_str(), payload.action.as_str()) {
        ("issues", "labeled") if is_ours => {
            let labeller = payload.sender.as_ref().map(|sender| sender.login.as_str());
            admit::consider(service, dispatch, &payload.issue, labeller).await
        }
        ("issues", "opened" | "edited" | "reopened" | "labeled") => {
            admit::consider(service, dispatch, &payload.issue, None).await
        }
        ("issues", "unlabeled") if is_ours => poll::cancel(service, &reference, UNLABELLED).await,
        // Another label, which may be one of priority.
        ("issues", "unlabeled") => admit::consider(service, dispatch, &payload.issue, None).await,
        ("issues", "closed" | "deleted" | "transferred") => poll::cancel(service, &reference, CLOSED).await,
        ("issue_comment", "created") => {
            let Some(comment) = &payload.comment else { return Ok(()) };
            let author = comment.user.as_ref().map(|user| user.login.as_str()).unwrap_or_default();
            let body = comment.body.as_deref().unwrap_or_default();
            let said = Said { id: comment.id, issue: payload.issue.number, author, body };
            command::obey(service, dispatch, said).await
        }
        (_, _) => Ok(()),
    }
}
