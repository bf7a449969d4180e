//! What a server's refusal means, read from its HTTP status and whatever text it printed. Pure.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::ModelError;

/// The most characters of a server's text that an error repeats.
const MOST_CHARACTERS: usize = 400;

/// What servers say when the prompt does not fit: OpenAI, vLLM, llama.cpp, Ollama, LM Studio, Anthropic's gateways.
const OVERFLOWS: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context length",
    "available context size",
    "context length of only",
    "exceeds the context window",
    "exceeds context window",
    "greater than the context length",
    "input length exceeds",
    "prompt is too long",
    "prompt too long",
    "maximum allowed number of input tokens",
];

/// The error for an answer with a status that is no success.
pub(super) fn of_answer(status: u16, body: &[u8], model: &str) -> ModelError {
    let text = String::from_utf8_lossy(body);
    let (message, code) = match serde_json::from_str::<Value>(&text) {
        Ok(value) => read_error(&value),
        Err(_) => (text.into_owned(), String::new()),
    };
    classify(Some(status), &message, &code, model)
}

/// The error for an error object (or text) inside a stream. An integer `code` is an HTTP status.
pub(super) fn of_stream_error(error: &Value, model: &str) -> ModelError {
    let (message, code) = read_error(error);
    let status = code.parse().ok().filter(|status| (400..600).contains(status));
    classify(status, &message, &code, model)
}

/// The pause that the server asks for, in whole seconds. Dates are not read: nobody sends them here.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds.ceil()).ok()
}

/// On one line, without control characters, cut at a bound.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

fn classify(status: Option<u16>, message: &str, code: &str, model: &str) -> ModelError {
    let lower = format!("{code} {message}").to_lowercase();
    let names_model = lower.contains("model");
    let is_unknown = ["not found", "not_found", "does not exist", "not exist", "no such model", "invalid model"]
        .iter()
        .any(|words| lower.contains(words));
    if let Some(status @ (401 | 403)) = status {
        ModelError::Unauthorized { status }
    } else if OVERFLOWS.iter().any(|words| lower.contains(words)) {
        ModelError::ContextOverflow(one_line(message))
    } else if matches!(status, Some(400 | 404 | 422)) && names_model && is_unknown {
        ModelError::UnknownModel { model: model.to_owned(), known: String::new() }
    } else if message.trim().is_empty() {
        ModelError::Server { status, message: "(it gave no reason)".into() }
    } else {
        ModelError::Server { status, message: one_line(message) }
    }
}

/// Message and code, from the shapes in use: `{error: {message, code}}`, `{error: text}`, `{message}`, `{detail}`.
fn read_error(value: &Value) -> (String, String) {
    let error = value.get("error").unwrap_or(value);
    let message = match error {
        Value::String(text) => text.clone(),
        other => ["message", "detail", "msg"]
            .iter()
            .find_map(|field| other.get(field)?.as_str().map(str::to_owned))
            .unwrap_or_else(|| other.to_string()),
    };
    let field = |name: &str| match error.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
    };
    let code = field("code");
    (message, if code.is_empty() { field("type") } else { code })
}
