//! One instance: worked as any task is, then judged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::results::{self, Key, Row, Status};
use super::tasks::Instance;
use crate::config::eval::{EvalConfig, repository_of};
use crate::logging;
use crate::model::Model;
use crate::model::record::Recorded;
use crate::outcome::{Conclusion, Diff, Outcome, Stage, StopReason, TestCommand, TestEnding, TestRun};
use crate::pipeline::{self, Ending, Judge, Order, Services, intake};
use crate::progress;
use crate::service::assemble;

/// Folders of the results.
const RECORDS: &str = "records";
const DIFFS: &str = "diffs";

/// Works one instance and judges what came of it. Whatever goes wrong stands in the row.
pub(super) async fn work(config: &EvalConfig, services: &Services, instance: &Instance, key: &Key) -> Row {
    let mut row = blank(instance, key);
    match attempt(config, services, instance, &mut row).await {
        Ok(()) => {}
        Err(error) => {
            row.status = Status::Error;
            row.reason = format!("{error:#}");
        }
    }
    row.reason = logging::screened(&row.reason);
    row.excerpt = logging::screened(&row.excerpt);
    row
}

fn blank(instance: &Instance, key: &Key) -> Row {
    Row {
        instance_id: key.instance_id.clone(),
        model: key.model.clone(),
        profile: key.profile.clone(),
        settings: key.settings.clone(),
        run: key.run,
        status: Status::Unresolved,
        reason: String::new(),
        stop: String::new(),
        conclusion: String::new(),
        usage: crate::outcome::Usage::default(),
        cost_micros: None,
        steps: 0,
        seconds: 0.0,
        judge_seconds: 0.0,
        judged: None,
        excerpt: String::new(),
        changed_files: Vec::new(),
        language: instance.language.clone(),
        diff: None,
        record: None,
        fail_to_pass: instance.fail_to_pass.clone(),
        pass_to_pass: instance.pass_to_pass.clone(),
    }
}

/// 1. The test patch must fit the base, or no model is asked.
/// 2. The task goes through the pipeline; nothing is published.
/// 3. What it changed is judged in the checkout that was made before it began.
async fn attempt(config: &EvalConfig, services: &Services, instance: &Instance, row: &mut Row) -> anyhow::Result<()> {
    let record = file_of(&config.out, RECORDS, &row.key(), "jsonl")?;
    let events = progress::recorded(&record.path)?;
    let model = services.model.clone().map(|model| Arc::new(Recorded::new(model, events.clone())) as Arc<dyn Model>);
    let services = &Services { events, model, ..services.clone() };
    row.record = Some(record.name);
    let mut order = order(config, services, instance).await?;
    let judge = Judge::new(services, &order, &instance.test_patch).await?;
    order.started = Instant::now();
    order.deadline = order.started + services.settings.limits.task;
    let outcome = match pipeline::run_task(services, &order).await {
        Ending::Reported(outcome) | Ending::Unreported { outcome, .. } | Ending::Again { outcome, .. } => outcome,
        Ending::Stopped(error) => return Err(error.into()),
        Ending::Unauthorized => anyhow::bail!("the forge refuses the credentials"),
        Ending::Limited { reason, .. } => anyhow::bail!(reason),
    };
    row.seconds = order.started.elapsed().as_secs_f64();
    tell(&outcome, row);
    if let Some(diff) = &outcome.diff {
        let file = file_of(&config.out, DIFFS, &row.key(), "diff")?;
        results::write(&file.path, &diff.0).context("a diff cannot be written")?;
        row.diff = Some(file.name);
    }
    match verdict_on(&outcome) {
        Judged::Not(status) => row.status = status,
        Judged::ByTests => {
            let Some(diff) = &outcome.diff else { return Ok(()) };
            let begun = Instant::now();
            let run = judge.run(services, &order, diff).await.context("the change could not be judged")?;
            row.judge_seconds = begun.elapsed().as_secs_f64();
            // A test program that is not to be had is no matter of the change, where the base lacks it too.
            let is_world = is_missing(&run) && is_missing(&judge.run(services, &order, &Diff(Vec::new())).await?);
            conclude(row, &outcome, &run, is_world);
        }
    }
    Ok(())
}

/// The order as `run --dry-run` would make it of the task's fields.
async fn order(config: &EvalConfig, services: &Services, instance: &Instance) -> anyhow::Result<Order> {
    let common = &config.common;
    let folder = config.tasks.parent().unwrap_or(Path::new("/"));
    let target = repository_of(&instance.repo, folder, &common.forge.server_url)?;
    let base = &instance.base_commit;
    let mut task = intake::from_command_line(&instance.problem_statement, None, &target.to_string(), Some(base))?;
    // What the text holds of patches is text.
    task.patches.clear();
    let mut order = assemble::order_for_diff(common, services, &target, task, Some(base.clone())).await?;
    if let Some(command) = &instance.test_command {
        let reason = "given with the task".into();
        order.test_command = Some(TestCommand { command: command.clone(), reason });
    }
    if let Some(commands) = &instance.setup {
        order.setup.operator.setup = Some(commands.lines());
    }
    Ok(order)
}

/// Puts what the pipeline says into the row.
fn tell(outcome: &Outcome, row: &mut Row) {
    row.usage = outcome.usage;
    row.steps = outcome.steps;
    row.cost_micros = outcome.usage.micros;
    row.changed_files = outcome.changed_files.iter().map(|file| file.path.clone()).collect();
    row.stop = outcome.stop.as_ref().map(stop_in_words).unwrap_or_default();
    let (conclusion, reason) = conclusion_in_words(&outcome.conclusion);
    row.conclusion = conclusion.to_owned();
    row.reason = match &outcome.stop {
        Some(StopReason::Stuck { reason, .. } | StopReason::ModelFailed { reason }) => reason.clone(),
        Some(_) | None => reason,
    };
}

fn stop_in_words(stop: &StopReason) -> String {
    match stop {
        StopReason::Finished => "finished".into(),
        StopReason::Patched => "patched".into(),
        StopReason::BudgetRanOut { budget } => format!("the {} ran out", budget.describe()),
        StopReason::Stuck { .. } => "stuck".into(),
        StopReason::ModelFailed { .. } => "the model's server failed".into(),
        StopReason::GaveUp => "finished without a change".into(),
    }
}

fn conclusion_in_words(conclusion: &Conclusion) -> (&'static str, String) {
    match conclusion {
        Conclusion::Verified => ("verified", String::new()),
        Conclusion::NeedsReview => ("needs_review", String::new()),
        Conclusion::Unverified => ("unverified", String::new()),
        Conclusion::NoChange => ("no_change", "no change, says the model".into()),
        Conclusion::BudgetRanOut { budget } => ("budget_ran_out", format!("the {} ran out", budget.describe())),
        Conclusion::Failed { .. } => ("failed", progress::failure_in_words(conclusion)),
    }
}

/// Who says whether a run has resolved its task.
enum Judged {
    ByTests,
    /// There is nothing that the pipeline would hand over.
    Not(Status),
}

fn verdict_on(outcome: &Outcome) -> Judged {
    match &outcome.conclusion {
        Conclusion::Verified | Conclusion::NeedsReview | Conclusion::Unverified => Judged::ByTests,
        Conclusion::BudgetRanOut { .. } if outcome.diff.is_some() => Judged::ByTests,
        Conclusion::BudgetRanOut { .. } | Conclusion::NoChange => Judged::Not(Status::Unresolved),
        Conclusion::Failed { transient: true, .. } => Judged::Not(Status::Error),
        Conclusion::Failed { stage, .. } => match stage {
            Stage::Solve | Stage::Verify => Judged::Not(Status::Unresolved),
            Stage::Intake
            | Stage::Checkout
            | Stage::Setup
            | Stage::Baseline
            | Stage::Commit
            | Stage::Push
            | Stage::PullRequest
            | Stage::Report => Judged::Not(Status::Error),
        },
    }
}

fn is_missing(run: &TestRun) -> bool {
    matches!(run.ending, TestEnding::NotFound { .. })
}

/// `is_world`: the hidden tests cannot be run on the base either.
fn conclude(row: &mut Row, outcome: &Outcome, run: &TestRun, is_world: bool) {
    row.judged = Some(run.ending.describe());
    row.status = match (&run.ending, &outcome.stop) {
        (TestEnding::Passed, _) => match held(outcome) {
            Some(reason) => {
                row.reason = reason;
                row.status = Status::ForReview;
                return;
            }
            None => Status::Resolved,
        },
        (TestEnding::NotFound { .. }, _) if is_world => Status::Error,
        // It says nothing of the change.
        (_, Some(StopReason::ModelFailed { .. })) => Status::Error,
        (
            TestEnding::NothingToRun { .. }
            | TestEnding::NotFound { .. }
            | TestEnding::Failed { .. }
            | TestEnding::Killed { .. }
            | TestEnding::TimedOut { .. }
            | TestEnding::OutOfMemory
            | TestEnding::OutOfDisk,
            _,
        ) => Status::Unresolved,
    };
    if row.status == Status::Resolved {
        row.reason.clear();
        return;
    }
    row.excerpt.clone_from(&run.excerpt);
    let said = format!("the hidden tests {}", run.ending.describe().replacen("failed", "fail", 1));
    row.reason = if row.reason.is_empty() { said } else { format!("{}; {said}", row.reason) };
}

/// Why a person has to look at a change first, whatever the tests that it was made for say of it: it may be what makes them
/// pass, like a file among what is installed, or the tests' configuration.
fn held(outcome: &Outcome) -> Option<String> {
    let is_held = outcome.conclusion == Conclusion::NeedsReview;
    outcome.why_review().or_else(|| is_held.then(|| "a person has to look".into()))
}

/// A file of one run: where it is, and what the row calls it.
struct RunFile {
    path: PathBuf,
    name: String,
}

/// A name that tells the instance and is one of a file: what it may not hold is replaced, and a hash keeps it apart.
fn file_of(out: &Path, folder: &str, key: &Key, ending: &str) -> anyhow::Result<RunFile> {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
    let stem: String = key.instance_id.chars().map(plain).take(80).collect();
    let hash = Sha256::digest(format!("{}\n{}\n{}\n{}", key.instance_id, key.model, key.profile, key.settings));
    let hash: String = hex::encode(hash).chars().take(8).collect();
    let name = format!("{folder}/{stem}.{hash}.{}.{ending}", key.run);
    let path = out.join(&name);
    results::make_folder(&out.join(folder)).with_context(|| format!("cannot make {folder} in {}", out.display()))?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} is in the way", path.display()))
        }
        Ok(()) | Err(_) => Ok(RunFile { path, name }),
    }
}
