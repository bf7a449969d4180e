//! Attempts: several agents at the same task at once, each in a tree of its own over the same base and environment.
//!
//! They differ in temperature. The first change that is verified wins and stops the others; where none is, the best one
//! counts: most tests mended less those broken, then the smallest diff. They share one budget.

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::attempt::{self, Desk};
use super::{Judged, Judgement, Work};
use crate::agent::Budgets;
use crate::outcome::{Outcome, Verdict};

/// The temperature of the second attempt, of the third, and so on; the first has what the operator wants.
const TEMPERATURES: [f32; 3] = [0.5, 0.8, 1.0];

/// How one attempt ended.
struct Attempted {
    number: usize,
    judged: anyhow::Result<Option<Judged>>,
    outcome: Outcome,
}

/// Makes as many attempts as the operator wants; `outcome` is the best one's, with the usage of all.
pub(super) async fn work(work: Work<'_>, outcome: &mut Outcome) -> anyhow::Result<Option<Judged>> {
    let budgets = attempt::budgets(work.services, work.order);
    let attempts = work.services.settings.limits.attempts.max(1) as usize;
    if attempts == 1 {
        return attempt::work(work, &Desk::Own, budgets, outcome).await;
    }
    let desks = desks(work, attempts).await?;
    let mut running: FuturesUnordered<_> = (1..)
        .zip(&desks)
        .map(|(number, desk)| {
            let (budgets, mut outcome) = (budgets_of(&budgets, number), outcome.clone());
            async move {
                let judged = attempt::work(work, desk, budgets, &mut outcome).await;
                Attempted { number, judged, outcome }
            }
        })
        .collect();
    let mut ended: Vec<Attempted> = Vec::new();
    while let Some(attempted) = running.next().await {
        let is_verified = attempted.is_verified();
        ended.push(attempted);
        if is_verified {
            break;
        }
    }
    // Those that are still at work are stopped: their boxes end with them.
    drop(running);
    let mut best: Option<((u8, u64, usize), Attempted)> = None;
    for attempted in ended {
        let rank = rank(work, &attempted).await?;
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, attempted));
        }
    }
    let (_, best) = best.context("no attempt came to an end")?;
    work.services.events.note(format!("attempt {} of {attempts} counts", best.number));
    *outcome = best.outcome;
    (outcome.steps, outcome.usage) = budgets.purse.spent();
    best.judged
}

/// A tree for each attempt; the first one's is the checkout's own.
async fn desks(work: Work<'_>, attempts: usize) -> anyhow::Result<Vec<Desk>> {
    // With the patches of the instruction, where there are any.
    let begun = Desk::Own.snapshot(work.checkout, &work.tests.environment.artefacts()).await;
    let begun = begun.context("cannot take a snapshot for the attempts")?;
    let mut desks = vec![Desk::Own];
    for _ in 1..attempts {
        let worktree = work.checkout.worktree(begun.tree()).await;
        desks.push(Desk::Beside(worktree.context("cannot lay out a tree for another attempt")?));
    }
    Ok(desks)
}

fn budgets_of(budgets: &Budgets, number: usize) -> Budgets {
    let other = number.checked_sub(2).and_then(|at| TEMPERATURES.get(at.min(TEMPERATURES.len() - 1)));
    Budgets { temperature: other.copied().or(budgets.temperature), ..budgets.clone() }
}

impl Attempted {
    fn is_verified(&self) -> bool {
        let judgement = self.judged.as_ref().ok().and_then(Option::as_ref).map(|judged| &judged.judgement);
        matches!(judgement, Some(Judgement::Tested { verdict: Verdict::Verified, .. }))
    }
}

/// How good an attempt is, the least being the best: its verdict, the tests that fail still, and the lines of its diff.
async fn rank(work: Work<'_>, attempted: &Attempted) -> anyhow::Result<(u8, u64, usize)> {
    let judged = match &attempted.judged {
        Ok(Some(judged)) => judged,
        Ok(None) => return Ok((5, 0, 0)),
        Err(_) => return Ok((6, 0, 0)),
    };
    let (class, run) = match &judged.judgement {
        Judgement::Tested { verdict, run, .. } => {
            let class = match verdict {
                Verdict::Verified => 0,
                Verdict::Untested { .. } => 1,
                Verdict::StillRed | Verdict::Broken => 2,
                Verdict::Inconclusive { .. } => 3,
            };
            (class, run.as_ref())
        }
        Judgement::Refused(_) => (4, None),
    };
    // Unknown is more than any that are counted.
    let failing = run.and_then(|run| run.digest.as_ref()?.failed).unwrap_or(u64::MAX);
    let diff = work.checkout.diff(&judged.snapshot).await?;
    Ok((class, failing, diff.files.iter().map(|file| file.added_lines + file.removed_lines).sum()))
}
