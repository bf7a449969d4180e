//! Calls in JSON, in the many ways that models spell them. Pure; never panics.
//!
//! ```text
//! value     := call | "[" call ( "," call )* "]" | text that holds a value
//! call      := { name-key: text, arguments-key: arguments }
//!            | { "function" | "function_call" | "tool_call" | "action": call }     with or without others beside it
//!            | { "tool_calls" | "calls" | "actions": [ call ... ] }
//!            | { name-key: tool, argument: value ... }                             only a known tool with its arguments
//!            | { tool: { argument: value ... } }
//! name-key  := "name" | "tool" | "tool_name" | "function" | "action"
//! arguments-key := "arguments" | "parameters" | "args" | "input" | "params" | "tool_input" | "action_input"
//! arguments := object | null | text that holds arguments | [ arguments ]           a list of one
//!            | text                                                                for a tool with one needed argument
//! ```
//!
//! A name may be decorated: `functions.read:0` is `read`.

use serde_json::{Map, Value};

use super::super::tools;

/// How deep wrappers (`function`, `tool_calls`, lists, texts) may be nested.
const DEEPEST_WRAPPER: usize = 4;
const NAME_KEYS: [&str; 5] = ["name", "tool", "tool_name", "function", "action"];
const ARGUMENTS_KEYS: [&str; 7] = ["arguments", "parameters", "args", "input", "params", "tool_input", "action_input"];
const WRAPPERS: [&str; 7] = ["function", "function_call", "tool_call", "action", "tool_calls", "calls", "actions"];
/// What may stand beside the arguments of a call that has no key for them.
const ASIDES: [&str; 6] = ["id", "type", "thought", "reasoning", "reason", "description"];

/// A call's name and arguments.
pub(super) type JsonCall = (String, Map<String, Value>);

/// The calls of a value, in order; none if it is something else, or holds something else too.
pub(super) fn calls_in(value: Value) -> Vec<JsonCall> {
    let mut calls = Vec::new();
    if collect(value, 0, &mut calls).is_none() {
        calls.clear();
    }
    calls
}

/// The arguments of a call in the server's own form: JSON in a text. The error is the answer to the model.
pub fn arguments_of(name: &str, text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) => arguments_in(value, name, 0)
            .ok_or_else(|| "the arguments are no JSON object. Nothing was done; make the call again.".to_owned()),
        Err(error) => {
            let was_cut = if error.is_eof() {
                " They end in the middle: the reply was too long; do less in one call."
            } else {
                ""
            };
            Err(format!("the arguments are no JSON object ({error}).{was_cut} Nothing was done; make the call again."))
        }
    }
}

/// The name without what servers and templates put around it.
pub(super) fn plain_name(name: &str) -> &str {
    let name = name.trim().trim_end_matches(':');
    let name = match name.rsplit_once(':') {
        Some((plain, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => plain,
        _ => name,
    };
    let prefixes = ["functions.", "function.", "tools.", "tool.", "default_api."];
    prefixes.into_iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

fn collect(value: Value, depth: usize, calls: &mut Vec<JsonCall>) -> Option<()> {
    if depth > DEEPEST_WRAPPER {
        return None;
    }
    match value {
        Value::Array(values) if !values.is_empty() => {
            values.into_iter().try_for_each(|value| collect(value, depth + 1, calls))
        }
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            collect(serde_json::from_str(&text).ok()?, depth + 1, calls)
        }
        Value::Object(object) => collect_object(object, depth, calls),
        Value::Array(_) | Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn collect_object(mut object: Map<String, Value>, depth: usize, calls: &mut Vec<JsonCall>) -> Option<()> {
    for wrapper in WRAPPERS {
        if let Some(inner @ (Value::Object(_) | Value::Array(_))) = object.get_mut(wrapper) {
            return collect(inner.take(), depth + 1, calls);
        }
    }
    let named = NAME_KEYS.iter().find_map(|key| {
        let name = object.get(*key)?.as_str()?;
        Some((*key, plain_name(name).to_owned()))
    });
    let Some((key, name)) = named else {
        calls.push(by_tool(object)?);
        return Some(());
    };
    let place = ARGUMENTS_KEYS.iter().find(|key| object.contains_key(**key));
    // `input` may be an argument's own name elsewhere; here no tool has one of that name.
    let arguments = match place.and_then(|place| object.get_mut(*place)) {
        Some(arguments) => arguments_in(arguments.take(), &name, depth)?,
        None => {
            object.shift_remove(key);
            flat(object, &name)?
        }
    };
    calls.push((name, arguments));
    Some(())
}

/// `{ tool: { arguments } }`
fn by_tool(object: Map<String, Value>) -> Option<JsonCall> {
    let mut entries = object.into_iter();
    match (entries.next(), entries.next()) {
        (Some((name, Value::Object(arguments))), None) if known(plain_name(&name)).is_some() => {
            Some((plain_name(&name).to_owned(), arguments))
        }
        _ => None,
    }
}

/// The arguments that stand beside the name; `None`: they are not those of a tool.
fn flat(mut object: Map<String, Value>, name: &str) -> Option<Map<String, Value>> {
    let properties = known(name)?;
    object.retain(|key, _| !ASIDES.contains(&key.as_str()));
    let fits = !object.is_empty() && object.keys().all(|key| properties.contains_key(key));
    fits.then_some(object)
}

fn arguments_in(value: Value, name: &str, depth: usize) -> Option<Map<String, Value>> {
    if depth > DEEPEST_WRAPPER {
        return None;
    }
    match value {
        Value::Object(arguments) => Some(arguments),
        Value::Null => Some(Map::new()),
        Value::Array(values) => match <[Value; 1]>::try_from(values) {
            Ok([only]) => arguments_in(only, name, depth + 1),
            Err(_) => None,
        },
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => arguments_in(inner, name, depth + 1),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_)) => None,
            Err(_) if text.trim_start().starts_with(['{', '[']) => None,
            Err(_) => Some(Map::from_iter([(only_needed(name)?, Value::String(text))])),
        },
        Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The properties of a known tool.
fn known(name: &str) -> Option<Map<String, Value>> {
    let tool = tools::specifications().into_iter().find(|tool| tool.name == name)?;
    tool.parameters.get("properties")?.as_object().cloned()
}

/// The one argument that a tool needs.
fn only_needed(name: &str) -> Option<String> {
    let tool = tools::specifications().into_iter().find(|tool| tool.name == name)?;
    match &tool.parameters.get("required")?.as_array()?[..] {
        [only] => only.as_str().map(str::to_owned),
        _ => None,
    }
}
