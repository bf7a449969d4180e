//! Thoughts in a reply. Pure; never panics.
//!
//! ```text
//! reply := [ thoughts close ] ( open thoughts close )* answer
//! open  := "<think>" | "<thinking>" | "<thought>" | "<reasoning>" | "<seed:think>" | "[THINK]" | "◁think▷"
//!        | "<|channel|>analysis<|message|>"
//! close := the end that belongs to it
//! ```
//!
//! Templates that open the block themselves leave only its end in the reply. Such an end counts where a line ends behind
//! it, or where nothing before it looks like a call: a call may well write a file that holds these words. A block without
//! its end has all the rest.

/// How thoughts begin and end.
const BLOCKS: [(&str, &str); 8] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
];
/// What an answer that holds a call has before the call's texts.
const SIGNS_OF_A_CALL: [&str; 4] = ["{\"", "```", "<function", "<tool_call>"];
/// More blocks than this are not looked at: hostile text stays cheap.
const MOST_BLOCKS: usize = 64;

/// The reply without its thoughts.
pub fn without_thinking(content: &str) -> &str {
    split(content).1
}

/// The thoughts of a reply that never end, if it has such.
pub(super) fn open_thoughts(content: &str) -> Option<&str> {
    match split(content) {
        (thoughts, "") if !thoughts.is_empty() => Some(thoughts),
        _ => None,
    }
}

/// Where the block of thoughts that `text` begins with ends; `None`: it begins with none.
pub(super) fn block(text: &str) -> Option<usize> {
    let (open, close) = BLOCKS.into_iter().find(|(open, _)| text.starts_with(open))?;
    Some(text[open.len()..].find(close).map_or(text.len(), |at| open.len() + at + close.len()))
}

/// The beginnings of blocks.
pub(super) fn openings() -> impl Iterator<Item = &'static str> {
    BLOCKS.into_iter().map(|(open, _)| open)
}

/// The thoughts that never end, and the answer.
fn split(content: &str) -> (&str, &str) {
    let mut rest = content;
    if let Some(end) = BLOCKS.into_iter().filter_map(|(open, close)| end_alone(content, open, close)).max() {
        rest = &content[end..];
    }
    for _ in 0..MOST_BLOCKS {
        rest = rest.trim_start();
        let Some(end) = block(rest) else { break };
        if end == rest.len() && !BLOCKS.iter().any(|(_, close)| rest.ends_with(close)) {
            return (rest, "");
        }
        rest = &rest[end..];
    }
    ("", rest.trim())
}

fn end_alone(content: &str, open: &str, close: &str) -> Option<usize> {
    let (thoughts, answer) = content.split_once(close)?;
    let ends_line = answer.trim_start_matches([' ', '\t', '\r']);
    let ends_line = ends_line.is_empty() || ends_line.starts_with('\n');
    let is_the_end = ends_line || !SIGNS_OF_A_CALL.iter().any(|sign| thoughts.contains(sign));
    (is_the_end && !thoughts.contains(open)).then(|| content.len() - answer.len())
}

/// The content without the reasoning that the server delivered apart from it and then once more.
pub fn without_repeated<'a>(content: &'a str, reasoning: &str) -> &'a str {
    let reasoning = reasoning.trim();
    if reasoning.is_empty() {
        return content;
    }
    content.trim_start().strip_prefix(reasoning).unwrap_or(content)
}
