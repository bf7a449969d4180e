//! Health: what the service needs, and which of it is down. Answers are at most a few seconds old, and never wait long.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Service;
use crate::task::RepositoryName;

/// An answer is good for so long.
const FRESH: Duration = Duration::from_secs(5);
/// The sandbox is tried with a real command, and the model's server and the forge are asked; that costs more.
const FRESH_PROBE: Duration = Duration::from_secs(30);
/// Whatever has not answered by then is down.
const LONGEST_CHECK: Duration = Duration::from_secs(3);

/// One thing that the service needs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Condition {
    Ok,
    /// Not there, and not needed for every task.
    Absent {
        reason: String,
    },
    Down {
        reason: String,
    },
}

/// What `/readyz` answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub ready: bool,
    pub store: Condition,
    pub github: Condition,
    pub model: Condition,
    pub sandbox: Condition,
    pub disk: Condition,
    /// Why nothing new is begun, though all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    /// How the last pass of each poller went.
    polled: Mutex<BTreeMap<String, Result<(), String>>>,
    paused: Mutex<Option<String>>,
    probes: tokio::sync::Mutex<Probes>,
}

#[derive(Debug, Default)]
struct Probes {
    report: Option<(Instant, Report)>,
    /// Model, sandbox and forge.
    slow: Option<(Instant, [Condition; 3])>,
}

impl Health {
    /// Remembers how a pass went.
    pub(super) fn polled(&self, dispatch: &RepositoryName, passed: Result<(), String>) {
        lock(&self.polled).insert(dispatch.to_string(), passed);
    }

    /// Remembers why nothing new is begun; a change is logged.
    pub(super) fn pause(&self, reason: Option<String>) {
        let mut paused = lock(&self.paused);
        match (&*paused, &reason) {
            (None, Some(reason)) => tracing::warn!("nothing new is begun: {reason}"),
            (Some(_), None) => tracing::info!("tasks are begun again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        *paused = reason;
    }

    /// Whether nothing new is begun now.
    pub(super) fn is_paused(&self) -> bool {
        lock(&self.paused).is_some()
    }

    /// What is well and what is not.
    pub(super) async fn report(&self, service: &Service) -> Report {
        let mut probes = self.probes.lock().await;
        if let Some((made, report)) = &probes.report
            && made.elapsed() < FRESH
        {
            return report.clone();
        }
        let slow = match probes.slow.take().filter(|(made, ..)| made.elapsed() < FRESH_PROBE) {
            Some(slow) => slow,
            None => {
                let (boxes, forge) = (service.boxes.check(), service.forge.check());
                let (model, sandbox, forge) = tokio::join!(model(service), within(boxes), within(forge));
                (Instant::now(), [model, sandbox, forge])
            }
        };
        let store = within(service.store.check()).await;
        let down = |condition: &Condition| matches!(condition, Condition::Down { .. });
        let [model, sandbox, forge] = slow.1.clone();
        // What is down is asked again soon.
        if !slow.1.iter().any(down) {
            probes.slow = Some(slow);
        }
        let (github, disk) = (self.github(forge), disk(service));
        let ready = ![&store, &github, &model, &sandbox, &disk].into_iter().any(down);
        let report = Report { ready, store, github, model, sandbox, disk, paused: lock(&self.paused).clone() };
        probes.report = Some((Instant::now(), report.clone()));
        report
    }

    /// The passes tell most; between them, and before the first one, it counts whether the forge answers.
    fn github(&self, probed: Condition) -> Condition {
        let polled = lock(&self.polled);
        let failed: Vec<String> =
            polled.iter().filter_map(|(name, passed)| Some(format!("{name}: {}", passed.as_ref().err()?))).collect();
        match failed.is_empty() {
            true => probed,
            false => Condition::Down { reason: failed.join("; ") },
        }
    }
}

async fn model(service: &Service) -> Condition {
    match within(service.model.check()).await {
        Condition::Down { reason } if !service.model.is_configured() => Condition::Absent { reason },
        condition => condition,
    }
}

async fn within<T, E: std::fmt::Display>(check: impl Future<Output = Result<T, E>>) -> Condition {
    match tokio::time::timeout(LONGEST_CHECK, check).await {
        Ok(Ok(_)) => Condition::Ok,
        Ok(Err(error)) => Condition::Down { reason: error.to_string() },
        Err(_) => Condition::Down { reason: format!("no answer within {} s", LONGEST_CHECK.as_secs()) },
    }
}

fn disk(service: &Service) -> Condition {
    match disk_trouble(service) {
        None => Condition::Ok,
        Some(reason) => Condition::Down { reason },
    }
}

/// Why there is no room for another task.
pub(super) fn disk_trouble(service: &Service) -> Option<String> {
    let config = &service.config;
    let workspace = [config.workspace.temporary.as_path(), config.workspace.cache.as_path()];
    room(workspace.into_iter().chain(config.store.folder()), config.free_limit)
}

/// Why there is no room of `limit` bytes below each of these folders.
pub(super) fn room<'a>(folders: impl IntoIterator<Item = &'a Path>, limit: u64) -> Option<String> {
    for folder in folders {
        let free = match rustix::fs::statvfs(folder) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(error) => return Some(format!("{} cannot be used: {error}", folder.display())),
        };
        if free < limit {
            return Some(format!("{} has {} MiB left. Make room", folder.display(), free >> 20));
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
