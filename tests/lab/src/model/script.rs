//! What the scripted model says: one JSON object for each reply. The format is told in the lab's README.

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::shape::{self, Shape};

/// What a model server plays.
#[derive(Debug, Clone)]
pub struct Script {
    /// The one model that it knows.
    pub model: String,
    /// The key that it asks for, if any.
    pub key: Option<String>,
    /// What it tells of its context window.
    pub context_window: Option<u64>,
    /// What probes find.
    pub probed: super::Probed,
    pub replies: Vec<Reply>,
}

/// One answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    #[serde(default)]
    pub content: String,
    #[serde(default)]
    pub reasoning: String,
    #[serde(default)]
    pub calls: Vec<Call>,
    /// The calls come as text of this shape behind the content, not in the server's own form.
    pub shape: Option<Shape>,
    /// What comes behind such calls.
    #[serde(default)]
    pub after: String,
    /// The pieces of the stream as they go over the wire, each the `delta` of a choice; instead of texts and calls.
    pub deltas: Option<Vec<Value>>,
    /// `tool_calls` if there are calls, else `stop`.
    pub finish_reason: Option<String>,
    /// As it goes over the wire; counted roughly from the texts if absent.
    pub usage: Option<Value>,
    #[serde(default)]
    pub quirks: Vec<Quirk>,
    /// Instead of an answer.
    pub error: Option<Failure>,
    /// In the middle of the stream.
    pub stream_error: Option<Value>,
    /// Between two pieces of the stream, in milliseconds.
    #[serde(default)]
    pub delay: u64,
    /// How often it is given, one time after the other.
    #[serde(default = "once")]
    pub times: u32,
    /// That it is never asked for is no violation.
    #[serde(default)]
    pub optional: bool,
    /// Only for conversations whose first user message holds this text: several tasks at once.
    pub task: Option<String>,
    /// The history may start anew with the request for this reply.
    #[serde(default)]
    pub new_conversation: bool,
    #[serde(default)]
    pub expect: Expect,
}

/// A tool call in a reply.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub name: String,
    /// An object, or a text that goes over the wire as it is.
    #[serde(default)]
    pub arguments: Value,
    /// `call_N_M` if absent.
    pub id: Option<String>,
}

/// An HTTP error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub status: u16,
    pub message: String,
    /// The status as an integer if absent.
    pub code: Option<Value>,
    /// In seconds.
    pub retry_after: Option<u64>,
}

/// A bad habit of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// A tool call comes in one piece.
    WholeCalls,
    /// Tool calls have no `index`.
    NoIndex,
    /// Tool calls have no `id`.
    NoId,
    /// `role: ""` in each piece.
    EmptyRole,
    /// Thinking is called `reasoning`, not `reasoning_content`.
    ReasoningField,
    /// The stream ends without `finish_reason` and without `[DONE]`, as if cut by a proxy.
    NoFinishReason,
    /// `finish_reason` comes, `[DONE]` does not.
    NoDone,
    /// No usage, even where it was asked for.
    NoUsage,
    /// The connection ends before an answer.
    Hangup,
    /// The connection breaks in the middle of the stream.
    Cut,
    /// The stream falls silent in its middle, for ever.
    Stall,
    /// Comment lines between the pieces, and CRLF line ends.
    Comments,
    /// The thoughts come once more, at the beginning of the content.
    ReasoningTwice,
    /// `content` is null in each piece that has none.
    NullContent,
    /// A call's arguments are an object, not a text.
    ObjectArguments,
    /// A call's arguments are a text within a text.
    DoubleArguments,
}

/// What must hold for the request that a reply answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The last message holds each of these.
    #[serde(default)]
    pub last: Vec<String>,
    /// A tool message after the last assistant message holds each of these.
    #[serde(default)]
    pub tool: Vec<String>,
    /// Some message holds each of these.
    #[serde(default)]
    pub anywhere: Vec<String>,
    /// No message holds any of these.
    #[serde(default)]
    pub nowhere: Vec<String>,
}

fn once() -> u32 {
    1
}

impl Script {
    pub fn new(replies: Vec<Reply>) -> Self {
        Self { model: "scripted-7b".into(), key: None, context_window: None, probed: super::Probed::default(), replies }
    }

    /// Parses JSON lines; blank lines and lines that start with `//` are skipped.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with("//"));
        let replies = lines.map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("line {} of the replies", number + 1))
        });
        Ok(Self::new(replies.collect::<anyhow::Result<_>>()?))
    }
}

impl Reply {
    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// With the calls in the content, where they come as text.
    pub(super) fn written(mut self) -> Self {
        if let Some(shape) = self.shape {
            let calls = shape::write(shape, &std::mem::take(&mut self.calls));
            self.content = format!("{}{calls}{}", self.content, self.after);
        }
        if self.has(Quirk::ReasoningTwice) {
            self.content = format!("{}\n\n{}", self.reasoning, self.content);
        }
        self
    }

    /// Gives each call without an id its own: `call_N_M`, the Mth call of the Nth reply that was given.
    pub(super) fn numbered(mut self, number: u32) -> Self {
        for (index, call) in self.calls.iter_mut().enumerate() {
            call.id.get_or_insert_with(|| format!("call_{number}_{}", index + 1));
        }
        self
    }

    pub(super) fn finish_reason(&self) -> &str {
        let default = if self.calls.is_empty() { "stop" } else { "tool_calls" };
        self.finish_reason.as_deref().unwrap_or(default)
    }
}

impl Call {
    /// The arguments as the text that goes over the wire.
    pub(super) fn arguments(&self) -> String {
        match &self.arguments {
            Value::String(raw) => raw.clone(),
            Value::Null => "{}".into(),
            object => object.to_string(),
        }
    }
}

impl Expect {
    /// What is missing, in words.
    pub(super) fn check(&self, messages: &[Value]) -> Vec<String> {
        let texts: Vec<String> = messages.iter().map(text_of).collect();
        let answered = messages.iter().rposition(|message| message["role"] == "assistant").map_or(0, |index| index + 1);
        let is_tool = |(message, _): &(&Value, &String)| message["role"] == "tool";
        let tools: Vec<&String> =
            messages.iter().zip(&texts).skip(answered).filter(is_tool).map(|(_, text)| text).collect();
        let last = texts.last().map(String::as_str).unwrap_or_default();
        let mut wrong = Vec::new();
        for wanted in self.last.iter().filter(|wanted| !last.contains(wanted.as_str())) {
            wrong.push(format!("the last message lacks `{wanted}`; it is: {}", short(last)));
        }
        for wanted in self.tool.iter().filter(|wanted| !tools.iter().any(|text| text.contains(wanted.as_str()))) {
            let seen: Vec<String> = tools.iter().map(|text| short(text)).collect();
            wrong.push(format!("no tool's answer holds `{wanted}`; they are: {}", seen.join(" | ")));
        }
        for wanted in self.anywhere.iter().filter(|wanted| !texts.iter().any(|text| text.contains(wanted.as_str()))) {
            wrong.push(format!("no message holds `{wanted}`"));
        }
        for unwanted in self.nowhere.iter().filter(|unwanted| texts.iter().any(|text| text.contains(unwanted.as_str())))
        {
            wrong.push(format!("a message holds `{unwanted}`"));
        }
        wrong
    }
}

/// The text of a message, whether its content is a text or parts.
pub(super) fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

fn short(text: &str) -> String {
    let kept: String = text.chars().take(400).collect();
    if kept.len() < text.len() { format!("{kept}...") } else { kept }
}
