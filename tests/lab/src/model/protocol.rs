//! What a chat request must be like. Each rule is one that some real server enforces, by an error or in silence.

use std::collections::BTreeSet;

use serde_json::Value;

use super::script::text_of;

/// What is wrong with a request, in words.
pub(super) fn check(request: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    match request["messages"].as_array() {
        Some(messages) if !messages.is_empty() => check_messages(messages, &mut wrong),
        _ => wrong.push("`messages` is not a list with entries".into()),
    }
    check_tools(request, &mut wrong);
    check_format(&request["response_format"], &mut wrong);
    if !matches!(request["stream"], Value::Null | Value::Bool(_)) {
        wrong.push("`stream` is no boolean".into());
    }
    if !request["stream_options"].is_null() && request["stream"] != true {
        wrong.push("`stream_options` without `stream`".into());
    }
    if !request["max_tokens"].is_null() && !request["max_completion_tokens"].is_null() {
        wrong.push("both `max_tokens` and `max_completion_tokens`".into());
    }
    for field in ["max_tokens", "max_completion_tokens"] {
        if !request[field].is_null() && request[field].as_u64().is_none_or(|tokens| tokens == 0) {
            wrong.push(format!("`{field}` is no positive integer"));
        }
    }
    let temperature = &request["temperature"];
    if !temperature.is_null() && !temperature.as_f64().is_some_and(|value| (0.0..=2.0).contains(&value)) {
        wrong.push("`temperature` is not within 0 and 2".into());
    }
    wrong
}

/// The tokens of a request, prompt and longest answer together.
pub fn tokens(request: &Value) -> u64 {
    let answer = ["max_tokens", "max_completion_tokens"].iter().find_map(|field| request[*field].as_u64());
    prompt_tokens(request) + answer.unwrap_or_default()
}

/// The tokens of a prompt: one for three bytes, and a few for each message.
pub(super) fn prompt_tokens(request: &Value) -> u64 {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = messages.iter().map(|message| {
        let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_calls = calls.iter().map(|call| {
            let text = |field: &str| call["function"][field].as_str().map_or(0, str::len);
            text("name") + text("arguments") + 30
        });
        text_of(message).len() + of_calls.sum::<usize>() + 18
    });
    let tools = request["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_tools = tools.iter().map(|tool| tool["function"].to_string().len());
    ((texts.sum::<usize>() + of_tools.sum::<usize>()) as u64).div_ceil(3)
}

/// Where `now` is not `before` with something appended, in words.
pub(super) fn changed_history(before: &[Value], now: &[Value]) -> Option<String> {
    if now.len() < before.len() {
        return Some(format!("the history shrank from {} to {} messages", before.len(), now.len()));
    }
    let index = before.iter().zip(now).position(|(before, now)| before != now)?;
    Some(format!(
        "message {} of the history is not what was sent before: {} became {}",
        index + 1,
        before[index],
        now[index]
    ))
}

/// The text that tells conversations apart.
pub(super) fn first_user_text(messages: &[Value]) -> String {
    messages.iter().find(|message| message["role"] == "user").map(text_of).unwrap_or_default()
}

fn check_messages(messages: &[Value], wrong: &mut Vec<String>) {
    let mut waiting: BTreeSet<String> = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        let place = format!("message {}", index + 1);
        let role = message["role"].as_str().unwrap_or_default();
        if role != "tool" && !waiting.is_empty() {
            wrong.push(format!("{place} comes before the answers to {waiting:?}"));
            waiting.clear();
        }
        let content_fits = match &message["content"] {
            Value::String(_) => true,
            Value::Array(parts) => parts.iter().all(|part| part["type"].is_string()),
            Value::Null => role == "assistant" && message["tool_calls"].is_array(),
            _ => false,
        };
        if !content_fits {
            wrong.push(format!("{place} ({role}) has no content"));
        }
        match role {
            "system" | "developer" if index > 0 => {
                wrong.push(format!("{place} is a system message after the first place"))
            }
            "system" | "developer" | "user" => {}
            "assistant" => check_assistant(message, &place, &mut waiting, wrong),
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                if !waiting.remove(id) {
                    wrong.push(format!("{place} answers `{id}`, which is no open call"));
                }
            }
            other => wrong.push(format!("{place} has the role `{other}`")),
        }
    }
    if !waiting.is_empty() {
        wrong.push(format!("the calls {waiting:?} have no answer"));
    }
    if messages.last().is_some_and(|message| message["role"] == "assistant") {
        wrong.push("the last message is the assistant's own".into());
    }
    if !messages.iter().any(|message| message["role"] == "user") {
        wrong.push("there is no user message".into());
    }
}

fn check_assistant(message: &Value, place: &str, waiting: &mut BTreeSet<String>, wrong: &mut Vec<String>) {
    let Some(calls) = message["tool_calls"].as_array() else {
        if text_of(message).is_empty() {
            wrong.push(format!("{place} (assistant) says nothing and calls nothing"));
        }
        return;
    };
    if calls.is_empty() {
        wrong.push(format!("{place} has an empty `tool_calls`"));
    }
    for call in calls {
        let id = call["id"].as_str().unwrap_or_default();
        if id.is_empty() || !waiting.insert(id.to_owned()) {
            wrong.push(format!("{place} has a call without an id of its own: `{id}`"));
        }
        if call["type"] != "function" || call["function"]["name"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{place} has a call that is no function call"));
        }
        // Chat templates parse the arguments of past calls, and the whole request fails where they cannot.
        let arguments = call["function"]["arguments"].as_str().map(serde_json::from_str::<Value>);
        if !matches!(arguments, Some(Ok(Value::Object(_)))) {
            wrong.push(format!("{place}: the arguments of the call `{id}` are no JSON object in a text"));
        }
    }
}

fn check_tools(request: &Value, wrong: &mut Vec<String>) {
    let tools = match &request["tools"] {
        Value::Null => return,
        Value::Array(tools) if !tools.is_empty() => tools,
        _ => return wrong.push("`tools` is not a list with entries".into()),
    };
    let mut names = BTreeSet::new();
    for tool in tools {
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if tool["type"] != "function" || name.is_empty() || name.len() > 64 || !letters || !names.insert(name) {
            wrong.push(format!("the tool `{name}` is no function with a name of its own"));
        }
        let parameters = &function["parameters"];
        if parameters["type"] != "object" {
            wrong.push(format!("the parameters of the tool `{name}` are no object"));
        } else if let Err(error) = jsonschema::validator_for(parameters) {
            wrong.push(format!("the parameters of the tool `{name}` are no JSON schema: {error}"));
        }
    }
}

/// The schema that an answer is to fit: one that the makers of grammars know.
fn check_format(format: &Value, wrong: &mut Vec<String>) {
    if format.is_null() {
        return;
    }
    let schema = &format["json_schema"]["schema"];
    if format["type"] != "json_schema" || !format["json_schema"]["name"].is_string() || schema["type"] != "object" {
        wrong.push("`response_format` is no schema of an object with a name".into());
    } else if schema.to_string().contains("\"$ref\"") {
        wrong.push("the schema of the answer holds references".into());
    } else if let Err(error) = jsonschema::validator_for(schema) {
        wrong.push(format!("the schema of the answer is no JSON schema: {error}"));
    }
}
