//! Calls whose arguments stand each between tags, not in JSON. Pure; never panics.
//!
//! ```text
//! call  := "<function=" name ">" ( object | ( "<parameter=" key ">" value "</parameter>" )* ) [ "</function>" ]
//!        | "<invoke name=" name ">" ( "<parameter name=" key ">" value "</parameter>" )* [ "</invoke>" ]
//!        | name ( "<arg_key>" key "</arg_key>" "<arg_value>" value "</arg_value>" )*      within "<tool_call>"
//!        | "<" tool ">" ( "<" argument ">" value "</" argument ">" )* "</" tool ">"       only known ones
//! ```
//!
//! A value is text as it stands, but for a line end behind its beginning together with one before its end. It ends with the first
//! of its closing tags behind which the next value, the call's end or the reply's end follows, so that it may hold such a
//! tag itself. One without its closing tag before the next value's beginning ends there, or where the call's end begins a
//! line: such a call is marked as repaired. A value with neither is broken.

use serde_json::{Map, Value};

use super::super::tools;
use super::json_call::plain_name;

/// What may follow a call that lacks its end.
const OUTER_ENDS: [&str; 7] =
    ["</tool_call>", "</function_calls>", "</tool_calls>", "<tool_call>", "<function=", "<invoke ", "<|"];
/// More values than this no tool has.
const MOST_VALUES: usize = 32;

/// A call in tags.
pub(super) struct TaggedCall {
    pub(super) name: String,
    pub(super) arguments: Map<String, Value>,
    /// A value lacks its closing tag.
    pub(super) repaired: bool,
    pub(super) end: usize,
}

/// What keeps a beginning from being a call.
pub(super) enum NoCall {
    /// It is something else.
    Other,
    /// It means to be one; the reason is for the model.
    Broken(String),
}

/// How the values of a call are written.
struct Form<'a> {
    /// Before the key.
    open: &'a str,
    /// Behind the key.
    opened: &'a str,
    close: &'a str,
    /// Of the call.
    end: &'a str,
}

const FUNCTION: Form<'static> = Form { open: "<parameter=", opened: ">", close: "</parameter>", end: "</function>" };
const INVOKE: Form<'static> = Form { open: "<parameter name=", opened: ">", close: "</parameter>", end: "</invoke>" };

/// A call whose name begins at `at`, behind `<function=`.
pub(super) fn function(text: &str, at: usize) -> Result<TaggedCall, NoCall> {
    let (name, at) = up_to(text, at, ">").ok_or(NoCall::Other)?;
    let name = unquoted(name);
    // Llama 3.1 writes one object between these tags.
    let body = text.get(at..).unwrap_or_default();
    if body.trim_start().starts_with('{') {
        let mut values = serde_json::Deserializer::from_str(body).into_iter::<Map<String, Value>>();
        return match values.next() {
            Some(Ok(arguments)) => {
                let end = after(text, at + values.byte_offset(), FUNCTION.end);
                Ok(TaggedCall { name: plain_name(name).into(), arguments, repaired: false, end })
            }
            Some(Err(_)) | None => Err(NoCall::Broken("the arguments between the tags are no JSON object".into())),
        };
    }
    values(text, at, name, &FUNCTION)
}

/// A call whose name begins at `at`, behind `<invoke name=`.
pub(super) fn invoke(text: &str, at: usize) -> Result<TaggedCall, NoCall> {
    let (name, at) = up_to(text, at, ">").ok_or(NoCall::Other)?;
    values(text, at, unquoted(name), &INVOKE)
}

/// A call that begins at `at`, behind `<tool_call>`, with its name.
pub(super) fn keyed(text: &str, at: usize) -> Result<TaggedCall, NoCall> {
    let body = text.get(at..).unwrap_or_default();
    let length = body.find(['<', '\n']).ok_or(NoCall::Other)?;
    let name = body[..length].trim();
    if !is_name(name) || !body[length..].trim_start().starts_with(['<']) {
        return Err(NoCall::Other);
    }
    let mut call = TaggedCall { name: plain_name(name).into(), arguments: Map::new(), repaired: false, end: 0 };
    let mut at = at + length;
    for _ in 0..MOST_VALUES {
        at = skip_space(text, at);
        let Some(behind) = behind(text, at, "<arg_key>") else { break };
        let broken = || NoCall::Broken(format!("the call of {name} has a value without its end"));
        let (key, next) = up_to(text, behind, "</arg_key>").ok_or_else(broken)?;
        let form = Form { open: "<arg_key>", opened: "", close: "</arg_value>", end: "</tool_call>" };
        let next = skip_space(text, next);
        let start = self::behind(text, next, "<arg_value>").ok_or_else(broken)?;
        let (value, end, closed) = value(text, start, &form).ok_or_else(broken)?;
        call.arguments.insert(key.trim().to_owned(), Value::String(value.to_owned()));
        call.repaired |= !closed;
        at = end;
    }
    call.end = after(text, at, "</tool_call>");
    Ok(call)
}

/// A call whose tag is the tool's own name; `at` is behind that tag.
pub(super) fn of_tool(text: &str, at: usize, name: &str) -> Result<TaggedCall, NoCall> {
    let tool = tools::specifications().into_iter().find(|tool| tool.name == name).ok_or(NoCall::Other)?;
    let properties = tool.parameters.get("properties").and_then(Value::as_object).ok_or(NoCall::Other)?;
    let end = format!("</{name}>");
    let mut call = TaggedCall { name: name.into(), arguments: Map::new(), repaired: false, end: 0 };
    let mut at = at;
    for _ in 0..MOST_VALUES {
        at = skip_space(text, at);
        if let Some(behind) = behind(text, at, &end) {
            call.end = behind;
            return Ok(call);
        }
        let opening = |key: &&String| text[at..].starts_with(&format!("<{key}>"));
        let key = properties.keys().find(opening).ok_or(NoCall::Other)?;
        let close = format!("</{key}>");
        let form = Form { open: "<", opened: "", close: &close, end: &end };
        let missing = || NoCall::Broken(format!("the call of {name} has a value without its end"));
        let (value, next, closed) = value(text, at + key.len() + 2, &form).ok_or_else(missing)?;
        call.arguments.insert(key.clone(), Value::String(value.to_owned()));
        call.repaired |= !closed;
        at = next;
    }
    Err(NoCall::Other)
}

fn values(text: &str, at: usize, name: &str, form: &Form<'_>) -> Result<TaggedCall, NoCall> {
    if !is_name(name) {
        return Err(NoCall::Other);
    }
    let mut call = TaggedCall { name: plain_name(name).into(), arguments: Map::new(), repaired: false, end: 0 };
    let broken = || NoCall::Broken(format!("the call of {name} has a value without its end"));
    let mut at = at;
    for _ in 0..MOST_VALUES {
        at = skip_space(text, at);
        let rest = text.get(at..).unwrap_or_default();
        let Some(start) = behind(text, at, form.open) else {
            let ends = rest.is_empty() || OUTER_ENDS.iter().any(|end| rest.starts_with(end));
            if !ends && !rest.starts_with(form.end) {
                return Err(broken());
            }
            // With nothing between them, a beginning at the end of a reply was cut off.
            if rest.is_empty() && call.arguments.is_empty() {
                return Err(broken());
            }
            call.end = after(text, at, form.end);
            return Ok(call);
        };
        let (key, start) = up_to(text, start, form.opened).ok_or_else(broken)?;
        let (value, end, closed) = value(text, start, form).ok_or_else(broken)?;
        call.arguments.insert(unquoted(key).to_owned(), Value::String(value.to_owned()));
        call.repaired |= !closed;
        at = end;
    }
    Err(broken())
}

/// The value that begins at `start`, where it ends, and whether it has its closing tag.
fn value<'a>(text: &'a str, start: usize, form: &Form<'_>) -> Option<(&'a str, usize, bool)> {
    let body = text.get(start..)?;
    let next = if form.open.len() > 1 { body.find(&format!("\n{}", form.open)) } else { None };
    for (at, _) in body.match_indices(form.close) {
        // What begins another value in between was not meant to be part of this one; or it was, and who can tell?
        if next.is_some_and(|next| next < at) {
            break;
        }
        let end = at + form.close.len();
        let rest = body[end..].trim_start();
        let is_the_end = rest.is_empty()
            || rest.starts_with(form.open)
            || rest.starts_with(form.end)
            || OUTER_ENDS.iter().any(|outer| rest.starts_with(outer));
        if is_the_end {
            return Some((without_frame(&body[..at]), start + end, true));
        }
    }
    let end = body.find(&format!("\n{}", form.end));
    let at = [next, end].into_iter().flatten().min()?;
    Some((without_frame(&body[..at]), start + at, false))
}

/// The value without the line ends that belong to its tags: the one before it is only left out together with the first.
fn without_frame(value: &str) -> &str {
    let Some(value) = value.strip_prefix("\r\n").or_else(|| value.strip_prefix('\n')) else { return value };
    value.strip_suffix("\r\n").or_else(|| value.strip_suffix('\n')).unwrap_or(value)
}

/// The text between `at` and the next `token`, which is on the same line, and what is behind it.
fn up_to<'a>(text: &'a str, at: usize, token: &str) -> Option<(&'a str, usize)> {
    let rest = text.get(at..)?;
    let length = rest.find(token)?;
    let between = &rest[..length];
    (!between.contains('\n')).then_some((between, at + length + token.len()))
}

/// The first attribute's value: `read` of `"read" string="true"`.
fn unquoted(attribute: &str) -> &str {
    let attribute = attribute.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = attribute.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or(rest);
        }
    }
    attribute
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
}

fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.len() - rest.trim_start().len()
}

fn behind(text: &str, at: usize, token: &str) -> Option<usize> {
    text.get(at..)?.starts_with(token).then_some(at + token.len())
}

/// Behind the token, if it comes next but for white space; else where it was.
fn after(text: &str, at: usize, token: &str) -> usize {
    behind(text, skip_space(text, at), token).unwrap_or(at)
}
