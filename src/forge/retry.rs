//! Writes that happen once: look, create, and after a doubtful answer look again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ForgeError;

/// How often a write is tried.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Limits that lift later than this are given to the caller.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// GitHub's secondary limits without a `Retry-After` ask for a minute.
const DEFAULT_LIMIT_WAIT: Duration = Duration::from_secs(60);

/// Creates something exactly once. `look` finds what an earlier attempt, or another process, has made.
/// Returns it, and whether it was there before.
pub(super) async fn create_once<T, Look, Looking, Create, Creating>(
    look: Look,
    create: Create,
) -> Result<(T, bool), ForgeError>
where
    Look: Fn() -> Looking,
    Looking: Future<Output = Result<Option<T>, ForgeError>>,
    Create: Fn() -> Creating,
    Creating: Future<Output = Result<T, ForgeError>>,
{
    if let Some(found) = look().await? {
        return Ok((found, true));
    }
    let mut attempt = 1;
    loop {
        let error = match create().await {
            Ok(made) => return Ok((made, false)),
            Err(error) => error,
        };
        let pause = pause_after(&error, attempt);
        // GitHub refuses a duplicate with 422: then our own earlier attempt may have gone through.
        let maybe_made =
            pause.is_some() || matches!(error, ForgeError::Unprocessable { .. } | ForgeError::Unexpected { .. });
        tokio::time::sleep(pause.unwrap_or_default()).await;
        if maybe_made && let Some(found) = look().await? {
            return Ok((found, false));
        }
        if pause.is_none() {
            return Err(error);
        }
        attempt += 1;
    }
}

/// Repeats a read or an idempotent write.
pub(super) async fn repeat<T, Write, Writing>(write: Write) -> Result<T, ForgeError>
where
    Write: Fn() -> Writing,
    Writing: Future<Output = Result<T, ForgeError>>,
{
    let mut attempt = 1;
    loop {
        let error = match write().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(pause) = pause_after(&error, attempt) else { return Err(error) };
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// How long to wait before the next attempt; `None`: there is none.
fn pause_after(error: &ForgeError, attempt: u32) -> Option<Duration> {
    if attempt >= ATTEMPTS {
        return None;
    }
    match error {
        ForgeError::Transient { .. } => Some(FIRST_PAUSE.saturating_mul(1 << (attempt - 1))),
        ForgeError::RateLimited { wait } => (*wait <= LONGEST_WAIT).then_some(*wait),
        ForgeError::NotFound { .. }
        | ForgeError::Unauthorized
        | ForgeError::Forbidden { .. }
        | ForgeError::Unprocessable { .. }
        | ForgeError::Unexpected { .. } => None,
    }
}

/// How long a 403 or 429 asks us to wait; `None` if it is no limit but a refusal.
///
/// Source: GitHub's documentation of rate limits for the REST API (`Retry-After`, `X-RateLimit-Remaining`, secondary limits).
pub(super) fn limit_wait(error: &octocrab::GitHubError) -> Option<Duration> {
    let header = |name: &str| error.headers.as_ref()?.get(name)?.to_str().ok()?.parse::<u64>().ok();
    if let Some(seconds) = header("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    if header("x-ratelimit-remaining") == Some(0) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let reset = error.rate_limit_reset.unwrap_or(now + DEFAULT_LIMIT_WAIT.as_secs());
        return Some(Duration::from_secs(reset.saturating_sub(now) + 1));
    }
    let secondary = error.status_code.as_u16() == 429 || error.message.to_ascii_lowercase().contains("rate limit");
    secondary.then_some(DEFAULT_LIMIT_WAIT)
}
