//! Which containers this process has, so that none of them outlives it.
//!
//! A name is registered before its container is ordered and forgotten only when the engine has confirmed the removal.
//! So an interrupt finds every container here, whatever was dropped before it and at whatever moment.

use std::any::Any;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::SandboxError;
use super::engine::{self, ANSWER_LIMIT, ask};
use super::open::{Open, Use};

/// Removals in the background, of all engines of this process.
static REMOVALS: LazyLock<Open> = LazyLock::new(Open::new);

/// The containers of one engine that are not known to be gone.
#[derive(Debug)]
pub struct Registry {
    docker: Docker,
    /// Counts the orders that the engine has not answered yet.
    orders: Open,
    names: Mutex<HashSet<String>>,
}

/// A container's name, taken before the container is ordered. Dropping it has the container removed, if there is one.
#[derive(Debug)]
pub struct Registered {
    registry: Arc<Registry>,
    name: String,
    /// Let go of when the container is gone.
    hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl Registry {
    /// No container yet.
    pub fn new(docker: Docker) -> Arc<Self> {
        Arc::new(Self { docker, orders: Open::new(), names: Mutex::new(HashSet::new()) })
    }

    /// Removes all containers and waits, up to `limit`, until they are gone; also those that were dropped a moment ago
    /// and those that are just being made.
    pub async fn remove_all(&self, limit: Duration) {
        let removal = async {
            self.orders.idle().await;
            let names: Vec<String> = self.lock().iter().cloned().collect();
            for removed in futures_util::future::join_all(names.iter().map(|name| self.remove(name))).await {
                if let Err(error) = removed {
                    tracing::warn!("{error}");
                }
            }
        };
        if tokio::time::timeout(limit, removal).await.is_err() {
            tracing::warn!("the engine is slow to remove a container; the next start removes what is left");
        }
    }

    async fn remove(&self, name: &str) -> Result<(), SandboxError> {
        engine::remove(&self.docker, name).await?;
        self.lock().remove(name);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    /// Takes a fresh name, and `hold` until its container is gone.
    pub fn new(registry: &Arc<Registry>, hold: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        let name = format!("patchwright-{}", uuid::Uuid::new_v4().simple());
        registry.lock().insert(name.clone());
        Self { registry: registry.clone(), name, hold }
    }

    /// Has the engine make the container and gives its number.
    ///
    /// The order is a task of its own: an engine that was asked may make the container even if nobody listens any more,
    /// and a removal that comes before that finds nothing. So removals wait for the answer.
    pub async fn order(&self, body: ContainerCreateBody) -> Result<String, SandboxError> {
        let (docker, pending) = (self.registry.docker.clone(), self.registry.orders.begin());
        let options = CreateContainerOptionsBuilder::default().name(&self.name).build();
        let order = tokio::spawn(async move {
            let answer = docker.create_container(Some(options), body);
            let created = ask("create a container", ANSWER_LIMIT, answer).await;
            drop(pending);
            created
        });
        let created = order.await.map_err(|error| SandboxError::Broken(format!("no container was made: {error}")))?;
        Ok(created?.id)
    }

    /// Removes the container and waits until it is gone.
    pub async fn remove(&self) -> Result<(), SandboxError> {
        self.registry.remove(&self.name).await
    }

    /// Starts the removal, if the container is not removed yet, and does not wait for it.
    pub fn remove_later(&self) {
        if !self.registry.lock().contains(&self.name) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (registry, name, hold) = (self.registry.clone(), self.name.clone(), self.hold.clone());
            let removal = REMOVALS.begin();
            runtime.spawn(async move {
                registry.orders.idle().await;
                if let Err(error) = registry.remove(&name).await {
                    tracing::warn!("{error}");
                }
                drop((hold, removal));
            });
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.remove_later();
    }
}

/// A removal in the background, of whatever kind, as long as the answer lives.
pub fn removal() -> Use {
    REMOVALS.begin()
}

/// Waits, up to `limit`, until no removal is under way in the background.
pub async fn await_removals(limit: Duration) {
    if tokio::time::timeout(limit, REMOVALS.idle()).await.is_err() {
        tracing::warn!("a box is slow to end; the next start removes what is left");
    }
}
