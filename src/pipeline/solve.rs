//! Solve: patches or the agent make a change, and the guard and the tests judge it. What they refuse goes back to the
//! agent; this is the only backward edge of a task, and it is bounded.

use std::time::Instant;

use anyhow::{Context, bail};

use super::baseline::Tests;
use super::guard::{self, Cleared, Examined, Refusal};
use super::transient::is_transient_model;
use super::{Order, PatchMode, Services, effect, evidence};
use crate::agent::{Agent, AgentError, Brief, Budgets, Pause};
use crate::event::Event;
use crate::model::ModelError;
use crate::outcome::{Conclusion, Diff, Outcome, Stage, StopReason, TestEnding, TestRun, Verdict};
use crate::weak::{self, Defence};
use crate::workspace::{Artefacts, Checkout, Files, RelativePath, Snapshot, TreeId, WorkspaceError};

/// How the solving ended.
pub(super) struct Solution {
    pub conclusion: Conclusion,
    /// The tree that was tested; `None` if nothing changed, or what changed may not leave.
    pub candidate: Option<Cleared>,
    /// When it ended, in seconds since 1970: the commit's time.
    pub at: i64,
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
        run: Option<TestRun>,
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
    if !order.task.patches.is_empty() {
        checkout.apply_patches(&order.task.patches).await?;
    }
    let judged = if order.task.patches.is_empty() || services.settings.patch_mode == PatchMode::ThenModel {
        work_with_agent(services, order, checkout, &mut tests, &untouched, outcome).await?
    } else {
        outcome.stop = Some(StopReason::Patched);
        judge(services, order, checkout, &mut tests, &untouched, outcome).await?
    };
    let Some(judged) = judged else {
        return Ok(Solution { conclusion: conclude_without_change(outcome)?, candidate: None, at: now() });
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
        Judgement::Refused(refusal) => Ok(Solution { conclusion: refusal.conclude(), candidate: None, at: now() }),
        Judgement::Tested { cleared, verdict, run } => {
            let conclusion = cleared.conclude(conclude(outcome, &verdict));
            outcome.verdict = Some(verdict);
            outcome.result = run;
            Ok(Solution { conclusion, candidate: Some(cleared), at: now() })
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Lets the agent work until its change passes, or until it stops. `None`: nothing changed.
async fn work_with_agent(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    tests: &mut Tests,
    untouched: &TreeId,
    outcome: &mut Outcome,
) -> anyhow::Result<Option<Judged>> {
    let Some(model) = &services.model else { bail!("no model is configured. Give --endpoint and --model") };
    outcome.model = Some(model.card().name.clone());
    let sandbox = services.backend.open(&tests.environment.around(&checkout.tree_path())).await?;
    let (brief, budgets) = assignment(services, order, tests);
    let mut agent =
        Agent::new(model.as_ref(), sandbox.as_ref(), checkout.files(), &brief, budgets, services.events.clone())?;
    let mut rounds_left = services.settings.limits.verify_rounds;
    let mut rejected: Option<TreeId> = None;
    let mut model_error = None;
    let judged = loop {
        let pause = agent.run().await;
        let report = agent.report();
        outcome.plan = report.plan;
        outcome.summary = report.summary;
        outcome.steps = report.steps;
        outcome.usage = report.usage;
        if !report.models.is_empty() {
            outcome.model = Some(report.models.join(", "));
        }
        let (stop, admits_no_change) = match pause {
            Ok(Pause::Finish { no_change_needed, .. }) => (StopReason::Finished, no_change_needed),
            Ok(Pause::Stopped(reason)) => (reason, false),
            // What was done before the model failed is worth a verdict.
            Err(AgentError::Model(error)) if outcome.steps > 0 && !is_tried_again(order, &error) => {
                let reason = format!("{error}. {}", error.remedy());
                model_error = Some(error);
                (StopReason::ModelFailed { reason }, false)
            }
            Err(error) => return Err(error.into()),
        };
        let judged = match judge(services, order, checkout, tests, untouched, outcome).await {
            Ok(None) if stop == StopReason::Finished && !admits_no_change => {
                outcome.stop = Some(StopReason::GaveUp);
                break None;
            }
            Err(error) if stop == StopReason::Finished && rounds_left > 0 && is_too_large(&error) => {
                rounds_left -= 1;
                agent.observe(format!("Not accepted: {error:#}. Delete that file, or keep it out of the change."));
                continue;
            }
            judged => judged?,
        };
        // An agent that finishes again on the tree that was rejected has said its last word.
        let unchanged = judged.as_ref().is_some_and(|judged| rejected.as_ref() == Some(judged.snapshot.tree()));
        rejected = judged.as_ref().map(|judged| judged.snapshot.tree().clone());
        let goes_back = stop == StopReason::Finished && rounds_left > 0 && !unchanged;
        if !(goes_back && send_back(&mut agent, judged.as_ref(), tests)?) {
            outcome.stop = Some(stop);
            break judged;
        }
        rounds_left -= 1;
    };
    sandbox.close().await?;
    match (model_error, &judged) {
        (Some(error), None) => Err(error.into()),
        (Some(_) | None, _) => Ok(judged),
    }
}

/// Tells the agent what is wrong with its change, if it can do something about it.
fn send_back(agent: &mut Agent<'_>, judged: Option<&Judged>, tests: &Tests) -> Result<bool, AgentError> {
    match judged.map(|judged| &judged.judgement) {
        None => return Ok(false),
        Some(Judgement::Refused(refusal)) => agent.refuse(&refusal.feedback())?,
        Some(Judgement::Tested { verdict, run, .. }) => {
            match evidence::feedback(verdict, tests.baseline.as_ref(), run.as_ref()) {
                Some(feedback) => agent.reject(&feedback)?,
                None => return Ok(false),
            }
        }
    }
    Ok(true)
}

/// What the agent is told, and what it may spend.
fn assignment(services: &Services, order: &Order, tests: &Tests) -> (Brief, Budgets) {
    let limits = &services.settings.limits;
    let budgets = Budgets {
        steps: limits.steps,
        tokens: limits.tokens,
        cost: limits.cost,
        deadline: order.deadline.into(),
        command: limits.command,
        answer_tokens: services.settings.max_output_tokens,
        temperature: services.settings.temperature,
    };
    let brief = Brief {
        title: order.task.title.clone(),
        instruction: order.task.instruction.clone(),
        test_command: tests.command.clone(),
        baseline: tests.baseline.clone(),
        prompts: services.settings.prompts.clone(),
        protocol: services.settings.protocol,
    };
    (brief, budgets)
}

/// Half a change is worth less than a whole one at the next attempt.
fn is_tried_again(order: &Order, error: &ModelError) -> bool {
    order.again_after.is_some() && is_transient_model(error)
}

/// Takes a snapshot of the working tree, and if the guard lets it pass, runs the tests on it. `None`: nothing changed.
async fn judge(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    tests: &mut Tests,
    untouched: &TreeId,
    outcome: &mut Outcome,
) -> anyhow::Result<Option<Judged>> {
    let snapshot =
        checkout.snapshot(&tests.environment.artefacts()).await.context("cannot take a snapshot of the change")?;
    if snapshot.tree() == untouched {
        return Ok(None);
    }
    let cleared = match guard::examine(services, order, checkout, snapshot.clone()).await? {
        Examined::Cleared(cleared) => cleared,
        Examined::Refused(refusal) => {
            return Ok(Some(Judged { snapshot, judgement: Judgement::Refused(refusal) }));
        }
    };
    let started = Instant::now();
    services.events.emit(Event::StageStarted { stage: Stage::Verify });
    effect::in_stage(Stage::Verify);
    let export = checkout.export(snapshot.tree()).await?;
    if tests.command.is_none() {
        tests.command = evidence::detect_in_change(Files::open(&export.tree_path())?).await?;
        outcome.test_command = tests.command.clone();
    }
    let run = match &tests.command {
        Some(command) => {
            let own = weak::is_off(Defence::FreshTree);
            let tree = if own { checkout.tree_path() } else { export.tree_path() };
            let place = tests.environment.around(&tree);
            Some(evidence::run_tests_on(services, &place, command, order.deadline, outcome).await?)
        }
        None => None,
    };
    if let Some(run) = &run {
        services.events.emit(Event::Tests { baseline: false, run: run.clone() });
    }
    let milliseconds = super::elapsed_milliseconds(started);
    services.events.emit(Event::StageDone { stage: Stage::Verify, milliseconds });
    let verdict = Verdict::judge(tests.baseline.as_ref(), run.as_ref());
    Ok(Some(Judged { snapshot, judgement: Judgement::Tested { cleared, verdict, run } }))
}

fn is_too_large(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(WorkspaceError::FileTooLarge { .. })))
}

/// What a change comes to: a budget that ran out is said first, and an agent that went astray is trusted only where the
/// tests themselves turned from red to green.
fn conclude(outcome: &Outcome, verdict: &Verdict) -> Conclusion {
    let was_red = outcome.baseline.as_ref().is_some_and(|run| matches!(run.ending, TestEnding::Failed { .. }));
    match (&outcome.stop, verdict) {
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
