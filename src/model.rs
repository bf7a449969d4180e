//! The language model behind one method. Messages are ours; `openai` puts them on the wire.

mod card;
mod discover;
mod exchange;
mod fallback;
mod habits;
mod link;
pub mod openai;
pub mod probe;
mod provider;
pub mod record;
mod refusal;
pub mod replay;
mod wire;

pub use card::{Abilities, Ability, ModelCard};
pub use discover::{Candidate, ModelInfo, first_local, local_candidates};
pub use fallback::Endpoints;
pub use probe::ProbeMode;
pub use provider::Provider;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::outcome::Usage;

/// The finish reason of an answer that [`Request::enough`] ended.
pub const ENOUGH: &str = "enough";

/// A chat model with tool calls.
#[async_trait]
pub trait Model: Send + Sync {
    /// What is known of it.
    fn card(&self) -> &ModelCard;

    /// Sends the whole conversation and reads the whole answer.
    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError>;
}

/// One request: the whole history, since chat endpoints keep none.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub messages: &'a [Message],
    pub tools: &'a [ToolSpec],
    /// The answer's bound; output is never unbounded.
    pub max_tokens: u32,
    pub temperature: Option<f32>,
    /// The same seed and request may give the same answer again, where the server takes one.
    pub seed: Option<u64>,
    /// Which of several attempts at a task asks, from 1: for records, and never sent.
    pub attempt: Option<u32>,
    /// A JSON schema that the content is to fit. A server may ignore it: read the content as if there were none.
    pub schema: Option<&'a serde_json::Value>,
    /// Asked with the content so far, each time some has come. `true` closes the connection at once, so that a server
    /// with one slot is free for the next request; the content up to there is the answer, and its reason [`ENOUGH`].
    pub enough: Option<&'a (dyn Fn(&str) -> bool + Send + Sync)>,
}

impl<'a> Request<'a> {
    /// A request without tools, at the server's temperature.
    pub fn new(messages: &'a [Message], max_tokens: u32) -> Self {
        let (temperature, seed, attempt) = (None, None, None);
        Self { messages, tools: &[], max_tokens, temperature, seed, attempt, schema: None, enough: None }
    }
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { messages, tools, max_tokens, temperature, seed, attempt, schema, enough } = self;
        formatter
            .debug_struct("Request")
            .field("messages", &messages.len())
            .field("tools", &tools.len())
            .field("max_tokens", max_tokens)
            .field("temperature", temperature)
            .field("seed", seed)
            .field("attempt", attempt)
            .field("schema", schema)
            .field("enough", &enough.is_some())
            .finish()
    }
}

/// One entry of the history, in the shape that chat endpoints take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    System {
        content: String,
    },
    User {
        content: String,
    },
    Assistant {
        content: String,
        calls: Vec<Call>,
    },
    /// The answer to the call with this id.
    Tool {
        call_id: String,
        content: String,
    },
}

/// A tool call, as the model wrote it: `arguments` is not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolSpec {
    pub name: &'static str,
    pub description: String,
    /// JSON schema of the arguments.
    pub parameters: serde_json::Value,
}

/// The model's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub content: String,
    /// Thinking that the server delivered apart from the answer.
    pub reasoning: String,
    pub calls: Vec<Call>,
    /// `stop`, `tool_calls`, `length`, ...: as the server says; or [`ENOUGH`].
    pub finish_reason: String,
    pub usage: Option<Usage>,
    /// Who answered, if it is not the model of the card: a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Why there is no answer. The texts hold no key, whatever the server printed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ModelError {
    #[error("no model answers at {endpoint}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("the model server refused the key (HTTP {status})")]
    Unauthorized { status: u16 },
    #[error("the model server does not know the model `{model}`{known}")]
    UnknownModel { model: String, known: String },
    #[error("the prompt does not fit the model's context window: {0}")]
    ContextOverflow(String),
    #[error("the model server answered with an error{}: {message}", status.map(|status| format!(" (HTTP {status})")).unwrap_or_default())]
    Server { status: Option<u16>, message: String },
    #[error("the model's answer was cut off: {0}")]
    Cut(String),
    #[error("the model was silent for {seconds} s")]
    Silent { seconds: u64 },
    /// Of a run that is run again.
    #[error("the record holds no answer to request {request}")]
    NotRecorded { request: u32 },
}

impl ModelError {
    /// Whether the model may answer later, or another one may answer instead.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut(_) | Self::Silent { .. } => true,
            // Without a status the error came in the middle of an answer: the server was overloaded, or fell.
            Self::Server { status, .. } => status.is_none_or(|status| matches!(status, 408 | 429 | 500..=599)),
            Self::Unauthorized { .. }
            | Self::UnknownModel { .. }
            | Self::ContextOverflow(_)
            | Self::NotRecorded { .. } => false,
        }
    }

    /// What the user can do about it, as one sentence.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Start the model server, or give its address with --endpoint",
            Self::Unauthorized { .. } => "Check LLM_API_KEY",
            Self::UnknownModel { .. } => "Give one of its models with --model",
            Self::ContextOverflow(_) => "Give the model a larger context window, or a smaller task",
            Self::Server { .. } => "Look into the model server's log, then run the task again",
            Self::Cut(_) => "Check the model server and the proxies before it, then run the task again",
            Self::Silent { .. } => "Check the model server's load, or raise model.silence_seconds in the config",
            Self::NotRecorded { .. } => "The run went another way than the recorded one; see where it differs",
        }
    }
}
