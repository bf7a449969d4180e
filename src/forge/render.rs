//! Outcome -> text for people. Pure.
//!
//! Whatever comes from a user, a model, a repository or a program goes through [`neutralise`] or [`fenced`]; only our own
//! words and markers go in as they are. Line 1 of a pull request's body is what completes the task at the dispatcher.

mod harmless;
mod policy;
mod status;

use crate::outcome::{
    Budget, ChangeKind, ChangedFile, Conclusion, Outcome, Setup, Stage, StopReason, TestEnding, TestRun, Usage, Verdict,
};
use crate::task::{Task, TaskId};

use harmless::{code, fenced_within, line, quoted};
pub use harmless::{fenced, neutralise};
pub use status::{Standing, status_comment, verdict_description};

/// GitHub's limit is 256 characters.
const LONGEST_TITLE: usize = 250;
/// Each of plan and summary; all parts together stay below GitHub's 65,536 characters.
const LONGEST_PROSE: usize = 6_000;
const LONGEST_LINE: usize = 1_000;
const LONGEST_NOTE: usize = 500;
const LONGEST_EXCERPT: usize = 2_500;
const MOST_STEPS: usize = 20;
/// Characters of a note on the setup.
const LONGEST_REMARK: usize = 240;
const LONGEST_PATH: usize = 120;
const LONGEST_SUBJECT: usize = 72;
const MOST_FILES: usize = 50;
const MOST_NOTES: usize = 10;

/// The hidden line of a comment, by which it is found before it is made a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker<'a> {
    Started(&'a TaskId),
    Completed(&'a TaskId),
    Failed(&'a TaskId),
    /// The one comment that is edited as the task goes on.
    Status(&'a TaskId),
    /// A text that is not worked may have no id: the issue's number and the text's revision stand for it.
    Rejected {
        issue: u64,
        revision: &'a str,
    },
}

impl<'a> Marker<'a> {
    /// The marker of the comment that reports this outcome.
    pub fn of(outcome: &'a Outcome) -> Self {
        match &outcome.conclusion {
            Conclusion::Verified | Conclusion::NeedsReview | Conclusion::Unverified | Conclusion::NoChange => {
                Marker::Completed(&outcome.task_id)
            }
            Conclusion::BudgetRanOut { .. } | Conclusion::Failed { .. } => Marker::Failed(&outcome.task_id),
        }
    }
}

impl std::fmt::Display for Marker<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Marker::Started(id) => write!(formatter, "<!-- patchwright:started task={id} -->"),
            Marker::Completed(id) => write!(formatter, "<!-- patchwright:completed task={id} -->"),
            Marker::Failed(id) => write!(formatter, "<!-- patchwright:failed task={id} -->"),
            Marker::Status(id) => write!(formatter, "<!-- patchwright:status task={id} -->"),
            Marker::Rejected { issue, revision } => {
                let revision: String = revision.chars().filter(char::is_ascii_alphanumeric).collect();
                write!(formatter, "<!-- patchwright:rejected issue={issue} revision={revision} -->")
            }
        }
    }
}

/// The first line of a pull request's body: the dispatcher reads the task's id from it, and we find our own by it.
pub fn metadata_line(id: &TaskId) -> String {
    format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->")
}

/// `Agent task: <title>`, on one line.
pub fn pull_request_title(task: &Task) -> String {
    line(&format!("Agent task: {}", task.title), LONGEST_TITLE)
}

/// The body of the task's pull request, complete from the start: edits of it count for nothing at the dispatcher.
///
/// 1. the metadata line; 2. verdict; 3. summary and plan, quoted; 4. changed files; 5. what the policy saw in them, and
/// the model's review; 6. evidence; 7. how it was made; 8. notes; 9. where it comes from.
pub fn pull_request_body(task: &Task, outcome: &Outcome) -> String {
    let mut parts = vec![metadata_line(&task.id), verdict_in_words(outcome)];
    parts.extend(prose("Summary", outcome.summary.as_deref()));
    parts.extend(prose("Plan", outcome.plan.as_deref()));
    parts.push(changed_files(&outcome.changed_files));
    parts.extend(outcome.policy.as_ref().map(policy::section));
    parts.extend(findings(&outcome.review));
    parts.push(evidence(outcome));
    parts.extend(environment(outcome.setup.as_ref(), outcome.shown_repository.as_deref()));
    parts.push(how_it_was_made(outcome));
    parts.extend(notes(&outcome.notes));
    parts.push(origin(task));
    parts.join("\n\n")
}

/// The trailer that says of a commit whose tests pass that a person has to look at it.
pub const REVIEW_TRAILER: &str = "Patchwright-Review: needed";

/// The commit's message: the runner's customary first lines, and trailers.
pub fn commit_message(task: &Task, verdict: Option<&Verdict>, conclusion: &Conclusion) -> String {
    let subject = match &task.issue {
        Some(issue) => format!("Process agent task from dispatch issue #{}", issue.number),
        None => line(&format!("Process agent task: {}", task.title), LONGEST_SUBJECT),
    };
    let verdict = verdict.map(|verdict| format!("Patchwright-Verdict: {}\n", verdict.name())).unwrap_or_default();
    let review = if *conclusion == Conclusion::NeedsReview { format!("{REVIEW_TRAILER}\n") } else { String::new() };
    format!("{subject}\n\nTask ID: {id}\n\nTask-Id: {id}\n{verdict}{review}", id = task.id)
}

/// The comment at a task's start.
pub fn started_comment(id: &TaskId, agent: &str, at: jiff::Timestamp) -> String {
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("🤖 {} started processing this task at {at}\n\n{}", agent_name(agent), Marker::Started(id))
}

/// Where the log of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// On the runner, wherever its output goes.
    Runner,
    /// In the service's store.
    Store,
}

/// The comment at a task's end, be it good or bad.
pub fn finished_comment(agent: &str, outcome: &Outcome, logs: Logs) -> String {
    let id = &outcome.task_id;
    let parts = match &outcome.conclusion {
        Conclusion::Verified | Conclusion::NeedsReview | Conclusion::Unverified => {
            completed(agent, verdict_in_words(outcome))
        }
        Conclusion::NoChange => completed(agent, "Nothing had to be changed: no pull request was opened.".into()),
        Conclusion::BudgetRanOut { budget } => failed(
            id,
            Stage::Solve,
            &format!("the {} ran out before the task was done", budget_name(*budget)),
            "Raise this budget, or split the task.",
            logs,
        ),
        Conclusion::Failed { stage, cause, remedy, .. } => failed(id, *stage, cause, remedy, logs),
    };
    let link = outcome.pull_request.as_ref().map(|pull_request| {
        let draft = if pull_request.draft { " (draft)" } else { "" };
        format!("Pull request: {}{draft}", own_address(&pull_request.url))
    });
    let summary = match &outcome.conclusion {
        Conclusion::NoChange => outcome.summary.as_deref().filter(|summary| !summary.trim().is_empty()),
        Conclusion::Verified
        | Conclusion::NeedsReview
        | Conclusion::Unverified
        | Conclusion::BudgetRanOut { .. }
        | Conclusion::Failed { .. } => None,
    };
    let summary = summary.map(|summary| quoted(summary, LONGEST_PROSE));
    let marker = Marker::of(outcome).to_string();
    parts.into_iter().chain(link).chain(summary).chain([marker]).collect::<Vec<_>>().join("\n\n")
}

/// The comment on an issue that is not worked: it cannot be read as a task, or is not allowed.
pub fn rejection_comment(issue: u64, revision: &str, reason: &str) -> String {
    let reason = line(reason, LONGEST_LINE);
    format!(
        "❌ Task processing failed: {reason}\n\nDetails:\n- Step: {}\n- Error: the issue is not worked as it stands\n\
         - Logs: none; nothing was started\n\n{}",
        Stage::Intake.name(),
        Marker::Rejected { issue, revision }
    )
}

fn completed(agent: &str, words: String) -> Vec<String> {
    vec![format!("✅ {} completed processing this task.", agent_name(agent)), words]
}

fn failed(id: &TaskId, stage: Stage, cause: &str, remedy: &str, logs: Logs) -> Vec<String> {
    let cause = line(cause, LONGEST_LINE);
    let remedy = line(remedy, LONGEST_LINE);
    let remedy = if remedy.is_empty() { remedy } else { format!("\n- Remedy: {remedy}") };
    let logs = match logs {
        Logs::Runner => format!("in the runner's log, under task `{id}`"),
        Logs::Store => format!("`patchwright tasks logs {id}`, where the service runs"),
    };
    vec![
        format!("❌ Task processing failed: {cause}"),
        format!("Details:\n- Step: {}\n- Error: {cause}{remedy}\n- Logs: {logs}", stage.name()),
    ]
}

fn agent_name(agent: &str) -> String {
    let name = line(agent, 100);
    if name.is_empty() { "Patchwright".into() } else { name }
}

/// An address from the forge as it is, if it is made of what its addresses are made of.
fn own_address(url: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._~:/%".contains(character);
    if url.len() <= LONGEST_LINE && url.chars().all(is_plain) { url.to_owned() } else { line(url, LONGEST_LINE) }
}

/// What the tests say, and whether a person has to look.
fn verdict_in_words(outcome: &Outcome) -> String {
    let tests = tests_in_words(outcome);
    let review = findings(&outcome.review)
        .map(|_| "**Needs review**: a model that looked at the change found what is named under *Review by a model*.");
    let calls = policy::call(outcome.policy.as_ref()).into_iter().chain(review);
    std::iter::once(tests.as_str()).chain(calls).collect::<Vec<_>>().join("\n\n")
}

/// What the model's review has found, and was not mended.
fn findings(findings: &[String]) -> Option<String> {
    let lines = findings.iter().map(|finding| line(finding, LONGEST_LINE)).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| format!("- {line}")).collect();
    let opening = "A model looked at the task and at the change. It may be wrong.";
    (!lines.is_empty()).then(|| format!("## Review by a model\n\n{opening}\n\n{}", lines.join("\n")))
}

/// What the tests say, in a sentence that claims no more than they do.
fn tests_in_words(outcome: &Outcome) -> String {
    let base_failed = matches!(outcome.baseline.as_ref().map(|run| &run.ending), Some(TestEnding::Failed { .. }));
    let base_passed = matches!(outcome.baseline.as_ref().map(|run| &run.ending), Some(TestEnding::Passed));
    match &outcome.verdict {
        None if outcome.pull_request.as_ref().is_some_and(|pull_request| pull_request.existed) => {
            "An earlier run of this task has opened the pull request; nothing was done now.".into()
        }
        Some(Verdict::Verified) if outcome.conclusion == Conclusion::Unverified => {
            "**Not verified**: the tests pass, but the model stopped before it was done.".into()
        }
        Some(Verdict::Verified) if base_failed => {
            "**Verified**: the tests pass on exactly this tree; on the base they failed.".into()
        }
        Some(Verdict::Verified) => "**Verified**: the tests pass on exactly this tree.".into(),
        Some(Verdict::Broken) if base_passed => {
            "**Not verified**: the tests fail with this change; on the base they passed.".into()
        }
        Some(Verdict::Broken) => {
            "**Not verified**: the tests fail with this change; on the base there was nothing to fail.".into()
        }
        Some(Verdict::StillRed) => {
            "**Not verified**: the tests fail, and they failed on the base already, so they do not \
                                    tell whether this change is right."
                .into()
        }
        Some(Verdict::Untested { reason }) => format!("**Not tested**: {}.", line(reason, LONGEST_LINE)),
        Some(Verdict::Inconclusive { reason }) => {
            format!("**Not verified**: the tests did not get to say: {}.", line(reason, LONGEST_LINE))
        }
        None => "**Not tested**: no verdict was reached.".into(),
    }
}

fn prose(heading: &str, text: Option<&str>) -> Option<String> {
    let text = text.filter(|text| !text.trim().is_empty())?;
    Some(format!("## {heading}\n\n{}", quoted(text, LONGEST_PROSE)))
}

fn changed_files(files: &[ChangedFile]) -> String {
    let mut rows: Vec<String> = files
        .iter()
        .take(MOST_FILES)
        .map(|file| {
            let kind = match file.kind {
                ChangeKind::Added => "added",
                ChangeKind::Modified => "modified",
                ChangeKind::Deleted => "deleted",
                ChangeKind::Renamed => "renamed",
            };
            let path = code(&file.path, LONGEST_PATH);
            format!("| {path} | {kind} | +{} | -{} |", file.added_lines, file.removed_lines)
        })
        .collect();
    if rows.is_empty() {
        return "## Changed files\n\nNone.".into();
    }
    if files.len() > MOST_FILES {
        rows.push(format!("| and {} more | | | |", files.len() - MOST_FILES));
    }
    format!("## Changed files\n\n| file | | lines added | lines removed |\n|---|---|---|---|\n{}", rows.join("\n"))
}

/// The runs side by side, why this command, and what a run that did not pass printed.
fn evidence(outcome: &Outcome) -> String {
    let runs = [("base", outcome.baseline.as_ref()), ("this tree", outcome.result.as_ref())];
    let mut text = String::from("## Evidence\n\n| tests on | command | ended | time |\n|---|---|---|---|");
    for (tree, run) in runs {
        text.push_str(&match run {
            Some(run) => format!(
                "\n| {tree} | {} | {} | {} |",
                code(&run.command, LONGEST_LINE),
                ended(&run.ending),
                seconds(run.milliseconds)
            ),
            None => format!("\n| {tree} | none | not run | |"),
        });
    }
    if let Some(command) = &outcome.test_command {
        text.push_str(&format!("\n\nWhy this command: {}", line(&command.reason, LONGEST_LINE)));
    }
    for (tree, run) in runs {
        if let Some(run) = run.filter(|run| run.ending != TestEnding::Passed && !run.excerpt.trim().is_empty()) {
            text.push_str(&format!("\n\nPrinted on {tree}, in part:\n\n{}", excerpt(run)));
        }
    }
    text
}

fn excerpt(run: &TestRun) -> String {
    fenced_within(&run.excerpt, LONGEST_EXCERPT, "text")
}

fn ended(ending: &TestEnding) -> String {
    match ending {
        TestEnding::Passed => "passed (exit code 0)".into(),
        TestEnding::NothingToRun { .. }
        | TestEnding::Failed { .. }
        | TestEnding::NotFound { .. }
        | TestEnding::Killed { .. }
        | TestEnding::TimedOut { .. }
        | TestEnding::OutOfMemory
        | TestEnding::OutOfDisk => ending.describe(),
    }
}

/// Where the commands came from that made the tests able to run, and how they went; and the repository that boxes showed.
fn environment(setup: Option<&Setup>, repository: Option<&str>) -> Option<String> {
    let repository =
        repository.map(|repository| format!("`.git` in the sandbox: {}", line(repository, LONGEST_REMARK)));
    let parts: Vec<String> = setup.map(commands).into_iter().chain(repository).collect();
    (!parts.is_empty()).then(|| format!("## Environment\n\n{}", parts.join("\n\n")))
}

fn commands(setup: &Setup) -> String {
    let reused = if setup.reused { "; an earlier task has run them" } else { "" };
    let mut text = format!("Commands from: {}{reused}", line(&setup.origin, LONGEST_LINE));
    if !setup.steps.is_empty() {
        text.push_str("\n\n| step | ended | time |\n|---|---|---|");
    }
    for step in setup.steps.iter().take(MOST_STEPS) {
        let (name, time) = (code(&step.name, LONGEST_PATH), seconds(step.milliseconds));
        text.push_str(&format!("\n| {name} | {} | {time} |", step.ending.describe()));
    }
    let refused = setup.refused.iter().map(|host| format!("not reached: {host}"));
    let notes: Vec<String> = refused.chain(setup.notes.iter().cloned()).take(MOST_STEPS).collect();
    text.push('\n');
    for note in notes {
        text.push_str(&format!("\n- {}", line(&note, LONGEST_REMARK)));
    }
    text
}

fn how_it_was_made(outcome: &Outcome) -> String {
    let unknown = || "unknown".to_owned();
    let made = match &outcome.model {
        Some(model) => format!(
            "- Model: {}\n- Steps: {}\n- Tokens: {}",
            code(model, LONGEST_PATH),
            outcome.steps,
            tokens(outcome.usage)
        ),
        None => "- Model: none was asked".into(),
    };
    let stop = outcome.stop.as_ref().map_or_else(unknown, stop_in_words);
    let sandbox = outcome.sandbox.as_ref().map_or_else(unknown, |sandbox| line(sandbox, LONGEST_LINE));
    let time = seconds(outcome.milliseconds);
    format!("## How it was made\n\n{made}\n- Stopped because {stop}\n- Sandbox: {sandbox}\n- Time: {time}")
}

fn stop_in_words(stop: &StopReason) -> String {
    match stop {
        StopReason::Finished => "the model said that it had finished".into(),
        StopReason::Patched => "the patches of the instruction were applied as they are".into(),
        StopReason::BudgetRanOut { budget } => format!("the {} ran out", budget_name(*budget)),
        StopReason::Stuck { reason, .. } => format!("the model was stuck: {}", line(reason, LONGEST_LINE)),
        StopReason::ModelFailed { reason } => format!("the model failed: {}", line(reason, LONGEST_LINE)),
        StopReason::GaveUp => "the model said that it had finished, without a change".into(),
    }
}

fn budget_name(budget: Budget) -> &'static str {
    match budget {
        Budget::Steps => "budget of steps",
        Budget::Tokens => "budget of tokens",
        Budget::Cost => "budget of money",
        Budget::Time => "time",
    }
}

fn tokens(usage: Usage) -> String {
    let count = |count: Option<u64>| count.map_or_else(|| "an unknown number".to_owned(), |count| count.to_string());
    let cached = usage.cached_tokens.map(|cached| format!(" ({cached} of them cached)")).unwrap_or_default();
    let about = if usage.estimated { "about " } else { "" };
    let cost = usage.micros.map(|micros| format!(", for {about}{}.{:06}", micros / 1_000_000, micros % 1_000_000));
    let cost = cost.unwrap_or_default();
    format!("{about}{} in{cached}, {} out{cost}", count(usage.prompt_tokens), count(usage.completion_tokens))
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

fn notes(notes: &[String]) -> Option<String> {
    let mut lines: Vec<String> =
        notes.iter().take(MOST_NOTES).map(|note| format!("- {}", line(note, LONGEST_NOTE))).collect();
    if notes.len() > MOST_NOTES {
        lines.push(format!("- and {} more", notes.len() - MOST_NOTES));
    }
    (!lines.is_empty()).then(|| format!("## Notes\n\n{}", lines.join("\n")))
}

/// Names the dispatch issue without a reference: that would link, and after some words even close it.
fn origin(task: &Task) -> String {
    match &task.issue {
        Some(issue) => format!(
            "Task `{}`, dispatched by issue {} of `{}`. Made by Patchwright.",
            task.id, issue.number, issue.repository
        ),
        None => format!("Task `{}`, from the command line. Made by Patchwright.", task.id),
    }
}
