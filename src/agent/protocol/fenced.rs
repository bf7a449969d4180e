//! Commands and edits in fenced blocks: a protocol whose bodies are never inside of JSON. Pure; never panics.
//!
//! ```text
//! reply   := ( thoughts | prose | block )* [ done ] [ made-up ]
//! block   := fence info newline body fence       the last block of a reply may lack its end, unless the reply was cut
//! fence   := at least three "`" or "~"; the end has as many at least, and nothing else
//! command := info "bash" | "sh" | "shell" | "zsh" | "console" | "terminal"
//! edit    := body with "<<<<<<< SEARCH" ... "=======" ... ">>>>>>> REPLACE", or info "diff" | "patch", or a body that
//!            begins as a diff does
//! write   := info "write" path                    the whole file
//! path    := in the info ("edit src/a.py"), or alone on the line before the block
//! done    := a line "DONE" [ ":" summary ]; the summary goes on to the end of the reply or the next block
//! ```
//!
//! A fence inside of a here-document or of a SEARCH/REPLACE piece is part of the body. Several blocks are taken in order,
//! up to [`MOST_BLOCKS`]; reading ends at one that cannot be what it says it is ([`Said::broken`]), and at a line with
//! which a model begins to make up the answer. Other blocks (code that is talked about) are prose. In a `console` block, or
//! where each line begins with `$ `, only those lines are the command.
//!
//! The calls are those of `run`, `patch`, `write` and `finish`.

use serde_json::{Map, Value};

use super::text_call::is_foreign_line;
use super::{Said, TextCall, thinking};

/// More blocks than this are not taken from one reply.
pub const MOST_BLOCKS: usize = 12;
/// The longest line that is looked at for a path.
const LONGEST_PATH: usize = 300;
const SHELLS: [&str; 6] = ["bash", "sh", "shell", "zsh", "console", "terminal"];
const SEARCH: &str = "<<<<<<<";
const REPLACE: &str = ">>>>>>>";

/// A block as it stands.
struct Block<'a> {
    /// What stands behind the opening fence.
    info: &'a str,
    body: Vec<&'a str>,
    is_closed: bool,
}

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
    let mut said = Said::default();
    let mut prose: Vec<&str> = Vec::new();
    let mut naming = "";
    let (mut at, mut own_end) = (0, text.len());
    while let Some(line) = lines.get(at) {
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
        let Some((fence, info)) = fence_of(line) else {
            prose.push(line.trim_end());
            naming = if line.trim().is_empty() { naming } else { line };
            at += 1;
            continue;
        };
        let (block, next) = block(&lines, at + 1, fence, info);
        at = next;
        match want(&block, naming, was_cut) {
            Wanted::Call(call) => said.calls.push(call),
            Wanted::Prose => {}
            Wanted::Broken(reason) => {
                said.broken = Some(reason);
                break;
            }
        }
        naming = "";
        if said.calls.len() >= MOST_BLOCKS {
            break;
        }
    }
    said.prose = prose.join("\n").trim().to_owned();
    said.own = text[..own_end].trim().to_owned();
    said
}

/// Whether a line can close a block.
pub(super) fn is_close(line: &str) -> bool {
    fence_of(line).is_some_and(|(_, info)| info.is_empty())
}

/// A fence's character and length, and what stands behind it.
fn fence_of(line: &str) -> Option<((char, usize), &str)> {
    let line = line.trim();
    let character = line.chars().next().filter(|character| matches!(character, '`' | '~'))?;
    let info = line.trim_start_matches(character);
    let length = line.len() - info.len();
    let is_inline = character == '`' && info.contains('`');
    (length >= 3 && !is_inline).then_some(((character, length), info.trim()))
}

/// The block whose body begins at line `from`, and the line behind it.
fn block<'a>(lines: &[&'a str], from: usize, (character, length): (char, usize), info: &'a str) -> (Block<'a>, usize) {
    let mut body = Vec::new();
    let mut in_piece = false;
    let mut document: Option<String> = None;
    for (at, line) in lines.iter().enumerate().skip(from) {
        let bare = line.trim_end_matches(['\n', '\r']);
        let closes =
            fence_of(bare).is_some_and(|((own, count), info)| own == character && count >= length && info.is_empty());
        if closes && !in_piece && document.is_none() {
            return (Block { info, body, is_closed: true }, at + 1);
        }
        in_piece = (in_piece || bare.starts_with(SEARCH)) && !bare.starts_with(REPLACE);
        document = match document {
            Some(end) if bare.trim() == end => None,
            Some(end) => Some(end),
            None if is_shell(info) => here_document(bare),
            None => None,
        };
        body.push(bare);
    }
    (Block { info, body, is_closed: false }, lines.len())
}

/// The word that ends the here-document that a line begins.
fn here_document(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("<<")?;
    // `<<<` is a text, and `a << b` a shift.
    if rest.starts_with(['<', ' ', '=']) || before.ends_with(|letter: char| letter == '<' || letter.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start_matches('-').trim_start_matches(['\'', '"', '\\']);
    let word: String = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn want(block: &Block<'_>, naming: &str, was_cut: bool) -> Wanted {
    let (first, rest) = block.info.split_once(char::is_whitespace).unwrap_or((block.info, ""));
    let language = first.to_ascii_lowercase();
    let in_info = [rest.trim(), first.rsplit(':').next().unwrap_or_default()].into_iter().find_map(path_in);
    let path = in_info.or_else(|| path_in(naming));
    let has_piece = block.body.iter().any(|line| line.starts_with(SEARCH));
    let is_diff = matches!(language.as_str(), "diff" | "patch") || begins_a_diff(&block.body);
    let is_wanted = is_shell(&language) || has_piece || is_diff || matches!(language.as_str(), "edit" | "write");
    if !is_wanted {
        return Wanted::Prose;
    }
    if !block.is_closed && was_cut {
        return Wanted::Broken("the last block has no end, so it was not taken".into());
    }
    let body: String = block.body.iter().flat_map(|line| [line, "\n"]).collect();
    match (has_piece, is_diff, language.as_str()) {
        (true, ..) => match (path, block.body.iter().any(|line| line.starts_with(REPLACE))) {
            (_, false) => Wanted::Broken("the last edit has no end, so it was not taken".into()),
            (Some(path), true) => Wanted::Call(call("patch", [("text", body), ("path", path)])),
            (None, true) => Wanted::Call(call("patch", [("text", body)])),
        },
        (false, true, _) => match path {
            Some(path) => Wanted::Call(call("patch", [("text", body), ("path", path)])),
            None => Wanted::Call(call("patch", [("text", body)])),
        },
        (false, false, "write") => match path {
            Some(path) => Wanted::Call(call("write", [("path", path), ("content", body)])),
            None => Wanted::Broken("a block that writes a file needs its path behind the word write".into()),
        },
        (false, false, "edit") => {
            Wanted::Broken("an edit needs the lines to search for and those to put there, with their markers".into())
        }
        (false, false, _) => command(block),
    }
}

fn command(block: &Block<'_>) -> Wanted {
    let prompted: Vec<&str> = block.body.iter().filter_map(|line| line.trim_start().strip_prefix("$ ")).collect();
    let lines = block.body.iter().filter(|line| !line.trim().is_empty()).count();
    let is_session = !prompted.is_empty() && (prompted.len() == lines || !matches!(block.info, "bash" | "sh"));
    let command = if is_session { prompted.join("\n") } else { block.body.join("\n") };
    if command.trim().is_empty() {
        return Wanted::Broken("the block holds no command".into());
    }
    // The end of a here-document that never comes would be waited for, or the text be cut.
    let mut document = None;
    for line in &block.body {
        document = match document {
            Some(end) if line.trim() == end => None,
            Some(end) => Some(end),
            None => here_document(line),
        };
    }
    match document {
        Some(end) => Wanted::Broken(format!("the text that the command holds has no line {end} at its end")),
        None => Wanted::Call(call("run", [("command", command.trim_end().to_owned())])),
    }
}

fn call<const N: usize>(name: &str, arguments: [(&str, String); N]) -> TextCall {
    let arguments = arguments.into_iter().map(|(key, text)| (key.to_owned(), Value::String(text)));
    TextCall { name: name.into(), arguments: Map::from_iter(arguments), repaired: false, in_tags: true }
}

fn is_shell(info: &str) -> bool {
    SHELLS.contains(&info.split_whitespace().next().unwrap_or_default().to_ascii_lowercase().as_str())
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

/// The path that a line is, but for what people put around it.
fn path_in(line: &str) -> Option<String> {
    let text = line.trim().trim_start_matches(['#', '-', '*', ' ']);
    let text =
        ["File:", "file:", "Path:", "path:"].into_iter().find_map(|label| text.strip_prefix(label)).unwrap_or(text);
    let text = text.trim().trim_matches(['`', '*', '"', '\'', ':', ' ']);
    let is_inside = |letter: char| letter.is_alphanumeric() || "_-./+@".contains(letter);
    let looks_so =
        text.contains(['.', '/']) || matches!(text, "Makefile" | "Dockerfile" | "Gemfile" | "Rakefile" | "LICENSE");
    let is_path = !text.is_empty() && text.len() <= LONGEST_PATH && text.chars().all(is_inside) && looks_so;
    is_path.then(|| text.to_owned())
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
    let stops = |line: &&str| fence_of(line).is_some() || is_foreign_line(line);
    let next = lines.iter().skip(from).position(stops).map_or(lines.len(), |count| from + count);
    let rest: String = lines.get(from..next).unwrap_or_default().concat();
    let summary = format!("{first}\n{rest}").trim().to_owned();
    (if summary.is_empty() { "Done.".into() } else { summary }, next)
}
