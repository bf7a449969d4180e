//! The queue's hands: as many tasks at a time as the operator allows, claimed as soon as there is one to claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Service, health, policy, work};
use crate::store::{Claim, ClaimRules, Filter, State};
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
            Some(_) = running.join_next() => {}
            () = tokio::time::sleep(due.clamp(SHORTEST_LOOK, LOOK)) => {}
        }
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

async fn claim(service: &Service, gate: &mut Gate, number: u64) -> anyhow::Result<Option<Claim>> {
    // A look costs no write; what is ready counts as due in a moment.
    if service.store.next_due().await?.is_none_or(|due| due > LOOK) {
        return Ok(None);
    }
    if !gate.is_open(service).await? {
        return Ok(None);
    }
    let queue = &service.config.queue;
    let rules = ClaimRules {
        owner: format!("{}-{number}", owner()),
        lease: LEASE,
        attempts: queue.attempts,
        per_repository: queue.per_repository,
        closed: gate.closed.clone(),
    };
    Ok(service.store.claim(&rules).await?)
}

/// Names this process among those that share a store.
fn owner() -> String {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{machine}-{}", std::process::id())
}

/// Whether anything may begin: budgets and disk.
#[derive(Default)]
struct Gate {
    looked: Option<Instant>,
    open: bool,
    closed: Vec<(RepositoryName, String)>,
    measured: Option<(Instant, u64)>,
}

impl Gate {
    async fn is_open(&mut self, service: &Service) -> anyhow::Result<bool> {
        if self.looked.is_some_and(|looked| looked.elapsed() < GATE) {
            return Ok(self.open);
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
        self.open = reason.is_none();
        service.health.pause(reason);
        self.looked = Some(Instant::now());
        Ok(self.open)
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
    let queued = service.store.list(&Filter { states: vec![State::Queued], limit: 0 }).await?;
    let mut targets: Vec<RepositoryName> = queued.into_iter().filter_map(|task| task.target).collect();
    targets.sort();
    targets.dedup();
    for target in targets {
        let spent = service.store.spent_today(Some(&target)).await?;
        if let Some(reason) = policy::closed(budget, &target, &spent) {
            closed.push((target, reason));
        }
    }
    Ok(closed)
}
