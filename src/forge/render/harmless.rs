//! Text of users, models and programs, made harmless for issues, pull requests and commit messages.
//!
//! All of it passes [`neutralise`], so nothing is published that looks like a secret, or is one of ours.
//! Nothing in it acts: no reference, mention, link, image, tag or comment. It still reads as it was written, since what
//! breaks a sequence apart has no width.

use crate::logging;
use crate::outcome::printable;
use crate::weak::{self, Defence};

/// Breaks sequences apart and does not show: the zero-width space.
const BREAK: char = '\u{200b}';
/// Stands for `@`, which never appears: it would notify people wherever it were overlooked.
const AT: char = '\u{ff20}';

/// Makes a text harmless, line ends kept.
///
/// Broken apart are: tags and comments (`<x`, `<!--`, `-->`), references (`#7`, `owner/name#7`, `GH-7`, addresses of
/// issues), links, images and their definitions (`](`, `][`, `]:`, `://`, `www.`), and character references (`&#35;`).
/// `@` becomes its full-width twin. Secrets and what does not print are removed first, so that nothing hides between two
/// characters.
pub fn neutralise(text: &str) -> String {
    if weak::is_off(Defence::Neutralise) {
        return shown(text);
    }
    let characters: Vec<char> = shown(text).chars().collect();
    let mut harmless = String::with_capacity(characters.len() + 16);
    for (index, character) in characters.iter().copied().enumerate() {
        let before = |distance: usize| index.checked_sub(distance).and_then(|at| characters.get(at)).copied();
        let after = |distance: usize| characters.get(index + distance).copied();
        let is_before = |distance: usize, wanted: char| {
            before(distance).is_some_and(|character| character.eq_ignore_ascii_case(&wanted))
        };
        let next = after(1);
        if character == '>' && is_before(1, '-') && is_before(2, '-') {
            harmless.push(BREAK);
        }
        harmless.push(if character == '@' { AT } else { character });
        let acts = match character {
            '#' => next.is_some_and(char::is_numeric),
            '<' => next.is_some_and(|next| next.is_alphabetic() || matches!(next, '/' | '!' | '?')),
            '&' => next.is_some_and(|next| next.is_ascii_alphanumeric() || next == '#'),
            ']' => matches!(next, Some('(' | '[' | ':')),
            ':' => next == Some('/') && after(2) == Some('/'),
            '-' => is_before(1, 'h') && is_before(2, 'g') && next.is_some_and(char::is_numeric),
            'w' | 'W' => next.is_none_or(|next| next == '.') && is_before(1, 'w') && is_before(2, 'w'),
            _ => false,
        };
        if acts {
            harmless.push(BREAK);
        }
    }
    harmless
}

/// A fenced block that nothing in the text can end. `info` is the language, ours and not the text's.
pub fn fenced(text: &str, info: &str) -> String {
    fenced_within(text, usize::MAX, info)
}

/// The same, of at most `limit` characters of the text.
pub(super) fn fenced_within(text: &str, limit: usize, info: &str) -> String {
    let text = shortened(neutralise(text), limit);
    let longest = if weak::is_off(Defence::Fences) { 0 } else { longest_run(&text) };
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{info}\n{}\n{fence}", text.trim_end_matches('\n'))
}

/// A block quote: headings, tables and open fences in it stay in it, and nobody takes them for ours.
pub(super) fn quoted(text: &str, limit: usize) -> String {
    let text = shortened(neutralise(beginning(text.trim(), limit)), limit);
    text.lines().map(|line| format!("> {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// One line of at most `limit` characters.
pub(super) fn line(text: &str, limit: usize) -> String {
    let spaced = shown(&beginning(text, limit).replace(['\n', '\r', '\t'], " "));
    let single = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    shortened(neutralise(&single), limit)
}

/// A code span of one line, which also fits into a table's cell: there a bar needs a backslash, and a backslash before
/// the bar would undo it.
pub(super) fn code(text: &str, limit: usize) -> String {
    let text = line(text, limit).replace("\\|", "\u{2216}|").replace('|', "\\|");
    if text.is_empty() {
        return "(empty)".into();
    }
    let ticks = "`".repeat(longest_run(&text) + 1);
    let space = if text.contains('`') { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}

/// What prints of a text, without secrets: those that it holds as it is, for an escape sequence may swallow what they are
/// known by, and those that show only when what does not print is gone.
fn shown(text: &str) -> String {
    logging::redacted(&printable(&logging::redacted(text)))
}

/// At most `limit` characters, the last of them an ellipsis if some were cut.
fn shortened(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text,
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// As much of a text as can matter for its first `limit` shown characters: what follows need not be looked at.
fn beginning(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit.saturating_mul(16)).map_or(text, |(cut, _)| &text[..cut])
}

/// The length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}
