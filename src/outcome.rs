//! What became of a task. Pure: no input, no output, no clock.

mod printable;
mod setup;

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use printable::printable;
pub use setup::{Setup, SetupStep, StepEnding};

use crate::policy::{Level, Report};
use crate::task::{RepositoryName, TaskId};

/// The stages of a task's way, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Intake,
    Checkout,
    Setup,
    Baseline,
    Solve,
    Verify,
    Commit,
    Push,
    PullRequest,
    Report,
}

impl Stage {
    /// The stage in words, for progress lines and failure comments.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Intake => "intake",
            Stage::Checkout => "checkout",
            Stage::Setup => "setup",
            Stage::Baseline => "baseline tests",
            Stage::Solve => "solve",
            Stage::Verify => "verify",
            Stage::Commit => "commit",
            Stage::Push => "push",
            Stage::PullRequest => "pull request",
            Stage::Report => "report",
        }
    }
}

/// How one run of the tests ended. Exit codes decide, never printed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum TestEnding {
    /// Exit code 0.
    Passed,
    /// The runner says that there are no tests to run (pytest's exit code 5 and its kin).
    NothingToRun {
        exit_code: i32,
    },
    /// Another exit code.
    Failed {
        exit_code: i32,
    },
    /// The command could not be started: the shell's 126 or 127.
    NotFound {
        exit_code: i32,
    },
    /// A signal that none of our limits sent.
    Killed {
        signal: i32,
    },
    /// The time limit was reached.
    TimedOut {
        seconds: u64,
    },
    /// The memory limit was reached.
    OutOfMemory,
    OutOfDisk,
}

impl TestEnding {
    /// The ending in words: `passed`, `failed with exit code 1`, `ran out of memory`.
    pub fn describe(&self) -> String {
        match self {
            TestEnding::Passed => "passed".into(),
            TestEnding::NothingToRun { exit_code } => format!("found no tests (exit code {exit_code})"),
            TestEnding::Failed { exit_code } => format!("failed with exit code {exit_code}"),
            TestEnding::NotFound { exit_code } => format!("could not be started (exit code {exit_code})"),
            TestEnding::Killed { signal } => format!("was killed by signal {signal}"),
            TestEnding::TimedOut { seconds } => format!("reached the time limit of {seconds} s"),
            TestEnding::OutOfMemory => "ran out of memory".into(),
            TestEnding::OutOfDisk => "wrote more to disk than it may".into(),
        }
    }
}

/// One run of the test command in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRun {
    pub command: String,
    #[serde(flatten)]
    pub ending: TestEnding,
    pub milliseconds: u64,
    /// The end of what the tests printed, for people and for the model. Never parsed for a verdict.
    pub excerpt: String,
    /// `None`: they passed, or their runner is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The names of the tests that failed, where the runner tells them; `None`: unknown. Only to choose among red results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<BTreeSet<String>>,
}

/// What a run of tests comes to, read from all that it printed: it chooses what is shown first, and ranks red results.
/// Never a base for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    /// The first failure that was printed, in some 1,200 bytes; `None`: none was found.
    pub first_failure: Option<String>,
    /// The lines with the counts; empty if they tell of failures and none was found.
    pub counts: String,
    /// How many tests fail, where the runner counts them.
    pub failed: Option<u64>,
}

impl Digest {
    /// The first failure and the counts; `None`: the output says more than this.
    pub fn shown(&self) -> Option<String> {
        match &self.first_failure {
            Some(failure) => Some(format!("First failure:\n{failure}\nCounts:\n{}", self.counts)),
            None => Some(self.counts.clone()).filter(|counts| !counts.is_empty()),
        }
    }
}

impl TestRun {
    /// What is told of the run: the first failure and the counts, or the excerpt where that is shorter or all there is.
    pub fn told(&self) -> String {
        let shown = self.digest.as_ref().and_then(Digest::shown);
        shown.filter(|shown| shown.len() < self.excerpt.len()).unwrap_or_else(|| self.excerpt.clone())
    }
}

/// Where a test command comes from, so that `--json` can say why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCommand {
    /// A line for `sh -c`, run at the repository's root.
    pub command: String,
    /// One sentence: `--test-command`, `Cargo.toml stands at the root`, ...
    pub reason: String,
}

/// What the tests say of a change, measured against the base they ran on before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The tests pass on exactly the tree that is published.
    Verified,
    /// Green on the base, red on the result: the change broke them.
    Broken,
    /// Red on the base and still red: not to be blamed on the change, and not verified either.
    StillRed,
    /// There is no test command, or no test to run.
    Untested { reason: String },
    /// The tests did not get to say: time, memory, a signal, a command that is not there.
    Inconclusive { reason: String },
}

impl Verdict {
    /// Judges a result by its run and the base's. `None`: that side had no test command to run.
    ///
    /// Only exit code 0 verifies. Only an exit code on both sides tells whose fault a red result is: where the base's
    /// tests did not get to say, neither do the result's. Where there was nothing to run on the base, tests that fail
    /// came with the change.
    pub fn judge(baseline: Option<&TestRun>, result: Option<&TestRun>) -> Self {
        let baseline = baseline.map(|run| &run.ending);
        let Some(result) = result.map(|run| &run.ending) else {
            return Verdict::Untested {
                reason: match baseline {
                    None => "no test command is known for this repository".into(),
                    Some(base) => format!("the result has no tests to run; on the base they {}", base.describe()),
                },
            };
        };
        match result {
            TestEnding::Passed => Verdict::Verified,
            TestEnding::NothingToRun { .. } => Verdict::Untested { reason: against_base(result, baseline) },
            TestEnding::Failed { .. } => match baseline {
                Some(TestEnding::Failed { .. }) => Verdict::StillRed,
                Some(TestEnding::Passed | TestEnding::NothingToRun { .. }) | None => Verdict::Broken,
                Some(
                    TestEnding::NotFound { .. }
                    | TestEnding::Killed { .. }
                    | TestEnding::TimedOut { .. }
                    | TestEnding::OutOfMemory
                    | TestEnding::OutOfDisk,
                ) => Verdict::Inconclusive { reason: against_base(result, baseline) },
            },
            TestEnding::NotFound { .. }
            | TestEnding::Killed { .. }
            | TestEnding::TimedOut { .. }
            | TestEnding::OutOfMemory
            | TestEnding::OutOfDisk => Verdict::Inconclusive { reason: against_base(result, baseline) },
        }
    }

    /// One word for trailers, tables and `--json`.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Broken => "broken",
            Verdict::StillRed => "still_red",
            Verdict::Untested { .. } => "untested",
            Verdict::Inconclusive { .. } => "inconclusive",
        }
    }
}

/// What both runs did, in words: a reader must see whether the base fared better.
fn against_base(result: &TestEnding, baseline: Option<&TestEnding>) -> String {
    let result = result.describe();
    match baseline {
        None => format!("the test command {result}; there was none to run on the base"),
        Some(base) => format!("the test command {result}; on the base it {}", base.describe()),
    }
}

/// Tokens that a model server counted. A server that does not tell leaves `None`: unknown is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    /// The part of `prompt_tokens` that the server took from its prefix cache.
    pub cached_tokens: Option<u64>,
    /// What they cost, in millionths of the operator's currency; `None`: the price or the tokens are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micros: Option<u64>,
    /// Some of it is our estimate: an answer was ended before the server told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Usage {
    /// Adds `other`; an unknown part stays unknown only while nothing at all is known of it.
    pub fn add(&mut self, other: Usage) {
        let sum = |left: Option<u64>, right: Option<u64>| match (left, right) {
            (None, None) => None,
            (left, right) => Some(left.unwrap_or(0).saturating_add(right.unwrap_or(0))),
        };
        self.prompt_tokens = sum(self.prompt_tokens, other.prompt_tokens);
        self.completion_tokens = sum(self.completion_tokens, other.completion_tokens);
        self.cached_tokens = sum(self.cached_tokens, other.cached_tokens);
        self.micros = sum(self.micros, other.micros);
        self.estimated |= other.estimated;
    }
}

/// Of a million tokens, in millionths of the operator's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// Of prompt tokens that the server took from its cache; `None`: as the others.
    pub cached: Option<u64>,
}

impl Price {
    /// What so many tokens cost, in millionths, rounded up.
    pub fn of(self, prompt_tokens: u64, completion_tokens: u64) -> u64 {
        self.with_cached(prompt_tokens, 0, completion_tokens)
    }

    /// What an answer costs; `None`: its tokens are unknown.
    pub fn of_usage(self, usage: &Usage) -> Option<u64> {
        let prompt = usage.prompt_tokens?;
        let cached = usage.cached_tokens.unwrap_or(0).min(prompt);
        Some(self.with_cached(prompt - cached, cached, usage.completion_tokens?))
    }

    fn with_cached(self, read: u64, cached: u64, written: u64) -> u64 {
        let cached_price = self.cached.unwrap_or(self.input);
        let millionths = [(read, self.input), (cached, cached_price), (written, self.output)]
            .map(|(tokens, price)| u128::from(tokens) * u128::from(price));
        u64::try_from(millionths.iter().sum::<u128>().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// What the tokens of one attempt at a task may cost, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostLimit {
    pub micros: u64,
    pub price: Price,
}

impl CostLimit {
    /// How many tokens of answers can still be paid, with so many read and written.
    pub fn answer_tokens_left(self, prompt_tokens: u64, completion_tokens: u64) -> u64 {
        let left = self.micros.saturating_sub(self.price.of(prompt_tokens, completion_tokens));
        let tokens = (u128::from(left) * 1_000_000).checked_div(u128::from(self.price.output));
        // An answer that costs nothing can be paid as long as the prompts can.
        let tokens = tokens.unwrap_or(if left > 0 { u128::MAX } else { 0 });
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

/// A budget of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Requests to the model.
    Steps,
    /// Prompt and completion tokens together.
    Tokens,
    /// What the tokens cost.
    Cost,
    /// Wall time of the whole task.
    Time,
}

impl Budget {
    /// The budget in words.
    pub fn describe(self) -> &'static str {
        match self {
            Budget::Steps => "budget of steps",
            Budget::Tokens => "budget of tokens",
            Budget::Cost => "budget of money",
            Budget::Time => "time of the task",
        }
    }
}

/// Why the agent stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stop", rename_all = "snake_case")]
pub enum StopReason {
    /// The model called `finish`, and what it left was accepted or there was no round left to reject it.
    Finished,
    /// The instruction was a patch, applied as it is; no model was asked.
    Patched,
    /// A budget ran out.
    BudgetRanOut { budget: Budget },
    /// The model ran away, or the run could not go on with it.
    Stuck {
        /// `None`: in an outcome that an earlier version wrote.
        #[serde(default)]
        habit: Option<Habit>,
        reason: String,
    },
    /// The model's server failed in the middle of the work.
    ModelFailed { reason: String },
    /// The model said that it was done, changed nothing, and did not say that nothing was needed.
    GaveUp,
}

/// What a model does that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Habit {
    /// The same call with the same answer, again and again.
    SameCall,
    /// The same few calls in turns.
    CallsInTurns,
    /// The same useless answer, letter for letter.
    SameAnswer,
    /// Text without any action.
    NoAction,
    /// Actions that cannot be read.
    Unreadable,
    /// Reading without an edit.
    OnlyLooking,
    /// Work that leaves the files as they were, or puts them back.
    NoChange,
    /// Commands that do not end.
    EndlessCommands,
    /// "Done", though nothing has changed.
    DoneWithoutChange,
    /// It has said more than its context window holds.
    FullWindow,
}

impl Habit {
    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Habit::SameCall => "same_call",
            Habit::CallsInTurns => "calls_in_turns",
            Habit::SameAnswer => "same_answer",
            Habit::NoAction => "no_action",
            Habit::Unreadable => "unreadable",
            Habit::OnlyLooking => "only_looking",
            Habit::NoChange => "no_change",
            Habit::EndlessCommands => "endless_commands",
            Habit::DoneWithoutChange => "done_without_change",
            Habit::FullWindow => "full_window",
        }
    }

    /// What the model did, as part of a sentence that begins with "the model".
    pub fn describe(self) -> &'static str {
        match self {
            Habit::SameCall => "made the same call 3 times in a row with the same result",
            Habit::CallsInTurns => "made the same calls in turns with the same results",
            Habit::SameAnswer => "gave the same answer letter for letter, and it held nothing to act on",
            Habit::NoAction => "gave 3 replies in a row without any action",
            Habit::Unreadable => "gave 3 replies in a row that held no tool call that could be acted on",
            Habit::OnlyLooking => "only looked around and changed nothing",
            Habit::NoChange => "worked on without bringing the files into any new state",
            Habit::EndlessCommands => "ran commands that do not end",
            Habit::DoneWithoutChange => "said that it was done without having changed anything",
            Habit::FullWindow => "filled its context window",
        }
    }

    /// Whether the way of speaking is what fails, so that another protocol may help.
    pub fn is_of_form(self) -> bool {
        match self {
            Habit::SameAnswer | Habit::NoAction | Habit::Unreadable => true,
            Habit::SameCall
            | Habit::CallsInTurns
            | Habit::OnlyLooking
            | Habit::NoChange
            | Habit::EndlessCommands
            | Habit::DoneWithoutChange
            | Habit::FullWindow => false,
        }
    }
}

/// How a file differs from the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    Renamed,
}

/// One changed file. `path` is lossy UTF-8, for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    pub path: String,
    pub kind: ChangeKind,
    pub added_lines: usize,
    pub removed_lines: usize,
}

/// A pull request of this task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    pub number: u64,
    pub url: String,
    pub draft: bool,
    /// It was there before this run.
    pub existed: bool,
}

/// How a task ended, in the terms of the exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "conclusion", rename_all = "snake_case")]
pub enum Conclusion {
    /// A change whose tests pass.
    Verified,
    /// A change whose tests pass, and which the operator's policy wants a person to look at: a diff or a draft.
    NeedsReview,
    /// A change whose tests fail, could not run, or do not exist: a diff or a draft.
    Unverified,
    /// Nothing had to be changed.
    NoChange,
    /// A budget ran out first.
    BudgetRanOut { budget: Budget },
    /// The task failed. `cause` and `remedy` are for the user and hold no secret; an empty remedy stands in the cause.
    /// `transient`: the world was in the way (network, limits, an engine that is down), so the same task may pass later.
    Failed { stage: Stage, cause: String, remedy: String, transient: bool },
}

impl Conclusion {
    /// The exit code that says so. 2 is for wrong usage and configuration, 130 for interruption; neither is a conclusion.
    pub fn exit_code(&self) -> u8 {
        match self {
            Conclusion::Verified => 0,
            Conclusion::Failed { .. } => 1,
            Conclusion::Unverified => 3,
            Conclusion::NoChange => 4,
            Conclusion::BudgetRanOut { .. } => 5,
            Conclusion::NeedsReview => 6,
        }
    }
}

/// Everything that is known of a finished task: what `--json` prints, and what pull request and comments are rendered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub task_id: TaskId,
    pub repository: Option<RepositoryName>,
    #[serde(flatten)]
    pub conclusion: Conclusion,
    pub stop: Option<StopReason>,
    pub base_commit: Option<String>,
    pub tree: Option<String>,
    pub commit: Option<String>,
    pub branch: Option<String>,
    pub pull_request: Option<PullRequest>,
    #[serde(rename = "tests")]
    pub verdict: Option<Verdict>,
    pub test_command: Option<TestCommand>,
    pub baseline: Option<TestRun>,
    pub result: Option<TestRun>,
    pub changed_files: Vec<ChangedFile>,
    pub diff: Option<Diff>,
    /// What the operator's policy saw in the change.
    #[serde(default)]
    pub policy: Option<Report>,
    /// What the model's review of the change has found, and nobody has mended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub review: Vec<String>,
    pub plan: Option<String>,
    pub summary: Option<String>,
    pub model: Option<String>,
    /// Of several attempts, the one that counts, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    pub steps: u32,
    pub usage: Usage,
    pub sandbox: Option<String>,
    /// How what the tests need was made ready; `None`: there was nothing to do.
    #[serde(default)]
    pub setup: Option<Setup>,
    /// The repository that boxes showed at `/workspace/.git`, in words; `None`: there was none.
    #[serde(default)]
    pub shown_repository: Option<String>,
    pub milliseconds: u64,
    pub notes: Vec<String>,
}

impl Outcome {
    /// The outcome of a task of which nothing is known yet.
    pub fn new(task_id: TaskId, repository: Option<RepositoryName>) -> Self {
        Self {
            task_id,
            repository,
            conclusion: Conclusion::NoChange,
            stop: None,
            base_commit: None,
            tree: None,
            commit: None,
            branch: None,
            pull_request: None,
            verdict: None,
            test_command: None,
            baseline: None,
            result: None,
            changed_files: Vec::new(),
            diff: None,
            policy: None,
            review: Vec::new(),
            plan: None,
            summary: None,
            model: None,
            attempt: None,
            steps: 0,
            usage: Usage::default(),
            sandbox: None,
            setup: None,
            shown_repository: None,
            milliseconds: 0,
            notes: Vec::new(),
        }
    }
}

impl Outcome {
    /// Why a person has to look at the change, in words: by the policy, or by what a model's review has found.
    pub fn why_review(&self) -> Option<String> {
        let report = self.policy.as_ref().filter(|report| report.level() == Level::Review);
        let by_policy = report.map(|report| format!("the policy wants a person to look: {}", report.summary()));
        let by_model = || format!("the model's review of it has found: {}", self.review.join("; "));
        by_policy.or_else(|| (!self.review.is_empty()).then(by_model))
    }
}

/// A diff as `git apply` takes it: bytes, since files need not be UTF-8. Serialised, it is lossy text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff(pub Vec<u8>);

impl Serialize for Diff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

impl<'de> Deserialize<'de> for Diff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into_bytes()))
    }
}
