//! The queue's hands: as many tasks at a time as the operator allows, claimed as soon as there is one to claim.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::assemble::Outage;
use super::{Service, health, policy, work};
use crate::forge::ForgeError;
use crate::store::{Claim, ClaimRules};
use crate::task::RepositoryName;

/// A claim holds for so long without a heartbeat.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// Another process may change the queue, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at least, unless something was heard.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
/// Disk and budgets are looked at so often.
const GATE: Duration = Duration::from_secs(5);
/// The size of the workspace is measured so often.
const MEASURE: Duration = Duration::from_secs(60);

/// Claims and works tasks until the service stops, and what runs has ended or was given back; with `once`, until nothing
/// can be begun.
pub(super) async fn run(service: Arc<Service>, once: bool) {
    let mut running = JoinSet::new();
    let mut gate = Gate::default();
    let mut number: u64 = 0;
    while !service.stop.is_cancelled() {
        let mut idle = false;
        while running.len() < service.config.queue.workers && !service.stop.is_cancelled() {
            number += 1;
            match claim(&service, &mut gate, number).await {
                Ok(Some(claim)) => drop(running.spawn(work::work(service.clone(), claim))),
                Ok(None) => {
                    idle = true;
                    break;
                }
                Err(error) => {
                    tracing::error!("no task can be claimed: {error:#}");
                    break;
                }
            }
        }
        if once && idle && running.is_empty() {
            return;
        }
        let due = service.store.next_due().await.ok().flatten().unwrap_or(LOOK);
        tokio::select! {
            () = service.stop.cancelled() => {}
            () = service.queued.notified() => {}
            // Another service has taken a webhook in, or changed the queue.
            () = service.store.changed() => service.received.notify_one(),
            Some(_) = running.join_next() => {}
            () = tokio::time::sleep(due.clamp(SHORTEST_LOOK, LOOK)) => {}
        }
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

async fn claim(service: &Service, gate: &mut Gate, number: u64) -> anyhow::Result<Option<Claim>> {
    let way = gate.way(service).await?;
    // A look costs no write; what is ready counts as due in a moment.
    if way == Way::Shut || service.store.next_due().await?.is_none_or(|due| due > LOOK) {
        return Ok(None);
    }
    let queue = &service.config.queue;
    let rules = ClaimRules {
        owner: format!("{}-{number}", owner()),
        lease: LEASE,
        attempts: queue.attempts,
        per_repository: queue.per_repository,
        closed: gate.closed.clone(),
        reports_only: way == Way::ReportsOnly,
    };
    Ok(service.store.claim(&rules).await?)
}

/// Names this process among those that share a store.
pub(super) fn owner() -> String {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{machine}-{}", std::process::id())
}

/// What may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Budgets, disk: what has ended may still be told.
    ReportsOnly,
    /// The forge refuses our credentials, so nothing can be done or told.
    Shut,
}

/// Whether anything may begin: credentials, budgets and disk.
#[derive(Default)]
struct Gate {
    looked: Option<(Instant, Way)>,
    refusal: Outage,
    closed: Vec<(RepositoryName, String)>,
    measured: Option<(Instant, u64)>,
}

impl Gate {
    async fn way(&mut self, service: &Service) -> anyhow::Result<Way> {
        if service.refused.load(Ordering::Relaxed) {
            self.looked = None;
            if let Some(reason) = self.refused(service).await {
                service.health.pause(Some(reason));
                return Ok(Way::Shut);
            }
        }
        if let Some((at, way)) = self.looked
            && at.elapsed() < GATE
        {
            return Ok(way);
        }
        let budget = &service.config.budget;
        let mut reason = health::disk_trouble(service);
        if reason.is_none() {
            reason = self.workspace_trouble(service).await;
        }
        if reason.is_none() && (budget.tokens.is_some() || budget.micros.is_some()) {
            reason = policy::paused(budget, &service.store.spent_today(None).await?);
        }
        self.closed = closed_targets(service).await?;
        let way = if reason.is_none() { Way::Open } else { Way::ReportsOnly };
        service.health.pause(reason);
        self.looked = Some((Instant::now(), way));
        Ok(way)
    }

    /// Whether the forge still refuses our credentials, and the words for it.
    async fn refused(&mut self, service: &Service) -> Option<String> {
        if let Some((reason, _)) = self.refusal.holds() {
            return Some(reason);
        }
        let dispatch = service.config.dispatch.first()?;
        match service.forge.repository(dispatch).await {
            Err(error @ (ForgeError::Unauthorized | ForgeError::Transient { .. } | ForgeError::RateLimited { .. })) => {
                Some(self.refusal.miss(&service.config.queue, error.to_string()).0)
            }
            // It knows us: any other answer is none of the credentials' business.
            Ok(_)
            | Err(
                ForgeError::NotFound { .. }
                | ForgeError::Forbidden { .. }
                | ForgeError::Unprocessable { .. }
                | ForgeError::Unexpected { .. },
            ) => {
                self.refusal.end();
                service.refused.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// Why the operator's limit on the workspace holds tasks back.
    async fn workspace_trouble(&mut self, service: &Service) -> Option<String> {
        let limit = service.config.workspace_limit?;
        let size = match self.measured.filter(|(at, _)| at.elapsed() < MEASURE) {
            Some((_, size)) => size,
            None => {
                let workspace = service.workspace.clone();
                let measure = move || {
                    let size = workspace.size();
                    let excess = size.saturating_sub(limit);
                    size - if excess > 0 { workspace.evict(excess).min(size) } else { 0 }
                };
                let size = tokio::task::spawn_blocking(measure).await.unwrap_or(0);
                self.measured = Some((Instant::now(), size));
                size
            }
        };
        (size > limit).then(|| {
            let (size, limit) = (size >> 20, limit >> 20);
            format!(
                "the workspace holds {size} of {limit} MiB, all of it in use. Raise the limit, or wait for tasks to end"
            )
        })
    }
}

async fn closed_targets(service: &Service) -> anyhow::Result<Vec<(RepositoryName, String)>> {
    let budget = &service.config.budget;
    let mut closed = Vec::new();
    if !policy::has_repository_budget(budget) {
        return Ok(closed);
    }
    for target in service.store.queued_targets().await? {
        let spent = service.store.spent_today(Some(&target)).await?;
        if let Some(reason) = policy::closed(budget, &target, &spent) {
            closed.push((target, reason));
        }
    }
    Ok(closed)
}
