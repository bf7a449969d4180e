//! The service: issues of the dispatch repositories come in by polling and webhooks, are kept in the store, and are
//! worked by [`crate::pipeline`], each exactly once.
//!
//! 1. the store is opened, the sandbox probed, and what a crash left is swept;
//! 2. a poller for each dispatch repository, the inbox of webhooks and the HTTP listeners feed the store;
//! 3. the queue claims tasks and works them, as many at a time as the operator allows;
//! 4. a signal ends it: nothing new is claimed, what runs may end within `drain_seconds`, the rest is given back.

mod admit;
pub mod assemble;
mod boxes;
pub mod command;
pub mod doctor;
mod front;
mod health;
mod http;
mod inbox;
mod listener;
mod metrics;
pub mod policy;
mod poll;
mod queue;
mod record;
pub mod trust;
pub mod webhook;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::serve::ServeConfig;
use crate::forge::Forge;
use crate::store::{SoleService, Store};
use crate::task::RepositoryName;
use crate::workspace::{self, Workspace};
use assemble::ModelLink;
use boxes::Boxes;
use health::Health;

/// Closing the sandboxes that are still open takes at most this long.
const GOODBYE: Duration = Duration::from_millis(1500);
/// Removing the folders of tasks at the end takes at most this long.
const LONGEST_REMOVAL: Duration = Duration::from_secs(10);

/// What all parts of the service share.
struct Service {
    config: ServeConfig,
    store: Store,
    _sole: SoleService,
    forge: Forge,
    workspace: Workspace,
    boxes: Boxes,
    model: ModelLink,
    permissions: trust::Permissions,
    turns: admit::Turns,
    health: Health,
    metrics: metrics::Metrics,
    /// The forge has refused our credentials; the queue asks whether they are good again.
    refused: AtomicBool,
    /// A task may be ready to be claimed.
    queued: Notify,
    /// A webhook was taken in.
    received: Notify,
    /// Workers are to ask at once whether their task was cancelled.
    beat: Notify,
    /// Nothing new is begun any more.
    stop: CancellationToken,
    /// Running tasks are given back.
    halt: CancellationToken,
}

impl Service {
    /// The configured dispatch repository of that name, if it is one.
    fn dispatch_repository(&self, name: &str) -> Option<&RepositoryName> {
        self.config.dispatch.iter().find(|known| known.to_string().eq_ignore_ascii_case(name))
    }
}

/// Runs the service until a signal ends it, or, with `once`, until nothing is left to do. An error is one of the start.
pub async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let service = Arc::new(start(config).await?);
    let signals = tokio::spawn(heed_signals(service.clone(), signals));
    let ended = match service.config.once {
        true => once(&service).await,
        false => run(&service).await,
    };
    service.stop.cancel();
    service.halt.cancel();
    service.boxes.close_all(GOODBYE).await;
    let removed = tokio::task::spawn_blocking(|| workspace::await_removals(LONGEST_REMOVAL));
    drop(removed.await);
    signals.abort();
    tracing::info!("stopped");
    ended
}

async fn start(config: ServeConfig) -> anyhow::Result<Service> {
    let forge = Forge::new(&config.forge)?;
    if !forge.has_token() {
        anyhow::bail!("GITHUB_TOKEN is not set, so no issue can be read and no pull request opened. Set it");
    }
    let store = Store::open(&config.store).await.context("cannot open the store")?;
    let sole = store.take_over().await.context("cannot begin to serve")?;
    let workspace = Workspace::new(config.workspace.clone())?;
    let (boxes, ()) = tokio::join!(Boxes::probe(&config.sandbox), workspace.warm_up());
    let boxes = boxes?;
    let swept = workspace.sweep() + boxes.sweep().await;
    if swept > 0 {
        tracing::info!("removed {swept} leftovers of runs that were killed");
    }
    Ok(Service {
        model: ModelLink::new(config.model.clone()),
        permissions: trust::Permissions::default(),
        turns: admit::Turns::default(),
        health: Health::default(),
        metrics: metrics::Metrics::install()?,
        refused: AtomicBool::new(false),
        queued: Notify::new(),
        received: Notify::new(),
        beat: Notify::new(),
        stop: CancellationToken::new(),
        halt: CancellationToken::new(),
        config,
        store,
        _sole: sole,
        forge,
        workspace,
        boxes,
    })
}

/// Front (pollers and inbox), listeners and queue, side by side.
async fn run(service: &Arc<Service>) -> anyhow::Result<()> {
    let listeners = http::bind(service).await?;
    let parts = TaskTracker::new();
    parts.spawn(front::run(service.clone()));
    parts.spawn(metrics::keep_up(service.clone()));
    let listening = listeners.into_iter().map(|listener| tokio::spawn(listener)).collect::<Vec<_>>();
    let names: Vec<String> = service.config.dispatch.iter().map(ToString::to_string).collect();
    tracing::info!("watching {} with {} workers", names.join(", "), service.config.queue.workers);
    queue::run(service.clone(), false).await;
    service.stop.cancel();
    parts.close();
    // What waits for the forge is not worth waiting for.
    drop(tokio::time::timeout(GOODBYE, parts.wait()).await);
    for listener in listening {
        listener.abort();
    }
    Ok(())
}

/// One pass: everything that is there is taken in and worked.
async fn once(service: &Arc<Service>) -> anyhow::Result<()> {
    let mut failed = None;
    for dispatch in &service.config.dispatch {
        tokio::select! {
            passed = poll::pass(service, dispatch) => {
                if let Err(error) = passed {
                    failed = Some(error.context(format!("cannot read the issues of {dispatch}")));
                }
            }
            () = service.stop.cancelled() => return Ok(()),
        }
    }
    queue::run(service.clone(), true).await;
    failed.map_or(Ok(()), Err)
}

/// The first signal stops, and gives what runs its time; the second one gives it back at once.
async fn heed_signals(service: Arc<Service>, mut signals: (tokio::signal::unix::Signal, tokio::signal::unix::Signal)) {
    let mut next = async || {
        tokio::select! { _ = signals.0.recv() => {}, _ = signals.1.recv() => {} }
    };
    next().await;
    let drain = service.config.queue.drain;
    tracing::info!("stopping: running tasks have {} s to end", drain.as_secs());
    service.stop.cancel();
    tokio::select! { () = next() => {}, () = tokio::time::sleep(drain) => {} }
    service.halt.cancel();
}
