//! Solve: patches or the agent make a change, and the guard and the tests judge it. What they refuse goes back to the
//! agent; this is the only backward edge of a task, and it is bounded.

mod attempt;
mod attempts;
mod review;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use attempt::Desk;

use super::baseline::Tests;
use super::guard::{self, Cleared, Examined, Refusal};
use super::{Order, PatchMode, Services, effect, evidence};
use crate::event::Event;
use crate::outcome::{Conclusion, Diff, Outcome, Stage, StopReason, TestEnding, TestRun, Verdict};
use crate::weak::{self, Defence};
use crate::workspace::{Artefacts, Checkout, Files, RelativePath, Snapshot, TreeId};

/// How the solving ended.
pub(super) struct Solution {
    pub conclusion: Conclusion,
    /// The tree that was tested; `None` if nothing changed, or what changed may not leave.
    pub candidate: Option<Cleared>,
    /// When it ended, in seconds since 1970: the commit's time.
    pub at: i64,
    /// What setup and tests had made on the base.
    pub made: Artefacts,
}

/// What all attempts at a task have in common.
#[derive(Clone, Copy)]
struct Work<'a> {
    services: &'a Services,
    order: &'a Order,
    checkout: &'a Checkout,
    tests: &'a Tests,
    /// The tree that counts as unchanged.
    untouched: &'a TreeId,
}

/// A candidate, and what is said of it.
struct Judged {
    snapshot: Snapshot,
    judgement: Judgement,
}

enum Judgement {
    /// By the guard; it was not tested.
    Refused(Refusal),
    Tested {
        cleared: Cleared,
        verdict: Verdict,
        run: Option<Box<TestRun>>,
        /// What the tests did not see of the change, in words.
        unseen: Option<String>,
    },
}

/// Makes the change and has it judged.
pub(super) async fn solve(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    mut tests: Tests,
    outcome: &mut Outcome,
) -> anyhow::Result<Solution> {
    let untouched = write_trace(services, order, checkout).await?;
    let work = Work { services, order, checkout, tests: &tests, untouched: &untouched };
    if !order.task.patches.is_empty() {
        checkout.apply_patches(&order.task.patches).await?;
    }
    let judged = if order.task.patches.is_empty() || services.settings.patch_mode == PatchMode::ThenModel {
        attempts::work(work, outcome).await?
    } else {
        outcome.stop = Some(StopReason::Patched);
        judge(work, &Desk::Own, services.settings.limits.tests, outcome).await?
    };
    let made = tests.environment.artefacts();
    outcome.notes.extend(tests.environment.close().await);
    let Some(judged) = judged else {
        return Ok(Solution { conclusion: conclude_without_change(outcome)?, candidate: None, at: now(), made });
    };
    let report = match &judged.judgement {
        Judgement::Refused(refusal) => refusal.report(),
        Judgement::Tested { cleared, .. } => Some(cleared.report()),
    };
    // Without a report not even the names of the files may be shown.
    if let Some(report) = report {
        let diff = checkout.diff(&judged.snapshot).await?;
        outcome.changed_files = diff.files;
        outcome.diff = Some(Diff(diff.patch));
        outcome.policy = Some(report.clone());
    }
    outcome.tree = Some(judged.snapshot.tree().to_string());
    match judged.judgement {
        Judgement::Refused(refusal) => {
            Ok(Solution { conclusion: refusal.conclude(), candidate: None, at: now(), made })
        }
        Judgement::Tested { cleared, verdict, run, unseen } => {
            outcome.notes.extend(unseen);
            let conclusion = cleared.conclude(conclude(outcome, &verdict), &outcome.review);
            outcome.verdict = Some(verdict);
            outcome.result = run.map(|run| *run);
            Ok(Solution { conclusion, candidate: Some(cleared), at: now(), made })
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Takes a snapshot of the working tree, and if the guard lets it pass, runs the tests on it. `None`: nothing changed.
/// `most`: the longest that the tests may take.
async fn judge(work: Work<'_>, desk: &Desk, most: Duration, outcome: &mut Outcome) -> anyhow::Result<Option<Judged>> {
    let Work { services, order, checkout, tests, untouched } = work;
    let snapshot = desk.snapshot(checkout, &tests.environment.artefacts()).await;
    let snapshot = snapshot.context("cannot take a snapshot of the change")?;
    if snapshot.tree() == untouched {
        return Ok(None);
    }
    let made = tests.environment.artefacts();
    let cleared = match guard::examine(services, order, checkout, snapshot.clone(), &made).await? {
        Examined::Cleared(cleared) => cleared,
        Examined::Refused(refusal) => {
            return Ok(Some(Judged { snapshot, judgement: Judgement::Refused(refusal) }));
        }
    };
    let started = Instant::now();
    services.events.emit(Event::StageStarted { stage: Stage::Verify });
    effect::in_stage(Stage::Verify);
    let export = checkout.export(snapshot.tree()).await?;
    if outcome.test_command.is_none() {
        outcome.test_command = evidence::detect_in_change(Files::open(&export.tree_path())?).await?;
    }
    let run = match outcome.test_command.clone() {
        Some(command) => {
            let own = weak::is_off(Defence::FreshTree);
            let tree = if own { desk.tree_path(checkout) } else { export.tree_path() };
            let hold = if own { desk.hold(checkout) } else { export.hold() };
            let place = tests.environment.around(&tree, hold);
            Some(evidence::run_tests_on(services, &place, &command, order.deadline, most, outcome).await?)
        }
        None => None,
    };
    if let Some(run) = &run {
        services.events.emit(Event::Tests { baseline: false, run: run.clone() });
    }
    let milliseconds = super::elapsed_milliseconds(started);
    services.events.emit(Event::StageDone { stage: Stage::Verify, milliseconds });
    let verdict = Verdict::judge(tests.baseline.as_ref(), run.as_ref());
    let unseen = match tests.environment.has_inputs() {
        true => tests.environment.outdated(&checkout.diff(&snapshot).await?.files),
        false => None,
    };
    Ok(Some(Judged { snapshot, judgement: Judgement::Tested { cleared, verdict, run: run.map(Box::new), unseen } }))
}

/// What a change comes to: where the tests themselves turned from red to green, it is verified, however the agent ended.
/// Else a budget that ran out is said first, and an agent that went astray is not trusted.
fn conclude(outcome: &Outcome, verdict: &Verdict) -> Conclusion {
    let was_red = outcome.baseline.as_ref().is_some_and(|run| matches!(run.ending, TestEnding::Failed { .. }));
    match (&outcome.stop, verdict) {
        (Some(StopReason::BudgetRanOut { .. }), Verdict::Verified) if was_red => Conclusion::Verified,
        (Some(StopReason::BudgetRanOut { budget }), _) => Conclusion::BudgetRanOut { budget: *budget },
        (Some(StopReason::Stuck { .. } | StopReason::ModelFailed { .. }), Verdict::Verified) if !was_red => {
            Conclusion::Unverified
        }
        (_, Verdict::Verified) => Conclusion::Verified,
        (_, Verdict::Broken | Verdict::StillRed | Verdict::Untested { .. } | Verdict::Inconclusive { .. }) => {
            Conclusion::Unverified
        }
    }
}

fn conclude_without_change(outcome: &Outcome) -> anyhow::Result<Conclusion> {
    match &outcome.stop {
        Some(StopReason::BudgetRanOut { budget }) => Ok(Conclusion::BudgetRanOut { budget: *budget }),
        Some(StopReason::Stuck { reason, .. }) => {
            bail!("the model did not get anywhere: {reason}. Try a larger model, or a more precise instruction")
        }
        Some(StopReason::ModelFailed { reason }) => bail!("{reason}"),
        Some(StopReason::GaveUp) => {
            bail!("the model finished without changing anything. Try a larger model, or a more precise instruction")
        }
        Some(StopReason::Patched) => bail!("the patches change nothing. Check that they are not in the base already"),
        Some(StopReason::Finished) | None => Ok(Conclusion::NoChange),
    }
}

/// Writes the trace file, where the operator wants one, and takes the tree that counts as unchanged.
async fn write_trace(services: &Services, order: &Order, checkout: &Checkout) -> anyhow::Result<TreeId> {
    let Some(path) = trace_path(services, order) else { return Ok(checkout.base_tree().clone()) };
    let issue = order.task.issue.as_ref().map(|issue| format!("Dispatch issue: {issue}\n")).unwrap_or_default();
    let text = format!("# Agent task\n\nTask ID: {}\n{issue}\n{}\n", order.task.id, order.task.instruction.trim());
    // It is published as it stands.
    let text = crate::logging::screened(&text);
    checkout.files().write(&path, text.as_bytes()).context("cannot write the trace file")?;
    Ok(checkout.snapshot(&Artefacts::default()).await?.tree().clone())
}

fn trace_path(services: &Services, order: &Order) -> Option<RelativePath> {
    let wanted = services.settings.publish.trace_file && order.is_published();
    wanted.then(|| RelativePath::parse(&format!("agent-tasks/{}.md", order.task.id.short())).ok()).flatten()
}
