//! What the journal remembers of a task, and how an attempt goes on from there.

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::guard::{self, Examined};
use super::solve::Solution;
use super::transient::transience;
use super::{Halt, Order, Services, checkout, intake};
use crate::outcome::{Conclusion, Outcome, Stage};
use crate::store::{Claim, Effect, Entry, StoreError};
use crate::task::Task;
use crate::workspace::{Artefacts, Checkout, CommitId, TreeId};

/// A larger diff is not kept in the journal: the change is made anew then.
const LARGEST_DIFF: usize = 20_000_000;

/// What earlier attempts have left in the journal.
#[derive(Default)]
pub(super) struct Memory {
    /// How the task ended: it is only to be reported.
    pub concluded: Option<Outcome>,
    /// The status comment's number at the forge.
    pub comment: Option<u64>,
    solved: Option<Solved>,
    /// The commit that was pushed, or was about to be.
    pushed: Option<String>,
    /// The last stage that was done.
    done: Option<Stage>,
}

/// A judged change, as the journal holds it.
#[derive(Serialize, Deserialize)]
struct Solved {
    /// Of the task's text; a change that was made for another text is not gone on from.
    revision: String,
    base_branch: Option<String>,
    /// The diff as git takes it, base64.
    diff: String,
    /// The commit's time, in seconds since 1970: the same commit can be made again.
    at: i64,
    /// What setup and tests had made on the base.
    #[serde(default)]
    made: Artefacts,
    /// All that is known after solving, without the diff.
    outcome: Outcome,
}

impl Memory {
    /// Reads the journal; without a claim there is none.
    pub(super) async fn read(claim: Option<&Claim>, task: &Task) -> Result<Self, StoreError> {
        let mut memory = Self::default();
        let Some(claim) = claim else { return Ok(memory) };
        for entry in claim.journal().await? {
            match entry {
                Entry::StageDone { stage } => memory.done = Some(stage),
                Entry::Intent { effect: Effect::Push, detail } => memory.pushed = Some(detail),
                Entry::Had { effect: Effect::StatusComment, detail } => memory.comment = detail.parse().ok(),
                Entry::Intent { .. } | Entry::Had { .. } => {}
                Entry::Solved { solution } => memory.solved = understood(&solution),
                Entry::Concluded { outcome } => memory.concluded = understood(&outcome),
            }
        }
        memory.solved = memory.solved.filter(|solved| solved.revision == revision(task));
        Ok(memory)
    }

    /// What was known of the change that stands at `head`, if it is the one that an earlier attempt has pushed.
    pub(super) fn published(&self, head: Option<&str>) -> Option<&Outcome> {
        let solved = self.solved.as_ref()?;
        (head.is_some() && head == self.pushed.as_deref()).then_some(&solved.outcome)
    }
}

/// What the journal says in another version's words counts as not said.
fn understood<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    let parsed = serde_json::from_str(text);
    parsed.inspect_err(|error| tracing::warn!("an entry of the journal is not understood: {error}")).ok()
}

fn revision(task: &Task) -> String {
    intake::revision(&task.title, &task.instruction)
}

/// Goes on from the change that an earlier attempt has made: no model, no tests. `None`: there is none, or it cannot be
/// had any more, so the task is solved anew.
pub(super) async fn restore(
    services: &Services,
    order: &Order,
    memory: &Memory,
    outcome: &mut Outcome,
) -> Result<Option<(Checkout, Solution)>, Halt> {
    let Some(solved) = &memory.solved else { return Ok(None) };
    match services.stage(order, Stage::Checkout, rebuild(services, order, solved)).await {
        Ok((checkout, examined)) => {
            *outcome = solved.outcome.clone();
            services.events.note("the change of an earlier attempt is there; going on from it");
            let (conclusion, candidate) = match examined {
                Examined::Cleared(cleared) => {
                    outcome.policy = Some(cleared.report().clone());
                    (cleared.conclude(solved.outcome.conclusion.clone(), &solved.outcome.review), Some(cleared))
                }
                // The operator's rules, or what is known of secrets, are others than they were.
                Examined::Refused(refusal) => (refusal.conclude(), None),
            };
            Ok(Some((checkout, Solution { conclusion, candidate, at: solved.at, made: solved.made.clone() })))
        }
        Err(Halt::Failed(failure)) if transience(&failure.error).is_none() => {
            services.events.note(format!("the change of an earlier attempt cannot be used: {:#}", failure.error));
            Ok(None)
        }
        Err(halt) => Err(halt),
    }
}

async fn rebuild(services: &Services, order: &Order, solved: &Solved) -> anyhow::Result<(Checkout, Examined)> {
    let commit = solved.outcome.base_commit.as_deref().and_then(CommitId::parse).context("it has no base")?;
    let tree = solved.outcome.tree.as_deref().and_then(TreeId::parse).context("it has no tree")?;
    let diff = BASE64_STANDARD.decode(&solved.diff).context("its diff is damaged")?;
    let remote = checkout::remote(services, order).await?;
    let checkout = services.workspace.checkout_commit(&remote, &commit, solved.base_branch.as_deref()).await?;
    let candidate = checkout.snapshot_of_diff(diff).await?;
    if *candidate.tree() != tree {
        bail!("it leads to another tree than the one that was tested");
    }
    let examined = guard::examine(services, order, &checkout, candidate, &solved.made).await?;
    Ok((checkout, examined))
}

/// Writes down the change that was judged.
pub(super) async fn remember(
    order: &Order,
    checkout: &Checkout,
    solution: &Solution,
    outcome: &Outcome,
) -> Result<(), Halt> {
    let (Some(claim), Some(_)) = (&order.claim, &solution.candidate) else { return Ok(()) };
    let Some(diff) = outcome.diff.as_ref().filter(|diff| diff.0.len() <= LARGEST_DIFF) else { return Ok(()) };
    let solved = Solved {
        revision: revision(&order.task),
        base_branch: checkout.base_branch().map(str::to_owned),
        diff: BASE64_STANDARD.encode(&diff.0),
        at: solution.at,
        made: solution.made.clone(),
        outcome: Outcome { conclusion: solution.conclusion.clone(), diff: None, ..outcome.clone() },
    };
    match serde_json::to_string(&solved) {
        Ok(solution) => claim.write(&Entry::Solved { solution }).await.map_err(Halt::Stopped),
        Err(error) => {
            tracing::warn!("the change is not kept in the journal: {error}");
            Ok(())
        }
    }
}

/// Writes down how the task ended; from here on it is only reported.
pub(super) async fn conclude(claim: Option<&Claim>, outcome: &Outcome) -> Result<(), StoreError> {
    let Some(claim) = claim else { return Ok(()) };
    match serde_json::to_string(&Outcome { diff: None, ..outcome.clone() }) {
        Ok(outcome) => claim.write(&Entry::Concluded { outcome }).await,
        Err(error) => {
            tracing::warn!("the outcome is not kept in the journal: {error}");
            Ok(())
        }
    }
}

/// How a task ends whose attempts are used up.
pub(super) fn exhausted(claim: &Claim, memory: &Memory) -> Conclusion {
    let stage = memory.done.map_or(Stage::Intake, following);
    let attempts = claim.task.attempt;
    let cause = match claim.task.reason.trim() {
        "" => format!("none of {attempts} attempts came to an end; the last one ended the process"),
        reason => format!("none of {attempts} attempts came to an end; the last one: {reason}"),
    };
    let remedy = "See the log for what stood in the way, then ask for another try with `/retry`.".to_owned();
    Conclusion::Failed { stage, cause, remedy, transient: false }
}

/// The stage that was under way when `done` was the last that had been done.
fn following(done: Stage) -> Stage {
    match done {
        Stage::Intake => Stage::Checkout,
        Stage::Checkout => Stage::Setup,
        Stage::Setup => Stage::Baseline,
        Stage::Baseline => Stage::Solve,
        Stage::Solve | Stage::Verify => Stage::Commit,
        Stage::Commit => Stage::Push,
        Stage::Push => Stage::PullRequest,
        Stage::PullRequest | Stage::Report => Stage::Report,
    }
}
