//! Which boxes are in use, so that all of them can be ended when the program must stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Counts what is in use and can tell all of it to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Open {
    stop: CancellationToken,
    count: Arc<watch::Sender<usize>>,
}

/// One use; dropping it ends the use.
#[derive(Debug)]
pub struct Use(Arc<watch::Sender<usize>>);

impl Open {
    /// Nothing is in use.
    pub fn new() -> Self {
        Self { stop: CancellationToken::new(), count: Arc::new(watch::Sender::new(0)) }
    }

    /// A group of its own that stops when this one stops.
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), count: self.count.clone() }
    }

    /// Begins a use.
    pub fn begin(&self) -> Use {
        self.count.send_modify(|count| *count += 1);
        Use(self.count.clone())
    }

    /// Resolves when everything has to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether everything has to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every use of this group to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Tells every use to stop and waits, up to `limit`, until none is left. Returns whether none is.
    pub async fn stop_and_wait(&self, limit: Duration) -> bool {
        self.stop.cancel();
        tokio::time::timeout(limit, self.idle()).await.is_ok()
    }

    /// Resolves when nothing is in use.
    pub async fn idle(&self) {
        // It fails only if the sender is gone, and we hold it.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Default for Open {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
