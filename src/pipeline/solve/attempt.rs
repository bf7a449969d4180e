//! One attempt: an agent at a desk, and the guard and the tests that judge what it makes.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use super::review::Review;
use super::{Judged, Judgement, Work, judge};
use crate::agent::{Agent, AgentError, Brief, Budgets, Pause, Purse};
use crate::model::ModelError;
use crate::outcome::{Outcome, StopReason};
use crate::pipeline::baseline::Tests;
use crate::pipeline::{Order, Services, evidence, verify};
use crate::workspace::{Artefacts, Checkout, Files, Hold, Snapshot, TreeId, WorkspaceError, Worktree};

/// Where an attempt works.
pub(super) enum Desk {
    /// In the checkout's own tree.
    Own,
    /// In a tree beside it.
    Beside(Worktree),
}

impl Desk {
    pub(super) fn tree_path(&self, checkout: &Checkout) -> PathBuf {
        match self {
            Desk::Own => checkout.tree_path(),
            Desk::Beside(worktree) => worktree.tree_path(),
        }
    }

    pub(super) fn hold(&self, checkout: &Checkout) -> Hold {
        match self {
            Desk::Own => checkout.hold(),
            Desk::Beside(worktree) => worktree.hold(),
        }
    }

    pub(super) fn files<'a>(&'a self, checkout: &'a Checkout) -> &'a Files {
        match self {
            Desk::Own => checkout.files(),
            Desk::Beside(worktree) => worktree.files(),
        }
    }

    pub(super) async fn snapshot(
        &self,
        checkout: &Checkout,
        artefacts: &Artefacts,
    ) -> Result<Snapshot, WorkspaceError> {
        match self {
            Desk::Own => checkout.snapshot(artefacts).await,
            Desk::Beside(worktree) => checkout.snapshot_of(worktree, artefacts).await,
        }
    }
}

/// Lets an agent work until its change passes, or until it stops. `None`: nothing changed.
pub(super) async fn work(
    work: Work<'_>,
    desk: &Desk,
    budgets: Budgets,
    outcome: &mut Outcome,
) -> anyhow::Result<Option<Judged>> {
    let Work { services, order, checkout, tests, .. } = work;
    let Some(model) = &services.model else { bail!("no model is configured. Give --endpoint and --model") };
    outcome.model = Some(model.card().name.clone());
    let place = tests.environment.around(&desk.tree_path(checkout), desk.hold(checkout));
    let sandbox = services.backend.open(&place).await?;
    let brief = assignment(services, order, checkout, tests);
    let files = desk.files(checkout);
    let mut agent = Agent::new(model.as_ref(), sandbox.as_ref(), files, &brief, budgets, services.events.clone())?;
    let mut rounds_left = services.settings.limits.verify_rounds;
    let mut rejected: Option<TreeId> = None;
    let mut model_error = None;
    let mut review = Review::default();
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
        // A question of a series is no round: there are few, and each is another one.
        let is_sampling = agent.is_sampling();
        let judged = match judge(work, desk, longest_test_run(work, is_sampling), outcome).await {
            Ok(None) if stop == StopReason::Finished && !admits_no_change => {
                if agent.find_unchanged()? {
                    continue;
                }
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
        let judged = match review.look(work, &mut agent, &stop, judged, outcome).await? {
            ControlFlow::Continue(()) => continue,
            ControlFlow::Break(judged) => judged,
        };
        // An agent that finishes again on the tree that was rejected has said its last word, unless its answers are
        // samples: then it knows itself which it gave before.
        let is_last_word = !agent.knows_its_answers();
        let tree = judged.as_ref().map(|judged| judged.snapshot.tree().clone()).filter(|_| is_last_word);
        let unchanged = tree.is_some() && rejected == tree;
        rejected = tree;
        let goes_back = stop == StopReason::Finished && (rounds_left > 0 || is_sampling) && !unchanged;
        if !(goes_back && send_back(&mut agent, judged.as_ref(), tests)?) {
            outcome.stop = Some(stop);
            break judged;
        }
        rounds_left -= u32::from(!is_sampling);
    };
    sandbox.close().await?;
    let judged = review.settle(judged, outcome);
    match (model_error, &judged) {
        (Some(error), None) => Err(error.into()),
        (Some(_) | None, _) => Ok(judged),
    }
}

/// How long the tests may take on a result.
fn longest_test_run(work: Work<'_>, is_sample: bool) -> Duration {
    let limit = work.services.settings.limits.tests;
    if is_sample { verify::longest_of_sample(work.tests.baseline.as_ref(), limit) } else { limit }
}

/// Tells the agent what is wrong with its change, if it can do something about it.
fn send_back(agent: &mut Agent<'_>, judged: Option<&Judged>, tests: &Tests) -> Result<bool, AgentError> {
    match judged.map(|judged| &judged.judgement) {
        None => return Ok(false),
        Some(Judgement::Refused(refusal)) => agent.refuse(&refusal.feedback())?,
        Some(Judgement::Tested { verdict, run, unseen, .. }) => {
            match evidence::feedback(verdict, tests.baseline.as_ref(), run.as_deref()) {
                Some(mut feedback) => {
                    feedback.extend(unseen.iter().map(|unseen| format!("\n\nNote: {unseen}.")));
                    agent.reject(&feedback)?;
                }
                None => return Ok(false),
            }
        }
    }
    Ok(true)
}

/// What the agent may spend.
pub(super) fn budgets(services: &Services, order: &Order) -> Budgets {
    let limits = &services.settings.limits;
    Budgets {
        steps: limits.steps,
        tokens: limits.tokens,
        cost: limits.cost,
        deadline: order.deadline.into(),
        command: limits.command,
        answer_tokens: services.settings.max_output_tokens,
        temperature: services.settings.temperature,
        attempt: None,
        purse: Purse::default(),
    }
}

/// What the agent is told.
fn assignment(services: &Services, order: &Order, checkout: &Checkout, tests: &Tests) -> Brief {
    Brief {
        title: order.task.title.clone(),
        instruction: order.task.instruction.clone(),
        test_command: tests.command.clone(),
        baseline: tests.baseline.clone(),
        prompts: services.settings.prompts.clone(),
        profile: services.settings.profile,
        base: Some(checkout.base_files()),
        protocol: services.settings.protocol,
    }
}

/// Half a change is worth less than a whole one at the next attempt.
fn is_tried_again(order: &Order, error: &ModelError) -> bool {
    order.again_after.is_some() && error.is_transient()
}

fn is_too_large(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(WorkspaceError::FileTooLarge { .. })))
}
