//! The fence around each effect on the outside: it is written down before it is had, and after.

use crate::outcome::Stage;
use crate::store::{Claim, Effect, Entry, crash};

/// Has an effect on the outside, if the claim still holds. A stale claim is an error, and nothing is done.
///
/// 1. the journal takes the intent, and refuses it to a stale claim; 2. the effect is had; 3. the journal takes what it
///    was. Whoever has it looks for it first all the same: the journal is a second memory, the forge's state the truth.
pub(super) async fn effect<T, E: Into<anyhow::Error>>(
    claim: Option<&Claim>,
    effect: Effect,
    detail: &str,
    work: impl Future<Output = Result<T, E>>,
    name_of: impl FnOnce(&T) -> String,
) -> anyhow::Result<T> {
    if let Some(claim) = claim {
        claim.write(&Entry::Intent { effect, detail: detail.to_owned() }).await?;
    }
    let had = between_crash_points(effect, work).await.map_err(Into::into)?;
    if let Some(claim) = claim {
        claim.write(&Entry::Had { effect, detail: name_of(&had) }).await?;
    }
    Ok(had)
}

/// Has the same effect once more, an edit of what the journal knows already: the claim is checked, and nothing written.
pub(super) async fn again<T, E: Into<anyhow::Error>>(
    claim: Option<&Claim>,
    effect: Effect,
    work: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    if let Some(claim) = claim {
        claim.heartbeat().await?;
    }
    between_crash_points(effect, work).await.map_err(Into::into)
}

/// Where a stage is in the middle, for tests that kill the process there.
pub(super) fn in_stage(stage: Stage) {
    crash_point("stage", stage_key(stage));
}

async fn between_crash_points<T, E>(effect: Effect, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    crash_point("effect.before", effect_key(effect));
    let had = work.await?;
    crash_point("effect.after", effect_key(effect));
    Ok(had)
}

fn crash_point(kind: &str, key: &str) {
    crash::point(&format!("{kind}:{key}"));
}

fn effect_key(effect: Effect) -> &'static str {
    match effect {
        Effect::StatusComment => "status_comment",
        Effect::StartedComment => "started_comment",
        Effect::RunningLabels => "running_labels",
        Effect::Push => "push",
        Effect::PullRequest => "pull_request",
        Effect::CommitStatus => "commit_status",
        Effect::ReviewLabel => "review_label",
        Effect::FinishedComment => "finished_comment",
        Effect::FinishedLabels => "finished_labels",
        Effect::CloseIssue => "close_issue",
    }
}

fn stage_key(stage: Stage) -> &'static str {
    match stage {
        Stage::Intake => "intake",
        Stage::Checkout => "checkout",
        Stage::Setup => "setup",
        Stage::Baseline => "baseline",
        Stage::Solve => "solve",
        Stage::Verify => "verify",
        Stage::Commit => "commit",
        Stage::Push => "push",
        Stage::PullRequest => "pull_request",
        Stage::Report => "report",
    }
}
