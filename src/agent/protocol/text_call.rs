//! Reading one call out of a reply that has none in the server's own form. Pure; never panics.
//!
//! Small local models, and servers without the model's own template, write their calls as text. The grammar:
//!
//! ```text
//! reply    := thinking* ( prose | call )*            the first valid call counts, the others are passed over
//! thinking := "<think>" ... "</think>"               also without its beginning; without its end, it has all the rest
//! call     := "<tool_call>" value ["</tool_call>"]
//!           | "<tools>" value ["</tools>"]
//!           | fence [info] newline value [fence]     fence: a line that begins with ``` or ~~~
//!           | value                                  at the beginning of a line
//! value    := object | "[" object ( "," object )* "]"
//! object   := { "name": text, "arguments" | "parameters": arguments }
//!           | { "function": object }                 with or without "type": "function"
//!           | { "tool_calls": [ object ... ] }
//! arguments := JSON object | text that holds a JSON object
//! ```
//!
//! A value is strict JSON; what follows it is passed over. One that is not strict is read again with line ends and tabs
//! inside of texts escaped and commas before `}` and `]` dropped, and nothing more: such a call is marked as
//! repaired, and the caller decides whether it is harmless enough to be taken.

use serde_json::{Map, Value};

/// More beginnings of calls than this are not looked at: hostile text stays cheap.
const MOST_BEGINNINGS: usize = 64;
/// How deep wrappers (`function`, `tool_calls`, lists) may be nested.
const DEEPEST_WRAPPER: usize = 4;

/// What a reply without native calls says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Call(TextCall),
    /// Something that means to be a call and is none; the reason is for the model.
    Broken {
        reason: String,
    },
    /// Prose.
    Nothing,
}

/// One call written as text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextCall {
    pub name: String,
    pub arguments: Map<String, Value>,
    /// It was no strict JSON before line ends were escaped and trailing commas dropped.
    pub repaired: bool,
    /// What stands around it, without thinking.
    pub prose: String,
}

/// Finds the first valid call in `content`.
pub fn read_text(content: &str) -> Said {
    let text = without_thinking(content);
    let mut broken = None;
    let mut searched_to = 0;
    for beginning in beginnings(text) {
        if beginning.value < searched_to {
            continue;
        }
        let Some(body) = text.get(beginning.value..) else { continue };
        let mut values = serde_json::Deserializer::from_str(body).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let end = beginning.value + values.byte_offset();
                searched_to = end;
                if let Some((name, arguments)) = call_in(value, 0) {
                    return Said::Call(TextCall {
                        name,
                        arguments,
                        repaired: false,
                        prose: around(text, &beginning, end),
                    });
                }
            }
            Some(Err(error)) if means_a_call(body) => {
                let body = &body[..extent(body, beginning.closing)];
                if let Some(Ok(value)) = serde_json::Deserializer::from_str(&escape(body)).into_iter::<Value>().next()
                    && let Some((name, arguments)) = call_in(value, 0)
                {
                    let end = beginning.value + body.len();
                    return Said::Call(TextCall {
                        name,
                        arguments,
                        repaired: true,
                        prose: around(text, &beginning, end),
                    });
                }
                broken.get_or_insert_with(|| describe(&error));
            }
            Some(Err(_)) | None => {}
        }
    }
    match broken {
        Some(reason) => Said::Broken { reason },
        None => Said::Nothing,
    }
}

/// The reply without its thinking blocks.
pub fn without_thinking(content: &str) -> &str {
    let mut rest = content;
    // Templates that open the block themselves leave only its end in the reply.
    if let Some((thinking, answer)) = rest.split_once("</think>")
        && !thinking.contains("<think>")
    {
        rest = answer;
    }
    while let Some(thinking) = rest.trim_start().strip_prefix("<think>") {
        rest = thinking.split_once("</think>").map_or("", |(_, answer)| answer);
    }
    rest.trim()
}

/// Where a call may begin.
struct Beginning {
    /// Of the marker or fence, or of the value itself.
    start: usize,
    value: usize,
    closing: Option<&'static str>,
}

fn beginnings(text: &str) -> Vec<Beginning> {
    let mut found = Vec::new();
    for (marker, closing) in [("<tool_call>", "</tool_call>"), ("<tools>", "</tools>")] {
        for (start, _) in text.match_indices(marker) {
            found.push(Beginning { start, value: start + marker.len(), closing: Some(closing) });
        }
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let indentation = line.len() - trimmed.len();
        for fence in ["```", "~~~"] {
            if trimmed.starts_with(fence) {
                found.push(Beginning { start, value: start + line.len(), closing: Some(fence) });
            }
        }
        if trimmed.starts_with(['{', '[']) {
            found.push(Beginning { start, value: start + indentation, closing: None });
        }
        start += line.len();
    }
    found.retain(|beginning| text.get(beginning.value..).is_some_and(|body| body.trim_start().starts_with(['{', '['])));
    // A marker or fence and the brace below it are the same call: the marker comes first and knows its end.
    found.sort_by_key(|beginning| beginning.start);
    found.truncate(MOST_BEGINNINGS);
    found
}

fn call_in(value: Value, depth: usize) -> Option<(String, Map<String, Value>)> {
    if depth > DEEPEST_WRAPPER {
        return None;
    }
    match value {
        Value::Array(values) => values.into_iter().find_map(|value| call_in(value, depth + 1)),
        Value::Object(mut object) => {
            for wrapper in ["function", "tool_calls"] {
                if let Some(inner @ (Value::Object(_) | Value::Array(_))) = object.get_mut(wrapper) {
                    return call_in(inner.take(), depth + 1);
                }
            }
            let arguments = match object.remove("arguments").or_else(|| object.remove("parameters"))? {
                Value::Object(arguments) => arguments,
                Value::String(text) => serde_json::from_str(&text).ok()?,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
            };
            match object.remove("name")? {
                Value::String(name) => Some((name, arguments)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Broken JSON is worth an error only if it looks like a call and not like some other data.
fn means_a_call(body: &str) -> bool {
    body.contains("\"name\"") && (body.contains("\"arguments\"") || body.contains("\"parameters\""))
}

/// Where a broken value ends: at its closing marker, or with the text.
fn extent(body: &str, closing: Option<&str>) -> usize {
    match closing {
        Some(fence @ ("```" | "~~~")) => {
            body.match_indices(fence).map(|(at, _)| at).find(|at| body[..*at].ends_with('\n')).unwrap_or(body.len())
        }
        Some(tag) => body.find(tag).unwrap_or(body.len()),
        None => body.len(),
    }
}

/// Escapes line ends and tabs inside of texts, and drops commas before `}` and `]`.
fn escape(body: &str) -> String {
    let mut fixed = String::with_capacity(body.len() + 16);
    let mut in_text = false;
    let mut escaped = false;
    for (at, character) in body.char_indices() {
        if in_text {
            match character {
                '\n' => fixed.push_str("\\n"),
                '\r' => fixed.push_str("\\r"),
                '\t' => fixed.push_str("\\t"),
                _ => fixed.push(character),
            }
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        in_text = character == '"';
        let closes_next = || body[at + 1..].trim_start().starts_with(['}', ']']);
        if character != ',' || !closes_next() {
            fixed.push(character);
        }
    }
    fixed
}

fn around(text: &str, beginning: &Beginning, end: usize) -> String {
    let before = text.get(..beginning.start).unwrap_or_default().trim();
    let after = text.get(end..).unwrap_or_default().trim();
    let after = beginning.closing.map_or(after, |closing| after.strip_prefix(closing).unwrap_or(after)).trim();
    match (before, after) {
        (before, "") => before.to_owned(),
        ("", after) => after.to_owned(),
        (before, after) => format!("{before}\n{after}"),
    }
}

fn describe(error: &serde_json::Error) -> String {
    format!("the call is no valid JSON ({error}); inside of texts write line ends as \\n and quotes as \\\"")
}
