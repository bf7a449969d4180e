//! Reading the calls of a reply that has none in the server's own form. Pure; never panics.
//!
//! Small local models, and servers without the model's own template, write their calls as text. The grammar:
//!
//! ```text
//! reply    := ( thoughts | prose | call )* [ made-up ]
//! thoughts := as in `thinking`
//! call     := "<tool_call>" ( values | named | keyed ) [ "</tool_call>" ]          Hermes, Qwen, GLM
//!           | "<tools>" values [ "</tools>" ]                                      Qwen 2.5
//!           | "<function_call>" values [ "</function_call>" ]
//!           | "<|tool_call|>" values                                               Granite, Phi
//!           | "<|python_tag|>" ( values | named )                                  Llama 3
//!           | "<|tool_call_start|>" python [ "<|tool_call_end|>" ]                 LFM
//!           | "[TOOL_CALLS]" ( values | named )                                    Mistral
//!           | "<｜tool▁call▁begin｜>" named [ "<｜tool▁call▁end｜>" ]              DeepSeek
//!           | "<|tool_call_begin|>" named [ "<|tool_call_end|>" ]                  Kimi
//!           | "to=functions." named                                                gpt-oss
//!           | "<function=" ... | "<invoke name=" ... | "<" tool ">" ...            as in `tagged_call`
//!           | fence [ info ] values [ fence ]                                      fence: a line that begins with ``` or ~~~
//!           | fence "tool_code" python [ fence ]                                   Gemma
//!           | values | python-list                                                 at the beginning of a line
//! values   := value ( [","|";"] value )*                                           as in `json_call`
//! named    := [ "function" separator ] name [ "[CALL_ID]" id ] [ separator ] [ "```json" ] object [ "```" ]
//! separator := "[ARGS]" | "<｜tool▁sep｜>" | "<|tool_call_argument_begin|>" | ... "<|message|>"
//! made-up  := a token or a line with which an answer begins: what the model says behind it, it says in our name
//! ```
//!
//! All calls are taken in order, up to [`MOST_CALLS`]. Reading ends at the first thing that means to be a call and is none
//! (it is [`Said::broken`]), and at a made-up answer. A block of code in another language than JSON's is passed over.
//!
//! A value is strict JSON. One that is not strict is read again with line ends and tabs inside of texts escaped and commas
//! before `}` and `]` dropped, or as Python's literal, and in no other way: such a call is marked as repaired, and the
//! caller decides whether it is harmless enough to be taken.
//!
//! Nothing in thoughts is a call. Where a reply is thoughts alone, which never end, a call in tags that is their very end
//! counts: the model forgot to close them.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Map, Value};
use std::sync::LazyLock;

use super::super::tools;
use super::json_call::{self, calls_in};
use super::tagged_call::{self, NoCall, TaggedCall};
use super::{Said, TextCall, python_call, thinking};

/// More beginnings of calls than this are not looked at: hostile text stays cheap.
const MOST_BEGINNINGS: usize = 64;
/// More calls than this are not taken from one reply.
pub const MOST_CALLS: usize = 16;

/// Tags before values, names or Python, with their ends.
const TAGS: [(&str, &str); 9] = [
    ("<tool_call>", "</tool_call>"),
    ("<tools>", "</tools>"),
    ("<function_call>", "</function_call>"),
    ("<|tool_call|>", "</|tool_call|>"),
    ("<|python_tag|>", "<|eom_id|>"),
    ("<|tool_call_start|>", "<|tool_call_end|>"),
    ("[TOOL_CALLS]", "[/TOOL_CALLS]"),
    ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    ("<|tool_call_begin|>", "<|tool_call_end|>"),
];
/// What a name and its arguments have between them.
const SEPARATORS: [&str; 3] = ["[ARGS]", "<｜tool▁sep｜>", "<|tool_call_argument_begin|>"];
const HARMONY: &str = "to=functions.";
const HARMONY_MESSAGE: &str = "<|message|>";
/// Tokens behind which a model speaks in another's name.
const FOREIGN_TOKENS: [&str; 11] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|endoftext|>",
    "<|user|>",
    "<|observation|>",
    "<｜User｜>",
    "<｜tool▁outputs▁begin｜>",
    "[TOOL_RESULTS]",
    "<tool_response>",
];
/// Lines with which a model begins an answer to its own call.
const FOREIGN_LINES: [&str; 6] = ["Result of ", "Observation:", "Tool output:", "Tool response:", "User:", "Human:"];
/// The languages of blocks that may hold calls.
const LANGUAGES: [&str; 14] = [
    "",
    "json",
    "json5",
    "jsonc",
    "javascript",
    "js",
    "tool_code",
    "tool_call",
    "tool_calls",
    "tool",
    "tools",
    "xml",
    "text",
    "plaintext",
];

/// What a reply may go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tag {
        close: &'static str,
    },
    Harmony,
    Function,
    Invoke,
    Tool {
        name: &'static str,
    },
    Fence,
    /// `{`, `[` or `"` at the beginning of a line.
    Value,
    Thoughts,
    ForeignToken,
    ForeignLine,
}

/// Where something begins: itself, and what is behind its token.
struct Opening {
    kind: Kind,
    start: usize,
    body: usize,
}

/// What a beginning came to.
enum Taken {
    Calls(Vec<TextCall>, usize),
    Broken(String),
    /// No call; go on there.
    Nothing(usize),
}

struct Tokens {
    search: AhoCorasick,
    kinds: Vec<Kind>,
}

static TOKENS: LazyLock<Option<Tokens>> = LazyLock::new(|| {
    let mut tokens: Vec<(String, Kind)> = Vec::new();
    tokens.extend(TAGS.map(|(open, close)| (open.into(), Kind::Tag { close })));
    tokens.push((HARMONY.into(), Kind::Harmony));
    tokens.push(("<function=".into(), Kind::Function));
    tokens.push(("<invoke name=".into(), Kind::Invoke));
    tokens.extend(
        tools::specifications().into_iter().map(|tool| (format!("<{}>", tool.name), Kind::Tool { name: tool.name })),
    );
    tokens.extend(["```", "~~~"].map(|fence| (fence.into(), Kind::Fence)));
    tokens.extend(["{", "[", "\"{"].map(|value| (value.into(), Kind::Value)));
    tokens.extend(thinking::openings().map(|open| (open.into(), Kind::Thoughts)));
    tokens.extend(FOREIGN_TOKENS.map(|token| (token.into(), Kind::ForeignToken)));
    tokens.extend(FOREIGN_LINES.map(|line| (line.into(), Kind::ForeignLine)));
    let (texts, kinds): (Vec<String>, Vec<Kind>) = tokens.into_iter().unzip();
    let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok()?;
    Some(Tokens { search, kinds })
});

/// Reads a reply.
pub fn read_text(content: &str) -> Said {
    if let Some(thoughts) = thinking::open_thoughts(content) {
        return last_thought(thoughts);
    }
    scan(thinking::without_thinking(content)).0
}

/// A call that ends thoughts which never end.
fn last_thought(thoughts: &str) -> Said {
    // Their own beginning would hide all of them.
    let inner = thinking::openings().find_map(|open| thoughts.strip_prefix(open)).unwrap_or(thoughts);
    let (mut said, end) = scan(inner);
    let last = said.calls.pop().filter(|call| call.in_tags && inner[end..].trim().is_empty() && said.broken.is_none());
    let own = last.as_ref().map(|_| thoughts.trim().to_owned()).unwrap_or_default();
    Said { calls: last.into_iter().collect(), own, ..Said::default() }
}

/// Whether a line begins an answer to the model's own call.
pub(super) fn is_foreign_line(line: &str) -> bool {
    let line = line.trim_start();
    FOREIGN_LINES.iter().chain(&FOREIGN_TOKENS).any(|token| line.starts_with(token))
}

/// Whether a line holds what ends a reply's own words.
pub(super) fn may_be_foreign(line: &str) -> bool {
    is_foreign_line(line) || FOREIGN_TOKENS.iter().any(|token| line.contains(token))
}

/// What a text says, and where its last call ends.
fn scan(text: &str) -> (Said, usize) {
    let mut said = Said::default();
    let mut prose: Vec<&str> = Vec::new();
    let (mut at, mut told, mut last_end, mut own_end) = (0, 0, 0, text.len());
    for _ in 0..MOST_BEGINNINGS {
        let Some(opening) = next_opening(text, at) else { break };
        let has_spoken = !said.calls.is_empty() || !text[..opening.start].trim().is_empty();
        let taken = match opening.kind {
            Kind::ForeignToken if has_spoken => {
                own_end = opening.start;
                break;
            }
            Kind::ForeignLine if !said.calls.is_empty() => {
                own_end = opening.start;
                break;
            }
            Kind::ForeignToken | Kind::ForeignLine => Taken::Nothing(opening.body),
            Kind::Thoughts => {
                let end = opening.start + thinking::block(&text[opening.start..]).unwrap_or(1);
                prose.push(&text[told..opening.start]);
                told = end;
                Taken::Nothing(end)
            }
            Kind::Tag { .. }
            | Kind::Harmony
            | Kind::Function
            | Kind::Invoke
            | Kind::Tool { .. }
            | Kind::Fence
            | Kind::Value => take(text, &opening),
        };
        match taken {
            Taken::Calls(calls, end) => {
                prose.push(&text[told..opening.start]);
                said.calls.extend(calls);
                (at, told, last_end) = (end, end, end);
                if said.calls.len() >= MOST_CALLS {
                    said.calls.truncate(MOST_CALLS);
                    break;
                }
            }
            Taken::Broken(reason) => {
                said.broken = Some(reason);
                prose.push(&text[told..opening.start]);
                told = text.len();
                break;
            }
            Taken::Nothing(end) => at = end,
        }
    }
    prose.push(text.get(told..own_end).unwrap_or_default());
    let prose = prose.into_iter().map(str::trim).filter(|part| !part.is_empty());
    said.prose = prose.collect::<Vec<_>>().join("\n");
    said.own = text[..own_end].trim().to_owned();
    (said, last_end)
}

/// The next beginning from `from` on.
fn next_opening(text: &str, from: usize) -> Option<Opening> {
    let tokens = TOKENS.as_ref()?;
    let mut at = from;
    while let Some(found) = tokens.search.find(aho_corasick::Input::new(text).range(at..)) {
        let kind = *tokens.kinds.get(found.pattern().as_usize())?;
        let opening = Opening { kind, start: found.start(), body: found.end() };
        let at_line = || text[..opening.start].trim_end_matches([' ', '\t']);
        let begins_line = || at_line().is_empty() || at_line().ends_with('\n');
        let counts = match kind {
            Kind::Tag { .. } | Kind::Harmony | Kind::Function | Kind::Invoke | Kind::ForeignToken => true,
            Kind::Tool { .. } | Kind::Fence | Kind::Value | Kind::Thoughts | Kind::ForeignLine => begins_line(),
        };
        if counts {
            return Some(opening);
        }
        at = opening.body;
    }
    None
}

fn take(text: &str, opening: &Opening) -> Taken {
    let body = opening.body;
    match opening.kind {
        Kind::Tag { close } => tag(text, body, close),
        Kind::Harmony => named(text, body, "<|call|>").unwrap_or(Taken::Nothing(body)),
        Kind::Function => tagged(tagged_call::function(text, body), body),
        Kind::Invoke => tagged(tagged_call::invoke(text, body), body),
        Kind::Tool { name } => tagged(tagged_call::of_tool(text, body, name), body),
        Kind::Fence => fence(text, opening),
        Kind::Value => match values(text, opening.start, "", false) {
            Taken::Nothing(past) => python(text, opening.start, "").unwrap_or(Taken::Nothing(past.max(body))),
            taken => taken,
        },
        Kind::Thoughts | Kind::ForeignToken | Kind::ForeignLine => Taken::Nothing(body),
    }
}

fn tag(text: &str, body: usize, close: &'static str) -> Taken {
    let inner = text.get(body..).unwrap_or_default().trim_start();
    let at = text.len() - inner.len();
    if inner.starts_with(['{', '[', '"']) {
        return match values(text, at, close, true) {
            Taken::Nothing(past) => python(text, at, close).unwrap_or(Taken::Nothing(past.max(body))),
            taken => taken,
        };
    }
    if inner.starts_with('<') {
        return Taken::Nothing(body);
    }
    if let Some(taken) = named(text, at, close).or_else(|| python(text, at, close)) {
        return taken;
    }
    match close {
        "</tool_call>" => tagged(tagged_call::keyed(text, at), body),
        _ => Taken::Nothing(body),
    }
}

fn tagged(call: Result<TaggedCall, NoCall>, body: usize) -> Taken {
    match call {
        Ok(TaggedCall { name, arguments, repaired, end }) => {
            Taken::Calls(vec![TextCall { name, arguments, repaired, in_tags: true }], end)
        }
        Err(NoCall::Other) => Taken::Nothing(body),
        Err(NoCall::Broken(reason)) => Taken::Broken(reason),
    }
}

/// A block of code: calls in JSON or Python, or something else, which is passed over if it has an end.
fn fence(text: &str, opening: &Opening) -> Taken {
    let marker = &text[opening.start..opening.body];
    let rest = text[opening.body..].trim_start_matches(['`', '~']);
    let info_at = text.len() - rest.len();
    let line = rest.split('\n').next().unwrap_or_default();
    let info = line.split(['{', '[']).next().unwrap_or_default();
    let language = info.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    // The value may stand on the fence's own line.
    let at = info_at + info.len();
    if LANGUAGES.contains(&language.as_str()) {
        let taken = match values(text, at, marker, false) {
            Taken::Nothing(past) if language == "tool_code" => {
                python(text, at, marker).unwrap_or(Taken::Nothing(past.max(at)))
            }
            Taken::Nothing(past) => Taken::Nothing(past.max(at)),
            taken => taken,
        };
        return taken;
    }
    let end =
        text[at..].match_indices(marker).map(|(found, _)| at + found).find(|found| text[..*found].ends_with('\n'));
    Taken::Nothing(end.map_or(at, |end| end + marker.len()))
}

/// One JSON value or several, with their end.
fn values(text: &str, from: usize, close: &str, in_tags: bool) -> Taken {
    let mut calls = Vec::new();
    let mut at = skip_space(text, from);
    let mut end = at;
    while let Some(body) = text.get(at..).filter(|body| body.starts_with(['{', '[', '"'])) {
        let mut stream = serde_json::Deserializer::from_str(body).into_iter::<Value>();
        let found = match stream.next() {
            Some(Ok(value)) => (calls_in(value), stream.byte_offset(), false),
            Some(Err(error)) if means_a_call(body) => {
                let extent = extent(body, close);
                match repaired(&body[..extent]) {
                    Some(value) => (calls_in(value), extent, true),
                    None if calls.is_empty() => return Taken::Broken(describe(&error)),
                    None => break,
                }
            }
            Some(Err(_)) | None => break,
        };
        let (found, length, repaired) = found;
        if found.is_empty() {
            // Whatever it is, nothing inside of it is a call.
            let past = if calls.is_empty() { at + length } else { at };
            return close_values(text, calls, past, end, close);
        }
        calls.extend(found.into_iter().map(|(name, arguments)| TextCall { name, arguments, repaired, in_tags }));
        end = at + length;
        let next = skip_space(text, end);
        at = skip_space(text, next + usize::from(text[next..].starts_with([',', ';'])));
    }
    close_values(text, calls, from, end, close)
}

fn close_values(text: &str, calls: Vec<TextCall>, past: usize, end: usize, close: &str) -> Taken {
    match calls.is_empty() {
        true => Taken::Nothing(past),
        false => Taken::Calls(calls, after(text, end, close)),
    }
}

fn python(text: &str, at: usize, close: &str) -> Option<Taken> {
    let at = skip_space(text, at);
    let (calls, length) = python_call::calls(text.get(at..)?)?;
    let is_known = |name: &str| tools::Tool::ALL.iter().any(|tool| tool.name() == json_call::plain_name(name));
    if !calls.iter().all(|(name, _)| is_known(name)) {
        return None;
    }
    let calls = calls.into_iter().map(|(name, arguments)| TextCall {
        name: json_call::plain_name(&name).to_owned(),
        arguments,
        repaired: false,
        in_tags: true,
    });
    Some(Taken::Calls(calls.collect(), after(text, at + length, close)))
}

/// A name and then its arguments; `None`: it is something else.
fn named(text: &str, at: usize, close: &str) -> Option<Taken> {
    let mut at = at;
    if let Some(rest) = text.get(at..)?.strip_prefix("function")
        && let Some(separator) = SEPARATORS.iter().find(|separator| rest.starts_with(**separator))
    {
        at += "function".len() + separator.len();
    }
    let rest = text.get(at..)?;
    let is_inside = |letter: char| letter.is_ascii_alphanumeric() || "_-.:".contains(letter);
    let length = rest.find(|letter| !is_inside(letter)).filter(|length| *length > 0)?;
    let name = json_call::plain_name(&rest[..length]).to_owned();
    let mut at = at + length;
    let line = text[at..].split('\n').next().unwrap_or_default();
    if let Some(end) = line.find(HARMONY_MESSAGE) {
        at += end + HARMONY_MESSAGE.len();
    } else if let Some(separator) =
        SEPARATORS.iter().find_map(|separator| Some(line.find(separator)? + separator.len()))
    {
        at += separator;
    }
    at = skip_space(text, at);
    for fence in ["```json", "```"] {
        if text[at..].starts_with(fence) {
            at = skip_space(text, at + fence.len());
        }
    }
    let body = text.get(at..).filter(|body| body.starts_with('{'))?;
    let mut stream = serde_json::Deserializer::from_str(body).into_iter::<Map<String, Value>>();
    match stream.next()? {
        Ok(arguments) => {
            let end = after(text, at + stream.byte_offset(), "```");
            let call = TextCall { name, arguments, repaired: false, in_tags: true };
            Some(Taken::Calls(vec![call], after(text, end, close)))
        }
        Err(error) => Some(Taken::Broken(describe(&error))),
    }
}

/// Broken JSON is worth an error only if it looks like a call and not like some other data: by its first key.
fn means_a_call(body: &str) -> bool {
    let inner = body.trim_start_matches(|letter: char| letter.is_whitespace() || "[{\"\\".contains(letter));
    let key: String = inner
        .trim_start_matches('\'')
        .chars()
        .take_while(|letter| letter.is_ascii_alphabetic() || *letter == '_')
        .collect();
    let keys =
        ["name", "tool", "tool_name", "function", "action", "arguments", "parameters", "tool_calls", "type", "id"];
    let window = body.get(..body.len().min(4_000)).unwrap_or(body);
    keys.contains(&key.as_str()) && ["arguments", "parameters", "args", "input"].iter().any(|key| window.contains(key))
}

/// Where a broken value ends: at its closing marker, or with the text.
fn extent(body: &str, close: &str) -> usize {
    match close {
        "" => body.len(),
        "```" | "~~~" => {
            body.match_indices(close).map(|(at, _)| at).find(|at| body[..*at].ends_with('\n')).unwrap_or(body.len())
        }
        tag => body.find(tag).unwrap_or(body.len()),
    }
}

/// The value of a text that is not strict JSON, in the two ways that the grammar names.
fn repaired(body: &str) -> Option<Value> {
    let escaped = escape(body);
    let json = serde_json::Deserializer::from_str(&escaped).into_iter::<Value>().next();
    json.and_then(Result::ok).or_else(|| python_call::literal(body))
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

fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.len() - rest.trim_start().len()
}

/// Behind the token, if it comes next but for white space; else where it was.
fn after(text: &str, at: usize, token: &str) -> usize {
    let next = skip_space(text, at);
    if !token.is_empty() && text[next..].starts_with(token) { next + token.len() } else { at }
}

fn describe(error: &serde_json::Error) -> String {
    format!("the call is no valid JSON ({error}); inside of texts write line ends as \\n and quotes as \\\"")
}
