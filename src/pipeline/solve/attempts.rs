//! Attempts: several agents at the same task at once, each in a tree of its own over the same base and environment.
//!
//! They differ in temperature and seed, and the second one in its protocol or profile. The first change that is verified
//! wins and stops the others; where none is, the best one counts: the tests that it mended less those that it broke, then
//! the smallest diff. They share one budget.

use std::collections::BTreeSet;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::attempt::{self, Desk};
use super::{Judged, Judgement, Work, conclude};
use crate::agent::{Budgets, ProfileChoice, ProtocolChoice};
use crate::model::ModelCard;
use crate::outcome::{Conclusion, Outcome, StopReason, TestEnding, TestRun, Verdict};
use crate::pipeline::{Services, Settings};

/// The attempt that goes about it in another way than the first.
const ANOTHER_WAY: u32 = 2;

/// How one attempt ended.
struct Attempted {
    number: u32,
    judged: anyhow::Result<Option<Judged>>,
    outcome: Outcome,
}

/// Makes as many attempts as the operator wants; `outcome` is the best one's, with the usage of all.
pub(super) async fn work(work: Work<'_>, outcome: &mut Outcome) -> anyhow::Result<Option<Judged>> {
    let budgets = attempt::budgets(work.services, work.order);
    let purse = budgets.purse.clone();
    let judged = match work.services.settings.limits.attempts.max(1) {
        1 => attempt::work(work, &Desk::Own, budgets, outcome).await,
        several => work_at_once(work, several, budgets, outcome).await,
    };
    // With requests that nobody waited for any more.
    (outcome.steps, outcome.usage) = purse.spent();
    judged
}

async fn work_at_once(
    work: Work<'_>,
    attempts: u32,
    budgets: Budgets,
    outcome: &mut Outcome,
) -> anyhow::Result<Option<Judged>> {
    let desks = desks(work, attempts).await?;
    let services: Vec<Services> = (1..=attempts).map(|number| services_of(work.services, number)).collect();
    let mut running: FuturesUnordered<_> = (1..)
        .zip(&desks)
        .zip(&services)
        .map(|((number, desk), services)| {
            let (budgets, mut outcome) = (Budgets { attempt: Some(number), ..budgets.clone() }, outcome.clone());
            let work = Work { services, ..work };
            async move {
                let judged = attempt::work(work, desk, budgets, &mut outcome).await;
                services.events.note(ending_in_words(&judged, &outcome));
                Attempted { number, judged, outcome }
            }
        })
        .collect();
    let may_win = |number| work.services.settings.winner.is_none_or(|winner| winner == number);
    let mut ended: Vec<Attempted> = Vec::new();
    while let Some(attempted) = running.next().await {
        let wins = attempted.is_verified() && may_win(attempted.number);
        ended.push(attempted);
        if wins {
            break;
        }
    }
    // Those that are still at work are stopped: their boxes end with them.
    drop(running);
    let mut best: Option<(Rank, Attempted)> = None;
    for attempted in ended {
        let rank = rank(work, &attempted).await?;
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, attempted));
        }
    }
    let (_, best) = best.context("no attempt came to an end")?;
    work.services.events.note(format!("attempt {} of {attempts} counts", best.number));
    *outcome = best.outcome;
    outcome.attempt = Some(best.number);
    best.judged
}

/// A tree for each attempt; the first one's is the checkout's own.
async fn desks(work: Work<'_>, attempts: u32) -> anyhow::Result<Vec<Desk>> {
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

/// What an attempt is worked with: its events have its number, and one of them goes about it in another way.
fn services_of(services: &Services, number: u32) -> Services {
    let events = services.events.of_attempt(Some(number));
    let settings = match &services.model {
        Some(model) if number == ANOTHER_WAY => another_way(&services.settings, model.card()),
        Some(_) | None => services.settings.clone(),
    };
    Services { events, settings, ..services.clone() }
}

/// Another protocol, where the operator leaves it to us and the model is not too small for one; else another profile,
/// which shows more or less of the repository.
fn another_way(settings: &Settings, card: &ModelCard) -> Settings {
    let resolved = settings.protocol.resolve(card);
    let instead =
        resolved.instead(card).map(ProtocolChoice::from).filter(|_| settings.protocol == ProtocolChoice::Auto);
    match (instead, settings.profile) {
        (Some(protocol), _) => Settings { protocol, ..settings.clone() },
        (None, ProfileChoice::Auto) => {
            let profile = settings.profile.of(card).neighbour();
            Settings { profile: profile.into(), ..settings.clone() }
        }
        (None, ProfileChoice::Small | ProfileChoice::Medium | ProfileChoice::Large) => settings.clone(),
    }
}

impl Attempted {
    /// Whether the task as a whole is concluded by it: green tests of an agent that went astray on a green base are not
    /// enough.
    fn is_verified(&self) -> bool {
        match &self.judged {
            Ok(Some(judged)) => is_verified(judged, &self.outcome),
            Ok(None) | Err(_) => false,
        }
    }
}

fn is_verified(judged: &Judged, outcome: &Outcome) -> bool {
    match &judged.judgement {
        Judgement::Tested { verdict, .. } => conclude(outcome, verdict) == Conclusion::Verified,
        Judgement::Refused(_) => false,
    }
}

/// One line for whoever follows the task.
fn ending_in_words(judged: &anyhow::Result<Option<Judged>>, outcome: &Outcome) -> String {
    let stop = match &outcome.stop {
        Some(StopReason::BudgetRanOut { budget }) => format!("; the {} ran out", budget.describe()),
        Some(StopReason::Stuck { .. }) => "; the model got stuck".into(),
        Some(StopReason::ModelFailed { .. }) => "; the model's server failed".into(),
        Some(StopReason::Finished | StopReason::Patched | StopReason::GaveUp) | None => String::new(),
    };
    let result = match judged {
        Err(_) => "it failed".into(),
        Ok(None) => "it changed nothing".into(),
        Ok(Some(Judged { judgement: Judgement::Refused(_), .. })) => "its change may not leave".into(),
        Ok(Some(Judged { judgement: Judgement::Tested { run: Some(run), .. }, .. })) => {
            format!("the tests {}", run.ending.describe())
        }
        Ok(Some(Judged { judgement: Judgement::Tested { run: None, .. }, .. })) => "its change is not tested".into(),
    };
    format!("over: {result}{stop}")
}

/// How good an attempt is, the least being the best, in this order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: u8,
    /// Tests that it broke less those that it mended, by their names; unknown is more than any that are known.
    balance: i64,
    broken: usize,
    /// As the runner counts them, where it tells no names.
    failing: u64,
    lines: usize,
}

async fn rank(work: Work<'_>, attempted: &Attempted) -> anyhow::Result<Rank> {
    let last = |class| Rank { class, balance: i64::MAX, broken: 0, failing: u64::MAX, lines: 0 };
    let judged = match &attempted.judged {
        Ok(Some(judged)) => judged,
        Ok(None) => return Ok(last(6)),
        Err(_) => return Ok(last(7)),
    };
    let (class, run) = match &judged.judgement {
        Judgement::Tested { verdict, run, .. } => {
            let class = match verdict {
                Verdict::Verified if is_verified(judged, &attempted.outcome) => 0,
                Verdict::Verified => 1,
                Verdict::Untested { .. } => 2,
                Verdict::StillRed | Verdict::Broken => 3,
                Verdict::Inconclusive { .. } => 4,
            };
            (class, run.as_deref())
        }
        Judgement::Refused(_) => (5, None),
    };
    let diff = work.checkout.diff(&judged.snapshot).await?;
    let lines = diff.files.iter().map(|file| file.added_lines + file.removed_lines).sum();
    // Unknown is more than any that are counted.
    let failing = run.and_then(|run| run.digest.as_ref()?.failed).unwrap_or(u64::MAX);
    let (balance, broken) = balance(work.tests.baseline.as_ref(), run).unwrap_or((i64::MAX, 0));
    Ok(Rank { class, balance, broken, failing, lines })
}

/// Tests that fail now and did not, less those that failed and do not now; and the former.
fn balance(baseline: Option<&TestRun>, run: Option<&TestRun>) -> Option<(i64, usize)> {
    let (before, now) = (failing(baseline?)?, failing(run?)?);
    let (broken, mended) = (now.difference(&before).count(), before.difference(&now).count());
    Some((i64::try_from(broken).ok()? - i64::try_from(mended).ok()?, broken))
}

/// The names of a run's failing tests; `None`: unknown.
fn failing(run: &TestRun) -> Option<BTreeSet<String>> {
    match run.ending {
        TestEnding::Passed => Some(BTreeSet::new()),
        TestEnding::Failed { .. } => run.failing.clone(),
        TestEnding::NothingToRun { .. }
        | TestEnding::NotFound { .. }
        | TestEnding::Killed { .. }
        | TestEnding::TimedOut { .. }
        | TestEnding::OutOfMemory
        | TestEnding::OutOfDisk => None,
    }
}
