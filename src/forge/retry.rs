//! Writes that happen once: look, create, and after a doubtful answer look again.
//!
//! Limits are none of its business: the wire waits for them, or gives up with [`ForgeError::RateLimited`], which is
//! handed on at once.

use std::time::Duration;

use super::ForgeError;

/// How often a request is tried.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles, and is taken at random between a half and one and a half of it.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
        ForgeError::Transient { .. } => {
            let pause = FIRST_PAUSE.saturating_mul(1 << (attempt - 1)).min(LONGEST_PAUSE);
            Some(pause.mul_f64(rand::random_range(0.5..1.5)))
        }
        ForgeError::RateLimited { .. }
        | ForgeError::NotFound { .. }
        | ForgeError::Unauthorized
        | ForgeError::Forbidden { .. }
        | ForgeError::Unprocessable { .. }
        | ForgeError::Unexpected { .. } => None,
    }
}
