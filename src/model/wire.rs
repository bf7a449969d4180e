//! What travels to and from a chat endpoint: types of our own, since local servers leave fields out.
//!
//! Every field of an answer is optional and counts as absent where its type is another; roles and finish reasons are
//! text, unknown fields are passed over. What servers do differently, and what becomes of it:
//!
//! - `content` as a text or as a list of `{type: text, text}` parts: joined;
//! - `reasoning`, `reasoning_content`: kept apart from the answer;
//! - a call's `arguments` as a text (in pieces) or as an object (whole): text;
//! - a call without `index`: a new `id` or a name begins a new call, anything else continues the last one;
//! - one `index` for several calls with different ids: as many calls;
//! - a call without an `id` of its own: one made of the request's length and the call's place, so that it is unique in a history;
//! - one JSON object instead of a stream: `message` is read where `delta` would be;
//! - usage in a chunk without choices, in each, in the last one, or nowhere ([`usage`]).

mod usage;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use self::usage::{Timings, Told, WireUsage};
use super::{Call, ENOUGH, Message, Reply, Request};
use crate::outcome::Usage;

/// The most calls that one answer may hold; more are dropped.
const MOST_CALLS: usize = 64;

/// What a request holds besides the conversation, where not every server takes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Newer hosted models refuse `max_tokens`.
    pub(super) newer_limit: bool,
    pub(super) temperature: bool,
    pub(super) seed: bool,
    pub(super) schema: bool,
    pub(super) stream_usage: bool,
}

#[derive(Debug, Serialize)]
struct WireRequest<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
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

/// The body of a request; `more` are fields of the provider and of the operator, which win.
pub(super) fn body(model: &str, request: &Request<'_>, shape: Shape, more: &[&Map<String, Value>]) -> Value {
    let tools = request.tools.iter().map(|tool| WireTool {
        r#type: "function",
        function: WireToolFunction { name: tool.name, description: &tool.description, parameters: &tool.parameters },
    });
    let format = |schema: &Value| json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": schema } });
    let wire = WireRequest {
        model,
        messages: request.messages.iter().map(WireMessage::from).collect(),
        tools: tools.collect(),
        stream: true,
        stream_options: shape.stream_usage.then_some(StreamOptions { include_usage: true }),
        max_tokens: (!shape.newer_limit).then_some(request.max_tokens),
        max_completion_tokens: shape.newer_limit.then_some(request.max_tokens),
        temperature: request.temperature.filter(|_| shape.temperature),
        seed: request.seed.filter(|_| shape.seed),
        response_format: request.schema.filter(|_| shape.schema).map(format),
    };
    // Texts and numbers always serialise.
    let mut body = serde_json::to_value(wire).unwrap_or_default();
    for (name, value) in more.iter().flat_map(|fields| fields.iter()) {
        match (body.get_mut(name), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => ours.extend(theirs.clone()),
            (_, value) => body[name] = value.clone(),
        }
    }
    body
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
    #[serde(deserialize_with = "lenient")]
    choices: Option<Vec<Choice>>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<WireUsage>,
    #[serde(deserialize_with = "lenient")]
    timings: Option<Timings>,
    /// An error that came after the head of the answer was sent: an object or a text.
    pub(super) error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    #[serde(deserialize_with = "lenient")]
    delta: Option<Delta>,
    #[serde(deserialize_with = "lenient")]
    message: Option<Delta>,
    #[serde(deserialize_with = "lenient")]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<Value>,
    reasoning: Option<Value>,
    reasoning_content: Option<Value>,
    #[serde(deserialize_with = "lenient")]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CallDelta {
    #[serde(deserialize_with = "lenient")]
    index: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FunctionDelta {
    #[serde(deserialize_with = "lenient")]
    name: Option<String>,
    arguments: Option<Value>,
}

/// A value of another type than ours counts as absent.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// Puts an answer together from its pieces, within a bound of memory.
#[derive(Debug)]
pub(super) struct Assembly {
    content: String,
    reasoning: String,
    calls: Vec<PartialCall>,
    finish_reason: Option<String>,
    told: Told,
    id_prefix: String,
    bytes_left: usize,
    /// Pieces with text in them: most servers send one for each token.
    pieces: u64,
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
            told: Told::default(),
            id_prefix: format!("call_{messages}"),
            bytes_left: most_bytes,
            pieces: 0,
        }
    }

    /// Takes one chunk in. False: the bound is reached, read no further; the answer counts as cut by length.
    pub(super) fn take(&mut self, chunk: Chunk) -> bool {
        self.told.take(chunk.usage, chunk.timings);
        let Some(choice) = chunk.choices.into_iter().flatten().next() else { return true };
        if let Some(delta) = choice.delta.or(choice.message) {
            let content = delta.content.map(text_of).unwrap_or_default();
            let reasoning = delta.reasoning_content.or(delta.reasoning).map(text_of).unwrap_or_default();
            if !self.spend(content.len() + reasoning.len()) {
                return false;
            }
            self.pieces += u64::from(!content.is_empty() || !reasoning.is_empty());
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

    pub(super) fn content(&self) -> &str {
        &self.content
    }

    /// The content suffices: the answer ends here, whatever the server would have said. What it did not tell of tokens
    /// is estimated, with a prompt of `prompt_bytes`.
    pub(super) fn finish_early(self, prompt_bytes: usize) -> Reply {
        let estimate = |bytes: usize| (bytes as u64).saturating_mul(2).div_ceil(7);
        let text_bytes = self.content.len() + self.reasoning.len();
        // Pieces of more than a few letters are no tokens.
        let are_tokens = (text_bytes as u64) < self.pieces.saturating_mul(8);
        let told = self.told.usage();
        let usage = told.filter(|usage| usage.completion_tokens.is_some()).unwrap_or_else(|| Usage {
            prompt_tokens: told.and_then(|usage| usage.prompt_tokens).or(Some(estimate(prompt_bytes))),
            completion_tokens: Some(if are_tokens { self.pieces } else { estimate(text_bytes) }),
            cached_tokens: told.and_then(|usage| usage.cached_tokens),
            micros: None,
            estimated: true,
        });
        Reply {
            content: self.content,
            reasoning: self.reasoning,
            finish_reason: ENOUGH.into(),
            usage: Some(usage),
            ..Reply::default()
        }
    }

    /// The server said that the answer ends here; only usage can follow.
    pub(super) fn is_complete(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The whole answer, or `None` if the server never said that it ended.
    pub(super) fn finish(self) -> Option<Reply> {
        let finish_reason = self.finish_reason?;
        let mut calls: Vec<Call> = Vec::new();
        for (place, call) in self.calls.into_iter().enumerate().filter(|(_, call)| !call.name.is_empty()) {
            let is_taken = calls.iter().any(|earlier| earlier.id == call.id);
            let own = || format!("{}_{place}", self.id_prefix);
            calls.push(Call {
                id: if call.id.is_empty() || is_taken { own() } else { call.id },
                name: call.name,
                arguments: if call.arguments.trim().is_empty() { "{}".into() } else { call.arguments },
            });
        }
        let usage = self.told.usage();
        Some(Reply { content: self.content, reasoning: self.reasoning, calls, finish_reason, usage, model: None })
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
