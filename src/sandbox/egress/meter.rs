//! Bytes that pass between the sandbox and the proxy: counted, bounded for the task, and missed when none come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is left of a task's bytes.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// One connection's counter.
#[derive(Debug)]
pub struct Meter {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl Meter {
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: AtomicU64::new(0) }
    }

    /// Bytes that passed, both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the task has passed its limit.
    pub fn is_spent(&self) -> bool {
        self.budget.used() > self.budget.limit
    }

    /// Resolves when nothing has passed for `limit`, or up to a quarter longer.
    pub async fn silence(&self, limit: Duration) {
        const PARTS: u32 = 4;
        let mut quiet = 0;
        let mut seen = self.bytes();
        while quiet < PARTS {
            tokio::time::sleep(limit / PARTS).await;
            let now = self.bytes();
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
    }

    fn pass(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        if self.is_spent() { Err(io::Error::other("the task has used up its bytes")) } else { Ok(()) }
    }
}

/// A stream whose bytes are counted; it fails when the task's are used up.
pub struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub fn new(stream: S, meter: &Arc<Meter>) -> Self {
        Self { stream, meter: meter.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.meter.pass(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, buffer))?;
        Poll::Ready(self.meter.pass(written).map(|()| written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
