//! How an identity behaves towards the forge: all requests of a client, its clones and its per-task clients pass here.
//!
//! A request is admitted when no pause is in force, when there is room below the most requests in flight, and when the
//! primary limit holds enough for those in flight and this one: so the limit is never overrun by us, and none of it lies
//! idle in reserve. Writes besides wait for each other: they are never parallel, and after a short burst they are
//! spaced. What an answer tells about limits is learned here, and a limit stops everybody until it lifts.
//!
//! Source: GitHub's documentation, "Rate limits for the REST API" and "Best practices for using the REST API".

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::watch::Limits;

/// Requests on their way at the same time. GitHub allows 100 for all of an identity's clients together.
const MOST_IN_FLIGHT: usize = 10;
/// Writes that may follow each other at once, which is about what one task needs; the next ones are spaced.
const WRITES_AT_ONCE: u32 = 8;
/// GitHub's secondary limits without a `Retry-After` ask for a minute; it doubles while they go on.
const DEFAULT_PAUSE: Duration = Duration::from_secs(60);
/// No limit of GitHub's lasts longer than an hour; a header that says so is wrong, or our clock is.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_700);
/// A pause is lengthened at random by up to a tenth, and by no more than this, so that not all processes wake at once.
const MOST_JITTER: Duration = Duration::from_secs(1);

/// What all requests of one identity share.
#[derive(Debug)]
pub(super) struct Manners {
    write_spacing: Duration,
    room: Arc<Semaphore>,
    write_turn: Arc<tokio::sync::Mutex<Instant>>,
    learned: Mutex<Learned>,
    answered: Notify,
    requests: AtomicU64,
    not_modified: AtomicU64,
    failures: AtomicU64,
}

/// What the answers told.
#[derive(Debug, Default)]
struct Learned {
    /// Of the primary limit, and when it is full again.
    primary: Option<Primary>,
    paused_until: Option<Instant>,
    /// Secondary limits in a row.
    strikes: u32,
    in_flight: u64,
}

#[derive(Debug, Clone, Copy)]
struct Primary {
    remaining: u64,
    /// Seconds since 1970, by the forge's clock.
    reset: u64,
    /// The same by ours.
    full_again: Instant,
}

/// What a limit asks for; the caller has no patience for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooLong(pub(super) Duration);

/// An admitted request; dropping it makes room for the next.
#[derive(Debug)]
pub(super) struct Pass {
    manners: Arc<Manners>,
    _room: OwnedSemaphorePermit,
    _write: Option<OwnedMutexGuard<Instant>>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.manners.learned().in_flight -= 1;
        self.manners.answered.notify_waiters();
    }
}

/// Whether a request may go now.
enum Gate {
    Open,
    /// The answers that are on their way may use up the limit: wait for one of them.
    AfterAnAnswer,
    Shut(Duration),
}

impl Manners {
    /// `write_spacing`: between writes, after a burst; zero for none.
    pub(super) fn new(write_spacing: Duration) -> Self {
        Self {
            write_spacing,
            room: Arc::new(Semaphore::new(MOST_IN_FLIGHT)),
            write_turn: Arc::new(tokio::sync::Mutex::new(Instant::now())),
            learned: Mutex::default(),
            answered: Notify::new(),
            requests: AtomicU64::new(0),
            not_modified: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Waits until a request may go. `patience` is what limits may still cost it; what they did cost is taken off.
    pub(super) async fn admit(self: &Arc<Self>, write: bool, patience: &mut Duration) -> Result<Pass, TooLong> {
        // Before any turn: whoever has no patience is told at once, not after those who have.
        self.refuse_if_shut(*patience)?;
        let turn = if write { Some(self.next_write().await) } else { None };
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return Err(TooLong(DEFAULT_PAUSE)) };
        loop {
            let answer = self.answered.notified();
            let mut answer = std::pin::pin!(answer);
            answer.as_mut().enable();
            match self.gate() {
                Gate::Open => return Ok(Pass { manners: Arc::clone(self), _room: room, _write: turn }),
                Gate::AfterAnAnswer => answer.await,
                Gate::Shut(wait) => {
                    self.refuse_if_shut(*patience)?;
                    *patience = patience.saturating_sub(wait);
                    tokio::time::sleep(wait + jitter(wait)).await;
                }
            }
        }
    }

    /// Learns from an answer. `primary`: the limit it tells of is that of our requests. The wait, if it is a limit.
    pub(super) fn learn(&self, status: u16, headers: &HeaderMap, body: &[u8], primary: bool) -> Option<Duration> {
        let limit = limit_of(status, headers, body);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status == 304 {
            self.not_modified.fetch_add(1, Ordering::Relaxed);
        }
        if status >= 500 || limit.is_some() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let mut learned = self.learned();
        if primary && let Some(told) = primary_of(headers) {
            learned.primary = Some(match learned.primary {
                // Answers overtake each other: within one window it only goes down.
                Some(known) if known.reset == told.reset && known.remaining < told.remaining => known,
                Some(_) | None => told,
            });
        }
        let wait = match limit {
            None => {
                if status < 400 {
                    learned.strikes = 0;
                }
                return None;
            }
            Some(Limit::Told(wait)) => wait,
            Some(Limit::Untold) => {
                learned.strikes = (learned.strikes + 1).min(5);
                DEFAULT_PAUSE.saturating_mul(1 << (learned.strikes - 1))
            }
        };
        let wait = wait.min(LONGEST_PAUSE);
        let until = Instant::now() + wait;
        learned.paused_until = Some(learned.paused_until.map_or(until, |known| known.max(until)));
        Some(wait)
    }

    /// A request got no answer.
    pub(super) fn lost(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// For health and metrics.
    pub(super) fn limits(&self) -> Limits {
        let learned = self.learned();
        let now = Instant::now();
        let exhausted = learned.primary.filter(|primary| primary.remaining == 0).map(|primary| primary.full_again);
        let until = learned.paused_until.max(exhausted);
        Limits {
            remaining: learned.primary.map(|primary| primary.remaining),
            reset: learned.primary.map(|primary| primary.reset),
            paused: until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero()),
            requests: self.requests.load(Ordering::Relaxed),
            not_modified: self.not_modified.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    fn refuse_if_shut(&self, patience: Duration) -> Result<(), TooLong> {
        match self.limits().paused {
            Some(wait) if wait > patience => Err(TooLong(wait)),
            Some(_) | None => Ok(()),
        }
    }

    /// Opens for one more, or says what it waits for.
    fn gate(&self) -> Gate {
        let mut learned = self.learned();
        let now = Instant::now();
        if let Some(until) = learned.paused_until.filter(|until| *until > now) {
            return Gate::Shut(until - now);
        }
        let primary = learned.primary.filter(|primary| primary.full_again > now);
        if let Some(primary) = primary
            && primary.remaining <= learned.in_flight
        {
            return match learned.in_flight {
                0 => Gate::Shut(primary.full_again - now),
                _ => Gate::AfterAnAnswer,
            };
        }
        learned.in_flight += 1;
        Gate::Open
    }

    /// The turn of a write; the next one waits until it is dropped.
    ///
    /// The generic cell rate algorithm: the guarded instant is when the writes so far would have been done if each took
    /// the spacing, and a burst may run ahead of it.
    async fn next_write(&self) -> OwnedMutexGuard<Instant> {
        let mut done = Arc::clone(&self.write_turn).lock_owned().await;
        let ahead = self.write_spacing * (WRITES_AT_ONCE - 1);
        let wait = done.saturating_duration_since(Instant::now()).saturating_sub(ahead);
        tokio::time::sleep(wait).await;
        *done = (*done).max(Instant::now()) + self.write_spacing;
        done
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Limit {
    Told(Duration),
    Untold,
}

/// Whether a refusal is a limit: `Retry-After`, the primary limit used up, or words about a limit.
fn limit_of(status: u16, headers: &HeaderMap, body: &[u8]) -> Option<Limit> {
    if !matches!(status, 403 | 429) {
        return None;
    }
    if let Some(seconds) = number(headers, RETRY_AFTER.as_str()) {
        return Some(Limit::Told(Duration::from_secs(seconds)));
    }
    if number(headers, "x-ratelimit-remaining") == Some(0)
        && let Some(reset) = number(headers, "x-ratelimit-reset")
    {
        return Some(Limit::Told(until(reset, headers)));
    }
    let words = String::from_utf8_lossy(body).to_ascii_lowercase();
    (status == 429 || words.contains("rate limit")).then_some(Limit::Untold)
}

fn primary_of(headers: &HeaderMap) -> Option<Primary> {
    if headers.get("x-ratelimit-resource").is_some_and(|resource| resource != "core") {
        return None;
    }
    let remaining = number(headers, "x-ratelimit-remaining")?;
    let reset = number(headers, "x-ratelimit-reset")?;
    Some(Primary { remaining, reset, full_again: Instant::now() + until(reset, headers).min(LONGEST_PAUSE) })
}

/// How long until `reset`, by the forge's own clock if it tells the time: ours may be wrong.
fn until(reset: u64, headers: &HeaderMap) -> Duration {
    Duration::from_secs(reset.saturating_sub(forge_time(headers)) + 1)
}

/// Seconds since 1970 when the forge answered.
pub(super) fn forge_time(headers: &HeaderMap) -> u64 {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let told = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    match told.and_then(|time| u64::try_from(time.timestamp().as_second()).ok()) {
        Some(seconds) => seconds,
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    }
}

/// A header that is a whole number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn jitter(wait: Duration) -> Duration {
    (wait / 10).min(MOST_JITTER).mul_f64(rand::random_range(0.0..1.0))
}
