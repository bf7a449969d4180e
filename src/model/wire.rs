//! What travels to and from a chat endpoint: types of our own, since local servers leave fields out.
//!
//! Every field of an answer is optional, roles and finish reasons are text, unknown fields are passed over. What
//! servers do differently, and what becomes of it:
//!
//! - `content` as a text or as a list of `{type: text, text}` parts: joined;
//! - `reasoning`, `reasoning_content`: kept apart from the answer;
//! - a call's `arguments` as a text (in pieces) or as an object (whole): text;
//! - a call without `index`: a new `id` or a name begins a new call, anything else continues the last one;
//! - one `index` for several calls with different ids: as many calls;
//! - a call without `id`: an id made of the request's length and the call's place, so that it is unique in a history;
//! - one JSON object instead of a stream: `message` is read where `delta` would be;
//! - usage in a chunk without choices, in the last one, or nowhere.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, Message, Reply, Request};
use crate::outcome::Usage;

/// The most calls that one answer may hold; more are dropped.
const MOST_CALLS: usize = 64;

/// Which field bounds the answer. Newer hosted models refuse `max_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputLimit {
    MaxTokens,
    MaxCompletionTokens,
}

#[derive(Debug, Serialize)]
pub(super) struct WireRequest<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum WireMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        content: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<WireCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: &'a str,
    },
}

#[derive(Debug, Serialize)]
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Debug, Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Debug, Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: WireToolFunction<'a>,
}

#[derive(Debug, Serialize)]
struct WireToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> WireRequest<'a> {
    pub(super) fn new(model: &'a str, request: &Request<'a>, limit: OutputLimit) -> Self {
        let (max_tokens, max_completion_tokens) = match limit {
            OutputLimit::MaxTokens => (Some(request.max_tokens), None),
            OutputLimit::MaxCompletionTokens => (None, Some(request.max_tokens)),
        };
        Self {
            model,
            messages: request.messages.iter().map(WireMessage::from).collect(),
            tools: request
                .tools
                .iter()
                .map(|tool| WireTool {
                    r#type: "function",
                    function: WireToolFunction {
                        name: tool.name,
                        description: &tool.description,
                        parameters: &tool.parameters,
                    },
                })
                .collect(),
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            max_tokens,
            max_completion_tokens,
            temperature: request.temperature,
        }
    }
}

impl<'a> From<&'a Message> for WireMessage<'a> {
    fn from(message: &'a Message) -> Self {
        match message {
            Message::System { content } => WireMessage::System { content },
            Message::User { content } => WireMessage::User { content },
            Message::Assistant { content, calls } => WireMessage::Assistant {
                content,
                tool_calls: calls
                    .iter()
                    .map(|call| WireCall {
                        id: &call.id,
                        r#type: "function",
                        function: WireFunction { name: &call.name, arguments: &call.arguments },
                    })
                    .collect(),
            },
            Message::Tool { call_id, content } => WireMessage::Tool { tool_call_id: call_id, content },
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    /// An error that came after the head of the answer was sent: an object or a text.
    pub(super) error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    delta: Option<Delta>,
    message: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<Value>,
    reasoning: Option<Value>,
    reasoning_content: Option<Value>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptTokens>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptTokens {
    cached_tokens: Option<u64>,
}

/// Puts an answer together from its pieces, within a bound of memory.
#[derive(Debug)]
pub(super) struct Assembly {
    content: String,
    reasoning: String,
    calls: Vec<PartialCall>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    id_prefix: String,
    bytes_left: usize,
}

#[derive(Debug, Default)]
struct PartialCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Assembly {
    /// `messages`: how long the history is, for ids that servers leave out. `most_bytes`: of all texts together.
    pub(super) fn new(messages: usize, most_bytes: usize) -> Self {
        Self {
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            finish_reason: None,
            usage: None,
            id_prefix: format!("call_{messages}"),
            bytes_left: most_bytes,
        }
    }

    /// Takes one chunk in. False: the bound is reached, read no further; the answer counts as cut by length.
    pub(super) fn take(&mut self, chunk: Chunk) -> bool {
        if let Some(usage) = chunk.usage {
            self.usage = Some(Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
                cached_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
            });
        }
        let Some(choice) = chunk.choices.into_iter().flatten().next() else { return true };
        if let Some(delta) = choice.delta.or(choice.message) {
            let content = delta.content.map(text_of).unwrap_or_default();
            let reasoning = delta.reasoning_content.or(delta.reasoning).map(text_of).unwrap_or_default();
            if !self.spend(content.len() + reasoning.len()) {
                return false;
            }
            self.content.push_str(&content);
            self.reasoning.push_str(&reasoning);
            for call in delta.tool_calls.into_iter().flatten() {
                if !self.take_call(call) {
                    return false;
                }
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish_reason = Some(reason);
        }
        true
    }

    /// The server said that the answer ends here; only usage can follow.
    pub(super) fn is_complete(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The whole answer, or `None` if the server never said that it ended.
    pub(super) fn finish(self) -> Option<Reply> {
        let finish_reason = self.finish_reason?;
        let calls = self
            .calls
            .into_iter()
            .enumerate()
            .filter(|(_, call)| !call.name.is_empty())
            .map(|(place, call)| Call {
                id: if call.id.is_empty() { format!("{}_{place}", self.id_prefix) } else { call.id },
                name: call.name,
                arguments: if call.arguments.trim().is_empty() { "{}".into() } else { call.arguments },
            })
            .collect();
        Some(Reply { content: self.content, reasoning: self.reasoning, calls, finish_reason, usage: self.usage })
    }

    /// How much text has come, for the error of a cut stream.
    pub(super) fn received_bytes(&self) -> usize {
        let of_calls: usize = self.calls.iter().map(|call| call.arguments.len()).sum();
        self.content.len() + self.reasoning.len() + of_calls
    }

    fn spend(&mut self, bytes: usize) -> bool {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                true
            }
            None => {
                self.bytes_left = 0;
                self.finish_reason = Some("length".into());
                false
            }
        }
    }

    fn take_call(&mut self, delta: CallDelta) -> bool {
        let function = delta.function.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let id = delta.id.unwrap_or_default();
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        if !self.spend(name.len() + id.len() + arguments.len()) {
            return false;
        }
        let place = match delta.index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index)),
            None => self.calls.len().checked_sub(1),
        };
        let continues = place.and_then(|place| self.calls.get(place)).is_some_and(|call| {
            let other_id = !id.is_empty() && !call.id.is_empty() && call.id != id;
            let begins_anew = delta.index.is_none() && !name.is_empty() && (id.is_empty() || call.id != id);
            !other_id && !begins_anew
        });
        let place = match place {
            Some(place) if continues => place,
            Some(_) | None => {
                if self.calls.len() >= MOST_CALLS {
                    return true;
                }
                self.calls.push(PartialCall { index: delta.index, ..PartialCall::default() });
                self.calls.len() - 1
            }
        };
        if let Some(call) = self.calls.get_mut(place) {
            if call.id.is_empty() {
                call.id = id;
            }
            if call.name.is_empty() {
                call.name = name;
            }
            call.arguments.push_str(&arguments);
        }
        true
    }
}

/// The text of a `content`: a text, or the texts of a list of parts; anything else is none.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}
