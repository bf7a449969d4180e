//! What the queue's rules say. Pure: no input, no output, no clock, no dice.

use std::time::Duration;

use crate::config::serve::{Budget, QueueConfig};
use crate::store::Spent;
use crate::task::RepositoryName;

/// No retry waits longer.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// A poller whose passes fail looks at least this often.
const LONGEST_BACKOFF: Duration = Duration::from_secs(900);

/// How long to wait after attempt number `attempt` (from 1) failed: the operator's delay, doubled with each attempt, up
/// to an hour, spread by `dice` (0 to 1) over the 10 % around it, so that tasks that failed together do not come back
/// together.
pub fn retry_delay(queue: &QueueConfig, attempt: u32, dice: f64) -> Duration {
    let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    spread(queue.retry.saturating_mul(factor).min(LONGEST_RETRY), dice)
}

/// `time`, more or less 10 %, by `dice` (0 to 1).
pub fn spread(time: Duration, dice: f64) -> Duration {
    time.mul_f64(0.9 + 0.2 * dice.clamp(0.0, 1.0))
}

/// How long a poller waits after `failures` failed passes in a row, and at least as long as the forge asked for.
pub fn poll_delay(interval: Duration, failures: u32, limit: Option<Duration>, dice: f64) -> Duration {
    let delay = interval.saturating_mul(1 << failures.min(6)).min(LONGEST_BACKOFF.max(interval));
    spread(delay, dice).max(limit.unwrap_or_default())
}

/// Why nothing new begins today; `None`: it may.
pub fn paused(budget: &Budget, spent: &Spent) -> Option<String> {
    over("the day", (budget.tokens, budget.micros), spent)
}

/// Why nothing new begins for one target today; `None`: it may.
pub fn closed(budget: &Budget, target: &RepositoryName, spent: &Spent) -> Option<String> {
    over(&format!("the day for {target}"), (budget.repository_tokens, budget.repository_micros), spent)
}

/// Whether there is anything to ask [`closed`] about.
pub fn has_repository_budget(budget: &Budget) -> bool {
    budget.repository_tokens.is_some() || budget.repository_micros.is_some()
}

fn over(what: &str, (tokens, micros): (Option<u64>, Option<u64>), spent: &Spent) -> Option<String> {
    if let Some(limit) = tokens.filter(|limit| spent.tokens >= *limit) {
        let spent = spent.tokens;
        return Some(format!(
            "the budget of {what} is spent: {spent} of {limit} tokens. It is renewed at midnight UTC"
        ));
    }
    let limit = micros.filter(|limit| spent.micros >= *limit)?;
    let least = if spent.unpriced { "at least " } else { "" };
    let (spent, limit) = (spent.micros as f64 / 1e6, limit as f64 / 1e6);
    Some(format!("the budget of {what} is spent: {least}{spent:.2} of {limit:.2}. It is renewed at midnight UTC"))
}
