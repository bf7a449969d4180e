//! HTML comments: hidden from the people who read the issue, so hidden from the model too.

use serde_json::{Map, Value};

const OPEN: &str = "<!--";
const CLOSE: &str = "-->";
const METADATA: &str = "agent_task_metadata";

/// Removes every HTML comment, wherever it stands; the result holds no `<!--`.
///
/// Fences and code spans do not protect a comment: what counts as one differs between readers of Markdown, and a
/// difference would be a place to hide text. A comment that is never closed takes the rest with it, as it does on the
/// issue's page. Comments that only appear once another is gone are removed too. Unicode's tag characters, which show
/// nothing and can spell out a text, go the same way.
pub fn remove_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        if is_tag_character(character) {
            continue;
        }
        kept.push(character);
        if character == '-' && kept.ends_with(OPEN) {
            kept.truncate(kept.len() - OPEN.len());
            rest = rest.find(CLOSE).map_or("", |close| &rest[close + CLOSE.len()..]);
        }
    }
    kept
}

/// The first metadata comment that holds a JSON object with a text `task_id`.
///
/// The object ends where JSON says, not at the first `-->`: a text inside it can hold that.
pub(super) fn first_metadata(text: &str) -> Option<Map<String, Value>> {
    let mut from = 0;
    while let Some(found) = text[from..].find(OPEN) {
        from += found + OPEN.len();
        let object = metadata_after_open(&text[from..]).filter(|object| text_of(object, "task_id").is_some());
        if object.is_some() {
            return object;
        }
    }
    None
}

/// Where the last metadata comment begins, whatever it holds.
pub(super) fn last_metadata_start(text: &str) -> Option<usize> {
    let mut until = text.len();
    while let Some(found) = text[..until].rfind(OPEN) {
        if text[found + OPEN.len()..].trim_start().starts_with(METADATA) {
            return Some(found);
        }
        until = found;
    }
    None
}

/// The object in the metadata comment that `text` begins with.
pub(super) fn metadata_at_start(text: &str) -> Option<Map<String, Value>> {
    metadata_after_open(text.strip_prefix(OPEN)?)
}

/// A text member of a metadata object; `None` if it is missing, blank or no text.
pub(super) fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn metadata_after_open(text: &str) -> Option<Map<String, Value>> {
    let rest = text.trim_start().strip_prefix(METADATA)?;
    let json = rest.trim_start();
    if json.len() == rest.len() || !json.starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Map<String, Value>>();
    let object = values.next()?.ok()?;
    json[values.byte_offset()..].trim_start().starts_with(CLOSE).then_some(object)
}

fn is_tag_character(character: char) -> bool {
    ('\u{E0000}'..='\u{E007F}').contains(&character)
}
