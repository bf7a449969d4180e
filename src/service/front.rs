//! The front: what comes in is looked at by one service at a time of those that share a database. Any of them takes
//! webhooks in; the one in front polls, and works them. Where it is not heard of, another one goes to the front.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Service, inbox, poll, queue};

const NAME: &str = "front";
/// Who is not heard of for so long is in front no more.
const LEASE: Duration = Duration::from_secs(15);
/// Between two words that it still is, or is asked for.
const RENEWAL: Duration = Duration::from_secs(4);

/// Polls and works the inbox whenever this service is in front, until it stops.
pub(super) async fn run(service: Arc<Service>) {
    let owner = queue::owner();
    let mut parts = JoinSet::new();
    let mut heard = Instant::now();
    while !service.stop.is_cancelled() {
        let asked = Instant::now();
        let is_first = match tokio::time::timeout(RENEWAL, service.store.lead(NAME, &owner, LEASE)).await {
            Ok(Ok(is_first)) => {
                heard = asked;
                is_first
            }
            // Nobody else can be told of it either, for as long as the lease holds.
            Ok(Err(_)) | Err(_) => !parts.is_empty() && heard.elapsed() < LEASE,
        };
        match (is_first, parts.is_empty()) {
            (true, true) => begin(&service, &mut parts),
            (false, false) => {
                tracing::warn!("another service looks at what comes in");
                parts.shutdown().await;
                for dispatch in &service.config.dispatch {
                    service.health.polled(dispatch, Ok(()));
                }
            }
            (true, false) | (false, true) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {}
            () = service.stop.cancelled() => {}
        }
    }
    while parts.join_next().await.is_some() {}
    if let Err(error) = service.store.lead_no_more(NAME, &owner).await {
        tracing::debug!("the next in front has to wait: {error}");
    }
}

fn begin(service: &Arc<Service>, parts: &mut JoinSet<()>) {
    for dispatch in &service.config.dispatch {
        parts.spawn(poll::run(service.clone(), dispatch.clone()));
    }
    parts.spawn(inbox::run(service.clone()));
}
