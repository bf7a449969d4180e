//! The loop: query the model, act on its reply, append.
//!
//! One step is one request. Its reply holds calls in the server's form, or calls as text ([`protocol`]), or nothing
//! usable. Where the protocol is whole files ([`Protocol`]), it holds those instead, and files that change anything are
//! a `finish`; so is it in the series of questions for single files that a run with failing tests begins with
//! ([`repair`]). Every call is answered, in order, and everything said goes to the end of one history that is sent whole.
//! `finish` pauses the loop: whoever runs the tests answers it by [`Agent::observe`] and runs on, or ends.
//!
//! A run ends by itself when a budget runs out, when it runs away although the model was told and the conversation was
//! begun again ([`stuck`]), or when the context window is full.

mod act;
mod again;
mod budget;
mod context;
mod difference;
pub mod edit;
mod failing;
pub mod grammar;
mod history;
mod instructions;
mod interest;
mod map;
mod opening;
mod perform;
pub mod profile;
mod prompt;
pub mod protocol;
mod purse;
mod query;
pub mod repair;
pub mod review;
mod shown;
mod state;
pub mod stuck;
pub mod syntax;
mod text;
pub mod tokens;
pub mod tools;
mod whole_file;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

pub use budget::Budgets;
pub use profile::{Profile, ProfileChoice};
pub use prompt::digest as prompts_digest;
pub use protocol::{Protocol, ProtocolChoice};
pub use purse::Purse;

use crate::event::Events;
use crate::model::{Call, Message, Model, ModelError, ToolSpec};
use crate::outcome::{StopReason, TestCommand, TestRun, Usage};
use crate::sandbox::{Sandbox, SandboxError};
use crate::workspace::{BaseFiles, FileError, Files};
use budget::Spent;
use history::History;
use opening::Beginning;
use prompt::Prompts;
use repair::{Answers, Repairing, Said};
use state::State;
use stuck::Watch;
use text::{clip, elide, keep_tail};
use tools::Outputs;
use whole_file::{Way, WholeFile};

/// How many replies in a row may hold no file, where the protocol is whole files.
const MOST_UNUSABLE: u32 = 3;
const MOST_PLAN_BYTES: usize = 4_000;
/// How much of the instruction a reminder repeats.
const MOST_REMINDER_BYTES: usize = 300;
const MOST_SUMMARY_BYTES: usize = 8_000;
/// The longest answer to `finish` that the model reads.
const MOST_OBSERVATION_BYTES: usize = 12_000;
/// The most of what the tests said that a fresh start repeats: its end.
const MOST_FEEDBACK_BYTES: usize = 1_500;
/// How many files are looked at to see whether anything has changed.
const MOST_COMPARED_FILES: usize = 50_000;

/// What the agent is to do, and what it is told of the repository.
#[derive(Debug, Clone)]
pub struct Brief {
    pub title: String,
    /// Without HTML comments; data, never a template.
    pub instruction: String,
    pub test_command: Option<TestCommand>,
    /// The tests before any change.
    pub baseline: Option<TestRun>,
    /// The operator's folder of prompts; a file in it replaces the built-in one of the same name.
    pub prompts: Option<PathBuf>,
    pub profile: ProfileChoice,
    /// Where the repository's own instructions are read; `None`: they are not.
    pub base: Option<BaseFiles>,
    pub protocol: ProtocolChoice,
}

/// Why the loop paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// The model says that it is done, and maybe that no change is needed. Whether anything has changed, the tree tells.
    Finish { summary: String, no_change_needed: bool },
    /// The loop ended the run.
    Stopped(StopReason),
}

/// What is known of a run at any time.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub plan: Option<String>,
    /// Of the last `finish`.
    pub summary: Option<String>,
    /// Requests to the model.
    pub steps: u32,
    /// As the server reported it.
    pub usage: Usage,
    /// The models that answered: the card's, and fallbacks.
    pub models: Vec<String>,
    /// What `replace`, `write` and `delete` touched; commands may have changed more.
    pub written_paths: Vec<String>,
}

/// Why the loop cannot go on. A tool's failure is an answer to the model instead.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the working tree cannot be used")]
    Files(#[from] FileError),
    #[error("{0}")]
    Prompt(String),
    #[error("a file operation broke off: {0}")]
    Broken(String),
}

/// One run over one working tree.
pub struct Agent<'a> {
    model: &'a dyn Model,
    sandbox: &'a dyn Sandbox,
    files: Files,
    brief: Brief,
    budgets: Budgets,
    /// What an answer may have of thoughts besides, in tokens.
    thoughts: u32,
    events: Events,
    prompts: Prompts,
    /// The beginning of the instruction, for reminders.
    task: String,
    protocol: Protocol,
    tools: Vec<ToolSpec>,
    /// What the server is to hold replies to.
    schema: Option<serde_json::Value>,
    tool_weight: u64,
    profile: Profile,
    /// What a run by whole files knows; `None`: the model acts by calls.
    whole_file: Option<WholeFile>,
    /// The series of questions that a run may begin with, while it lasts.
    repairing: Option<Repairing>,
    /// The changes of answers that are samples, and what came of them.
    answers: Answers,
    /// By path, as it was before the answers that stand; `None`: it was not there.
    before: BTreeMap<String, Option<Vec<u8>>>,
    history: History,
    spent: Spent,
    watch: Watch,
    state: State,
    pending: Pending,
    plan: Option<String>,
    /// The model called `plan`.
    has_planned: bool,
    /// It said that nothing is to be changed, and was told that the tests fail.
    was_told_of_red: bool,
    /// It said that it is done, and was told that no file differs.
    was_told_unchanged: bool,
    /// Replies in a row that held no file.
    unusable: u32,
    summary: Option<String>,
    written: BTreeSet<String>,
    /// Files that the model has read or written, or that were shown to it.
    seen: BTreeSet<String>,
    /// What was done last, in a few words.
    last_call: String,
    /// What the tests said last.
    feedback: Option<String>,
    /// Commands that did not end by themselves, and the state of the files that they met.
    endless: HashMap<String, u64>,
    since_finish: SinceFinish,
    answered_by: BTreeSet<String>,
    outputs: Outputs,
}

/// What happened since the last `finish` was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinceFinish {
    /// There was none, or an edit or a command that succeeded came after it.
    Work,
    /// Nothing that could change a file.
    Nothing,
    /// Nothing, and the model was told so.
    NothingAndTold,
}

/// A `finish` that has no answer yet.
#[derive(Debug, Default)]
enum Pending {
    #[default]
    Nothing,
    /// Its id, and the calls behind it in the same reply, which are not acted on.
    Native { id: String, rest: Vec<Call> },
    /// The answers to the calls before it in the same reply.
    Text { before: String },
}

impl<'a> Agent<'a> {
    /// Prepares a run: reads the prompts, looks at the tree, and writes the first two messages.
    pub fn new(
        model: &'a dyn Model,
        sandbox: &'a dyn Sandbox,
        files: &Files,
        brief: &Brief,
        budgets: Budgets,
        events: Events,
    ) -> Result<Self, AgentError> {
        let walk = files.walk(None, MOST_COMPARED_FILES)?;
        let protocol = brief.protocol.resolve(model.card());
        let window = model.card().window;
        let opening = opening::begin(files, &walk, brief, model, protocol, Beginning::Repair, window)?;
        let shown = opening.whole_file.iter().flat_map(WholeFile::shown_paths);
        let asked_for = opening.repairing.iter().flat_map(Repairing::paths).cloned();
        let state = State::new(files, &walk);
        let thoughts = thoughts(model, opening.profile);
        let answer_tokens = budgets.answer_tokens.saturating_add(thoughts);
        let watch = Watch::new(state.sum(), protocol.instead(model.card()).is_some());
        Ok(Self {
            model,
            sandbox,
            files: files.clone(),
            brief: brief.clone(),
            budgets: Budgets { answer_tokens, ..budgets },
            thoughts,
            seen: shown.chain(asked_for).collect(),
            history: History::begin(events.clone(), opening.most_observed, opening.messages),
            events,
            prompts: opening.prompts,
            task: clip(brief.instruction.trim(), MOST_REMINDER_BYTES),
            protocol,
            tools: opening.tools,
            schema: opening.schema,
            tool_weight: opening.tool_weight,
            profile: opening.profile,
            whole_file: opening.whole_file,
            repairing: opening.repairing,
            answers: Answers::default(),
            before: BTreeMap::new(),
            spent: Spent::default(),
            watch,
            state,
            pending: Pending::Nothing,
            plan: None,
            has_planned: false,
            was_told_of_red: false,
            was_told_unchanged: false,
            unusable: 0,
            summary: None,
            written: BTreeSet::new(),
            last_call: String::new(),
            feedback: None,
            endless: HashMap::new(),
            since_finish: SinceFinish::Work,
            answered_by: BTreeSet::new(),
            outputs: Outputs::default(),
        })
    }

    /// Runs until the model calls `finish`, or the run ends.
    pub async fn run(&mut self) -> Result<Pause, AgentError> {
        if !matches!(self.pending, Pending::Nothing) {
            self.observe("Not accepted yet: go on.".into());
        }
        loop {
            let reply = match self.query().await? {
                Ok(reply) => reply,
                Err(stop) => return Ok(Pause::Stopped(stop)),
            };
            if let Some(pause) = self.act(reply).await? {
                return Ok(pause);
            }
        }
    }

    /// Answers the `finish` that paused the run; without one, it is a message of its own.
    pub fn observe(&mut self, text: String) {
        let text = elide(&text, MOST_OBSERVATION_BYTES);
        match std::mem::take(&mut self.pending) {
            Pending::Nothing => self.history.push(Message::User { content: text }),
            Pending::Text { before } => {
                self.history.push(Message::User { content: format!("{before}Result of finish:\n{text}") });
            }
            Pending::Native { id, rest } => {
                self.history.push(Message::Tool { call_id: id, content: text });
                for call in rest {
                    let content = "Not executed: finish came before it.".into();
                    self.history.push(Message::Tool { call_id: call.id, content });
                }
            }
        }
    }

    /// Answers the `finish` that paused the run with what the tests said of it.
    pub fn reject(&mut self, feedback: &str) -> Result<(), AgentError> {
        self.feedback = Some(keep_tail(feedback.trim(), MOST_FEEDBACK_BYTES));
        self.answers.judge(feedback);
        if self.repairing.is_some() {
            return self.ask_next(feedback, Said::ByTests);
        }
        let text = match &mut self.whole_file {
            Some(whole_file) => {
                let feedback = whole_file.explain(feedback);
                match whole_file.next_way() {
                    Way::Anew => return self.begin_anew(&feedback),
                    Way::Repair => self.prompts.whole_rejected(&feedback, &self.task)?,
                }
            }
            None => self.prompts.rejected(feedback)?,
        };
        self.observe(text);
        Ok(())
    }

    /// Answers the `finish` that paused the run with why its files may not stay as they are.
    pub fn refuse(&mut self, reason: &str) -> Result<(), AgentError> {
        self.answers.judge(reason);
        match (&self.repairing, &self.whole_file) {
            (Some(_), _) => self.ask_next(reason, Said::ByTests),
            // There is no way to say that a file is to go.
            (None, Some(_)) => self.begin_anew(reason),
            (None, None) => {
                self.observe(reason.to_owned());
                Ok(())
            }
        }
    }

    /// Answers the `finish` that paused the run with that no file differs from the base: what was written was undone.
    /// `false`: the model was told so before.
    pub fn find_unchanged(&mut self) -> Result<bool, AgentError> {
        if std::mem::replace(&mut self.was_told_unchanged, true) {
            return Ok(false);
        }
        self.written.clear();
        self.since_finish = SinceFinish::Work;
        let text = match &self.whole_file {
            Some(_) => {
                self.prompts.whole_again("Nothing has changed: the files read as before the task.", &self.task)?
            }
            None => self.prompts.no_change()?,
        };
        self.observe(text);
        Ok(true)
    }

    /// Whether a rejected change is followed by another question of a bounded series, and not by more of the same.
    pub fn is_sampling(&self) -> bool {
        self.repairing.is_some()
    }

    /// Whether answers are samples, so that the same one is known again without the tests.
    pub fn knows_its_answers(&self) -> bool {
        self.repairing.is_some() || self.whole_file.is_some()
    }

    /// What is known so far.
    pub fn report(&self) -> Report {
        Report {
            plan: self.plan.clone(),
            summary: self.summary.clone(),
            steps: self.spent.steps,
            usage: self.spent.usage,
            models: self.answered_by.iter().cloned().collect(),
            written_paths: self.written.iter().cloned().collect(),
        }
    }
}

/// The tokens that a model thinks with before it answers, where it was seen to think.
fn thoughts(model: &dyn Model, profile: Profile) -> u32 {
    let thinks = model.card().abilities.unwrap_or_default().reasoning.is_yes();
    if thinks { profile.thoughts() } else { 0 }
}

impl std::fmt::Debug for Agent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Agent").field("steps", &self.spent.steps).finish_non_exhaustive()
    }
}
