//! The loop: query the model, act on its reply, append.
//!
//! One step is one request. Its reply holds calls in the server's form, or one call as text ([`protocol`]), or nothing
//! usable. Where the protocol is whole files ([`Protocol`]), it holds those instead, and files that change anything are
//! a `finish`. Every call is answered, in order, and everything said goes to the end of one history that is sent whole.
//! `finish` pauses the loop: whoever runs the tests answers it by [`Agent::observe`] and runs on, or ends.
//!
//! A run ends by itself when a budget runs out, when the model repeats itself although it was told, when three replies
//! in a row are unusable, or when the context window is full.

mod act;
mod budget;
mod context;
pub mod edit;
mod failing;
pub mod grammar;
mod history;
mod instructions;
mod interest;
mod map;
mod opening;
pub mod profile;
mod prompt;
pub mod protocol;
mod purse;
mod query;
pub mod repair;
mod shown;
mod stuck;
mod text;
pub mod tokens;
pub mod tools;
mod whole_file;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use budget::Budgets;
pub use profile::{Profile, ProfileChoice};
pub use protocol::{Protocol, ProtocolChoice};
pub use purse::Purse;

use crate::event::Events;
use crate::model::{Call, Message, Model, ModelError, Reply, ToolSpec};
use crate::outcome::{StopReason, TestCommand, TestRun, Usage};
use crate::sandbox::{Sandbox, SandboxError};
use crate::workspace::{BaseFiles, FileError, Files};
use act::{Acted, Wanted, fingerprint};
use budget::Spent;
use history::History;
use prompt::Prompts;
use protocol::{Said, read_text, without_thinking};
use stuck::Circles;
use text::{clip, elide};
use tools::{FinishArguments, Tool};
use whole_file::{Way, WholeFile};

/// How many replies in a row may hold nothing that can be acted on.
const MOST_UNUSABLE: u32 = 3;
/// How often a first call other than `plan` is sent back.
const MOST_PLAN_REFUSALS: u32 = 2;
/// Prose beside a first call that is at least this long counts as the plan.
const SHORTEST_PLAN_BYTES: usize = 40;
const MOST_PLAN_BYTES: usize = 4_000;
/// How much of the instruction a reminder repeats.
const MOST_REMINDER_BYTES: usize = 300;
const MOST_SUMMARY_BYTES: usize = 8_000;
/// The longest answer to `finish` that the model reads.
const MOST_OBSERVATION_BYTES: usize = 12_000;
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
    /// The model says that it is done. It may still have changed nothing: it was told so once. `no_change_needed` only
    /// if it says so and no file differs.
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
    budgets: Budgets,
    events: Events,
    prompts: Prompts,
    /// The beginning of the instruction, for reminders.
    task: String,
    tools: Vec<ToolSpec>,
    tool_weight: u64,
    profile: Profile,
    /// What a run by whole files knows; `None`: the model calls tools.
    whole_file: Option<WholeFile>,
    history: History,
    spent: Spent,
    circles: Circles,
    pending: Pending,
    plan: Option<String>,
    plan_refusals: u32,
    unusable: u32,
    summary: Option<String>,
    written: BTreeSet<String>,
    /// Files that the model has read or written, or that were shown to it.
    seen: BTreeSet<String>,
    fingerprint: u64,
    told_of_no_change: bool,
    since_finish: SinceFinish,
    answered_by: BTreeSet<String>,
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
    Native {
        id: String,
        rest: Vec<Call>,
    },
    Text,
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
        let opening = opening::begin(files, &walk, brief, model)?;
        let mut history = History::new(events.clone(), opening.most_observed);
        opening.messages.into_iter().for_each(|message| history.push(message));
        let whole_file = opening.whole_file;
        let seen = whole_file.as_ref().map(WholeFile::shown_paths).unwrap_or_default();
        Ok(Self {
            model,
            sandbox,
            files: files.clone(),
            budgets,
            events,
            prompts: opening.prompts,
            task: clip(brief.instruction.trim(), MOST_REMINDER_BYTES),
            tools: opening.tools,
            tool_weight: opening.tool_weight,
            profile: opening.profile,
            whole_file,
            history,
            spent: Spent::default(),
            circles: Circles::default(),
            pending: Pending::Nothing,
            plan: None,
            plan_refusals: 0,
            unusable: 0,
            summary: None,
            written: BTreeSet::new(),
            seen,
            fingerprint: fingerprint(&walk),
            told_of_no_change: false,
            since_finish: SinceFinish::Work,
            answered_by: BTreeSet::new(),
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
            Pending::Text => self.history.push(Message::User { content: format!("Result of finish:\n{text}") }),
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
        let text = match &mut self.whole_file {
            Some(whole_file) if whole_file.repairing.is_some() => return self.begin_anew(feedback),
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
        match &self.whole_file {
            // There is no way to say that a file is to go.
            Some(_) => self.begin_anew(reason),
            None => {
                self.observe(reason.to_owned());
                Ok(())
            }
        }
    }

    /// Whether a rejected change is followed by another question of a bounded series, and not by more of the same.
    pub fn is_sampling(&self) -> bool {
        self.whole_file.as_ref().is_some_and(|whole_file| whole_file.repairing.is_some())
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

    /// Acts on a reply and appends it with the answers.
    async fn act(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        if self.whole_file.is_some() {
            return self.act_on_whole_files(reply).await;
        }
        if !reply.calls.is_empty() {
            let prose = without_thinking(&reply.content).to_owned();
            self.history.push_reply(reply.content, &reply.calls);
            return self.act_on_native(&prose, reply.calls).await;
        }
        let said = read_text(&reply.content);
        let was_cut = reply.finish_reason == "length";
        // Servers refuse a message without any text.
        let content = if reply.content.trim().is_empty() { "(no answer)".into() } else { reply.content };
        self.history.push_reply(content, &[]);
        match said {
            Said::Call(call) => {
                let wanted = Wanted { name: call.name, arguments: Ok(call.arguments), repaired: call.repaired };
                self.act_on_text(&call.prose, wanted).await
            }
            Said::Broken { .. } | Said::Nothing if was_cut => {
                let most = self.budgets.answer_tokens;
                self.unusable(format!(
                    "The reply was cut off at the limit of {most} tokens. Say less: one short tool call."
                ))
            }
            Said::Broken { reason } => self.unusable(format!("Nothing was done: {reason}.")),
            Said::Nothing => {
                let nudge = self.prompts.no_call(&tools::names())?;
                self.unusable(nudge)
            }
        }
    }

    async fn act_on_native(&mut self, prose: &str, calls: Vec<Call>) -> Result<Option<Pause>, AgentError> {
        let refusal = self.refuse_without_plan(prose, calls.first().map(|call| call.name.as_str()))?;
        let mut any_fits = false;
        let mut stop = None;
        let mut calls = calls.into_iter();
        while let Some(call) = calls.next() {
            let wanted = Wanted { arguments: tools::read_arguments(&call.arguments), name: call.name, repaired: false };
            let (acted, fits, stuck) = self.one_call(&wanted, refusal.as_deref()).await?;
            any_fits |= fits;
            stop = stop.or(stuck);
            match acted {
                Acted::Answered(answer) => {
                    self.history.push(Message::Tool { call_id: call.id, content: answer.text });
                }
                Acted::Finished(arguments) => {
                    self.pending = Pending::Native { id: call.id, rest: calls.collect() };
                    return Ok(Some(self.finish(arguments)));
                }
            }
        }
        Ok(stop.or_else(|| self.count_unusable(any_fits)).map(Pause::Stopped))
    }

    async fn act_on_text(&mut self, prose: &str, wanted: Wanted) -> Result<Option<Pause>, AgentError> {
        let refusal = self.refuse_without_plan(prose, Some(&wanted.name))?;
        let (acted, fits, stop) = self.one_call(&wanted, refusal.as_deref()).await?;
        match acted {
            Acted::Answered(answer) => {
                let name = clip(&wanted.name, 60);
                self.history.push(Message::User { content: format!("Result of {name}:\n{}", answer.text) });
                Ok(stop.or_else(|| self.count_unusable(fits)).map(Pause::Stopped))
            }
            Acted::Finished(arguments) => {
                self.pending = Pending::Text;
                Ok(Some(self.finish(arguments)))
            }
        }
    }

    fn finish(&mut self, arguments: FinishArguments) -> Pause {
        self.unusable = 0;
        self.since_finish = SinceFinish::Nothing;
        let summary = clip(arguments.summary.trim(), MOST_SUMMARY_BYTES);
        self.summary = Some(summary.clone());
        Pause::Finish { summary, no_change_needed: arguments.no_change_needed.unwrap_or(false) }
    }

    /// A reply that cannot be acted on at all: says why, and ends the run after three of them.
    fn unusable(&mut self, nudge: String) -> Result<Option<Pause>, AgentError> {
        self.history.push(Message::User { content: nudge });
        Ok(self.count_unusable(false).map(Pause::Stopped))
    }

    fn count_unusable(&mut self, fits: bool) -> Option<StopReason> {
        self.unusable = if fits { 0 } else { self.unusable + 1 };
        (self.unusable >= MOST_UNUSABLE).then(|| StopReason::Stuck {
            reason: format!("{MOST_UNUSABLE} replies in a row held no tool call that could be acted on"),
        })
    }

    /// The answer to calls that come before any plan. After two of them, or with prose that can stand for one, the run
    /// goes on without: small models must not be stuck on it.
    fn refuse_without_plan(&mut self, prose: &str, first_call: Option<&str>) -> Result<Option<String>, AgentError> {
        if self.plan.is_some() || first_call == Some(Tool::Plan.name()) {
            return Ok(None);
        }
        if prose.len() >= SHORTEST_PLAN_BYTES {
            self.plan = Some(clip(prose, MOST_PLAN_BYTES));
            return Ok(None);
        }
        if self.plan_refusals >= MOST_PLAN_REFUSALS {
            return Ok(None);
        }
        self.plan_refusals += 1;
        self.prompts.plan_first().map(Some)
    }
}

impl std::fmt::Debug for Agent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Agent").field("steps", &self.spent.steps).finish_non_exhaustive()
    }
}
