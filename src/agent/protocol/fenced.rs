//! Commands and edits in fenced blocks: a protocol whose bodies are never inside of JSON. Pure; never panics.
//!
//! ```text
//! reply   := ( thoughts | prose | block )* [ done ] [ made-up ]
//! block   := fence info newline body fence       as in `fences`; the last block of a reply may lack its end, unless the
//!                                                reply was cut
//! command := info "bash" | "sh" | "shell" | "zsh" | "console" | "terminal"
//! edit    := body with "<<<<<<< SEARCH" ... "=======" ... ">>>>>>> REPLACE", or info "diff" | "patch", or a body that
//!            begins as a diff does
//! write   := info "write" path                    the whole file
//! path    := in the info ("edit src/a.py"), or alone on the line before the block
//! done    := a line "DONE" [ ":" summary ]; the summary goes on to the end of the reply or the next block
//! ```
//!
//! A fence inside of a here-document, of a quote or of a SEARCH/REPLACE piece is part of the body. Several blocks are taken
//! in order, up to [`MOST_BLOCKS`]; reading ends at one that cannot be what it says it is or whose end cannot be told
//! ([`Said::broken`]), and at a line with which a model begins to make up the answer. Other blocks (code that is talked about) are prose. In a `console` block, or
//! where each line begins with `$ `, only those lines are the command.
//!
//! The calls are those of `run`, `patch`, `write` and `finish`.

use serde_json::{Map, Value};

use super::fences::{self, Block, Body, End, Head, Text};
use super::naming::path_of;
use super::text_call::is_foreign_line;
use super::{Said, TextCall, thinking};
use crate::agent::edit::PieceEnd;

/// More blocks than this are not taken from one reply.
pub const MOST_BLOCKS: usize = 12;
const SHELLS: [&str; 6] = ["bash", "sh", "shell", "zsh", "console", "terminal"];
const UNSURE: &str = "where its block ends cannot be told: put a fence around it that is longer than any inside of it, and \
                      write one block in a reply";

/// What a block wants.
enum Wanted {
    Call(TextCall),
    Prose,
    Broken(String),
}

/// Reads a reply; `was_cut`: the server ended it at a limit, or it is still coming.
pub fn read(content: &str, was_cut: bool) -> Said {
    let text = thinking::without_thinking(content);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let bare: Vec<&str> = lines.iter().map(|line| line.trim_end_matches(['\n', '\r'])).collect();
    let blocks = fences::blocks(&bare, body_of);
    let mut said = Said::default();
    let mut prose: Vec<&str> = Vec::new();
    let (mut at, mut next_block, mut own_end) = (0, 0, text.len());
    while let Some(line) = lines.get(at) {
        if let Some(block) = blocks.get(next_block).filter(|block| block.lines.start == at) {
            next_block += 1;
            at = block.lines.end;
            match want(block, &blocks[next_block..], was_cut) {
                Wanted::Call(call) => said.calls.push(call),
                Wanted::Prose => {}
                Wanted::Broken(reason) => {
                    said.broken = Some(reason);
                    break;
                }
            }
            if said.calls.len() >= MOST_BLOCKS {
                break;
            }
            continue;
        }
        if is_foreign_line(line) && !said.calls.is_empty() {
            own_end = lines[..at].iter().map(|line| line.len()).sum();
            break;
        }
        if let Some(summary) = done(line) {
            let (summary, next) = whole_summary(summary, &lines, at + 1);
            said.calls.push(call("finish", [("summary", summary)]));
            own_end = lines[..next].iter().map(|line| line.len()).sum();
            break;
        }
        prose.push(line.trim_end());
        at += 1;
    }
    said.prose = prose.join("\n").trim().to_owned();
    said.own = text[..own_end].trim().to_owned();
    said
}

/// Whether a line can close a block.
pub(super) fn is_close(line: &str) -> bool {
    fences::info_of(line) == Some("")
}

/// What a block says that it is.
fn body_of(head: &Head<'_>, body: &[&str]) -> Body {
    let language = language_of(head);
    let first = body.iter().map(|line| line.trim()).find(|line| !line.is_empty()).unwrap_or_default();
    if language == "write" && PieceEnd::of(first).is_none() {
        let is_script = path_of_block(head).is_some_and(|path| path.ends_with(".sh") || path.ends_with(".bash"));
        return if is_script { Body::Command } else { Body::File };
    }
    if matches!(language.as_str(), "edit" | "diff" | "patch") || PieceEnd::of(first).is_some() || begins_a_diff(body) {
        return Body::Edit;
    }
    match (is_shell(&language), is_session(&language, body)) {
        (true, true) => Body::Plain,
        (true, false) => Body::Command,
        (false, _) => Body::Other,
    }
}

fn want(block: &Block<'_>, later: &[Block<'_>], was_cut: bool) -> Wanted {
    let language = language_of(&block.head);
    let path = path_of_block(&block.head);
    let has_piece = || block.body.iter().any(|line| PieceEnd::of(line).is_some());
    let is_missing = was_cut && block.end != End::Closed;
    let cut = || Wanted::Broken("the last block has no end, so it was not taken".into());
    match block.kind {
        Body::File | Body::Command if language == "write" && is_missing => cut(),
        Body::File | Body::Command if language == "write" => write(block, later, path, was_cut),
        Body::Command | Body::Plain if is_missing => cut(),
        Body::Command | Body::Plain => command(block, &language),
        Body::Edit if language == "write" => Wanted::Broken(
            "a block with the lines to search for needs the word edit, not write, before its path".into(),
        ),
        Body::Edit | Body::Other if has_piece() && is_missing => cut(),
        Body::Edit | Body::Other if has_piece() => edit(block, path),
        Body::Edit if is_missing => cut(),
        Body::Edit if language == "edit" => {
            Wanted::Broken("an edit needs the lines to search for and those to put there, with their markers".into())
        }
        // Lines of a diff may be fences, too, where their marks were forgotten.
        Body::Edit if later.iter().any(|later| later.head.info.is_empty()) => Wanted::Broken(UNSURE.into()),
        Body::Edit => patch(block, path),
        Body::File | Body::Other => Wanted::Prose,
    }
}

fn write(block: &Block<'_>, later: &[Block<'_>], path: Option<String>, was_cut: bool) -> Wanted {
    let Some(path) = path else {
        return Wanted::Broken("a block that writes a file needs its path behind the word write".into());
    };
    let is_other = |block: &Block<'_>| {
        matches!(language_of(&block.head).as_str(), "write" | "edit") && path_of_block(&block.head).is_some()
    };
    match fences::is_sure(&path, block, later, is_other, was_cut) {
        true => Wanted::Call(call("write", [("path", path), ("content", block.content())])),
        false => Wanted::Broken(format!("{path} was not written: {UNSURE}")),
    }
}

fn edit(block: &Block<'_>, path: Option<String>) -> Wanted {
    let mut end = None;
    for line in &block.body {
        end = match end {
            None => PieceEnd::of(line),
            Some(end) if PieceEnd::is_at(end, line) => None,
            Some(end) => Some(end),
        };
    }
    match end {
        Some(_) => Wanted::Broken("the last edit has no end, so it was not taken".into()),
        None => patch(block, path),
    }
}

fn patch(block: &Block<'_>, path: Option<String>) -> Wanted {
    let text = block.content();
    match path {
        Some(path) => Wanted::Call(call("patch", [("text", text), ("path", path)])),
        None => Wanted::Call(call("patch", [("text", text)])),
    }
}

fn command(block: &Block<'_>, language: &str) -> Wanted {
    let prompted = || block.body.iter().filter_map(|line| line.trim_start().strip_prefix("$ "));
    let lines: Vec<&str> = match is_session(language, &block.body) {
        true => prompted().collect(),
        false => block.body.clone(),
    };
    if lines.iter().all(|line| line.trim().is_empty()) {
        return Wanted::Broken("the block holds no command".into());
    }
    // The end of a here-document that never comes would be waited for, or the text be cut.
    match (fences::open_text(lines.iter().copied()), &block.end) {
        (Some(Text::Document(end)), _) => Wanted::Broken(format!(
            "the text that the command holds has no line {end} at its end, which stands there alone, without spaces"
        )),
        (Some(Text::Quote), _) => Wanted::Broken("a quote that the command opens is not closed".into()),
        (None, End::Uneven | End::In(_)) => Wanted::Broken(UNSURE.into()),
        (None, End::Closed | End::Missing) => {
            Wanted::Call(call("run", [("command", lines.join("\n").trim_end().to_owned())]))
        }
    }
}

/// Whether a block shows commands behind prompts, and maybe what they print.
fn is_session(language: &str, body: &[&str]) -> bool {
    let has_prompt = |line: &&str| line.trim_start().starts_with("$ ");
    let filled = || body.iter().take_while(|line| !is_close(line)).filter(|line| !line.trim().is_empty());
    filled().next().is_some_and(has_prompt) && (!matches!(language, "bash" | "sh") || filled().all(has_prompt))
}

fn call<const N: usize>(name: &str, arguments: [(&str, String); N]) -> TextCall {
    let arguments = arguments.into_iter().map(|(key, text)| (key.to_owned(), Value::String(text)));
    TextCall { name: name.into(), arguments: Map::from_iter(arguments), repaired: false, in_tags: true }
}

/// The first word of a block's info, in lower case.
fn language_of(head: &Head<'_>) -> String {
    head.info.split_whitespace().next().unwrap_or_default().to_ascii_lowercase()
}

/// In the info, or alone on the line before the block.
fn path_of_block(head: &Head<'_>) -> Option<String> {
    let (first, rest) = head.info.split_once(char::is_whitespace).unwrap_or((head.info, ""));
    let in_info = [rest.trim(), first.rsplit(':').next().unwrap_or_default()].into_iter().find_map(path_of);
    in_info.or_else(|| path_of(head.naming))
}

fn is_shell(language: &str) -> bool {
    SHELLS.contains(&language)
}

fn begins_a_diff(body: &[&str]) -> bool {
    let second = body.get(1).copied().unwrap_or_default();
    body.first().is_some_and(|line| {
        line.starts_with("diff --git ")
            || line.starts_with("*** Begin Patch")
            || line.starts_with("--- ") && second.starts_with("+++ ")
            || line.starts_with("@@ ") && line.trim_end().ends_with("@@")
    })
}

/// What stands behind `DONE`.
fn done(line: &str) -> Option<&str> {
    let text = line.trim().trim_start_matches(['#', '*', ' ']).trim_end_matches('*');
    let rest = text.strip_prefix("DONE")?.trim_start_matches('*');
    match rest.strip_prefix([':', '.', '!']) {
        Some(summary) => Some(summary.trim_start_matches(['*', ' '])),
        None => rest.trim().is_empty().then_some(""),
    }
}

/// The summary up to the next block or the end, and the line behind it.
fn whole_summary(first: &str, lines: &[&str], from: usize) -> (String, usize) {
    let stops = |line: &&str| fences::fence_of(line).is_some() || is_foreign_line(line);
    let next = lines.iter().skip(from).position(stops).map_or(lines.len(), |count| from + count);
    let rest: String = lines.get(from..next).unwrap_or_default().concat();
    let summary = format!("{first}\n{rest}").trim().to_owned();
    (if summary.is_empty() { "Done.".into() } else { summary }, next)
}
