//! What happens while a task is worked, as one closed stream: progress lines and `--record` are views of it.

use std::sync::Arc;

use serde::Serialize;

use crate::outcome::{SetupStep, Stage, TestRun, Usage};

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
    Message { message: serde_json::Value },
    /// The model answered a request.
    Reply { step: u32, reply: serde_json::Value, usage: Option<Usage>, milliseconds: u64 },
    /// The agent acts on a call of the model.
    Call { step: u32, tool: String, arguments: serde_json::Value },
    /// What the call answered, as the model will read it.
    CallResult { step: u32, tool: String, ok: bool, result: String, milliseconds: u64 },
    /// One command of the setup ran.
    SetupStep { step: SetupStep },
    /// The tests ran: on the base (`baseline`) or on a candidate.
    Tests { baseline: bool, run: TestRun },
}

/// Where events go. Cheap to clone; a sink must not block.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(&Event) + Send + Sync>);

impl Events {
    /// Sends each event to `sink`.
    pub fn new(sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells the sink of `event`.
    pub fn emit(&self, event: Event) {
        (self.0)(&event);
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
