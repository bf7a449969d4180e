//! What happens while a task is worked, as one closed stream: progress lines and `--record` are views of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::{Conclusion, SetupStep, Stage, StopReason, TestCommand, TestRun, Usage, Verdict};
use crate::task::Task;

/// Of the lines [`Event::Begun`], [`Event::Exchange`] and [`Event::Ended`]: grows when a reader must know.
pub const RECORD_FORMAT: u32 = 1;

/// One thing that happened. Serialised, it is one line of a `--record` file.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage began.
    StageStarted { stage: Stage },
    /// A stage is done; its wall time in milliseconds.
    StageDone { stage: Stage, milliseconds: u64 },
    /// Something the user should know, in one line.
    Note { text: String },
    /// A message that went into the history, as it was sent to the model.
    Message { message: Value },
    /// The model answered a request.
    Reply { step: u32, reply: Value, usage: Option<Usage>, milliseconds: u64 },
    /// The agent acts on a call of the model.
    Call { step: u32, tool: String, arguments: Value },
    /// What the call answered, as the model will read it.
    CallResult { step: u32, tool: String, ok: bool, result: String, milliseconds: u64 },
    /// One command of the setup ran.
    SetupStep { step: SetupStep },
    /// The tests ran: on the base (`baseline`) or on a candidate.
    Tests { baseline: bool, run: TestRun },
    /// The task's base is checked out: what is needed to run it again.
    Begun(Box<Begun>),
    /// A request to the model and what came of it; only where it is recorded.
    Exchange(Box<Exchange>),
    /// What became of the task.
    Ended(Box<Ended>),
}

impl Event {
    /// Only a record has a use for it.
    pub fn is_for_records(&self) -> bool {
        match self {
            Event::Begun(_) | Event::Exchange(_) | Event::Ended(_) => true,
            Event::StageStarted { .. }
            | Event::StageDone { .. }
            | Event::Note { .. }
            | Event::Message { .. }
            | Event::Reply { .. }
            | Event::Call { .. }
            | Event::CallResult { .. }
            | Event::SetupStep { .. }
            | Event::Tests { .. } => false,
        }
    }
}

/// What a run began with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// Our version.
    pub patchwright: String,
    pub task: Task,
    /// A folder, or an address without credentials.
    pub repository: String,
    /// `None`: the repository is empty.
    pub base_commit: Option<String>,
    /// The operator's, or as detected.
    pub test_command: Option<TestCommand>,
    /// The model's card; `None`: no model is needed.
    pub model: Option<Value>,
    /// What shapes the loop: protocol, budgets, temperature.
    pub settings: Value,
}

/// One request to the model, without what an earlier one has said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// From 1, in the order of the requests.
    pub number: u32,
    /// Of messages, tools and settings together, in hexadecimal digits.
    pub hash: String,
    /// The request whose first `kept` messages stand before `messages`.
    pub after: Option<u32>,
    pub kept: usize,
    pub messages: Vec<Value>,
    /// The names of the tools.
    pub tools: Vec<String>,
    pub max_tokens: u32,
    pub temperature: Option<f32>,
    pub seed: Option<u64>,
    pub schema: Option<Value>,
    /// The answer, or `error`.
    pub reply: Option<Value>,
    pub error: Option<Value>,
    pub milliseconds: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    #[serde(flatten)]
    pub conclusion: Conclusion,
    pub stop: Option<StopReason>,
    #[serde(rename = "tests")]
    pub verdict: Option<Verdict>,
    /// What was tested.
    pub tree: Option<String>,
    /// Of several attempts, the one that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    pub steps: u32,
    pub usage: Usage,
    pub milliseconds: u64,
}

/// Where events go. Cheap to clone; a sink must not block.
#[derive(Clone)]
pub struct Events {
    sink: Arc<Sink>,
    /// Which of several attempts at the task speaks, from 1.
    attempt: Option<u32>,
}

type Sink = dyn Fn(&Event, Option<u32>) + Send + Sync;

impl Events {
    /// Sends each event to `sink`.
    pub fn new(sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self::with_attempts(move |event, _| sink(event))
    }

    /// Sends each event to `sink`, with the number of the attempt that it is of; `None`: there is one attempt, or it is
    /// of the task itself.
    pub fn with_attempts(sink: impl Fn(&Event, Option<u32>) + Send + Sync + 'static) -> Self {
        Self { sink: Arc::new(sink), attempt: None }
    }

    /// The same sink, for one of several attempts.
    pub fn of_attempt(&self, attempt: Option<u32>) -> Self {
        Self { sink: Arc::clone(&self.sink), attempt }
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells the sink of `event`.
    pub fn emit(&self, event: Event) {
        (self.sink)(&event, self.attempt);
    }

    /// Tells the user one line.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(Event::Note { text: text.into() });
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Events")
    }
}
