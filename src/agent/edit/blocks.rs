//! Reading blocks with a search and a replace part.
//!
//! ```text
//! text     := ( prose | fence | block )*
//! block    := search hint* line* divider line* replace
//! search   := 5..9 "<" [ " " ] ( "SEARCH" | "ORIGINAL" ) [ ">" ] [ path ]        or 5..9 "-" " SEARCH"
//! hint     := ":start_line:" number | ":end_line:" number | 5..9 "-"             only directly behind search
//! divider  := 5..9 "="
//! replace  := 5..9 ">" [ " " ] [ "REPLACE" | "UPDATED" ]                         or 5..9 "+" " REPLACE"
//! fence    := at least three "`" or "~" [ info ]
//! ```
//!
//! Where several dividers stand in a block, the one with as many characters as its search marker counts; if there is not
//! exactly one, the block is refused. What stands before the search marker in its line is taken off each line of the block
//! that begins with it. A fence around both parts, each by itself, is no part of them, but in Markdown files.
//!
//! A block's file is the first of these that names one: its search marker; the info of the fence around it; the last line
//! before it, alone or as the only path of its last sentence; the block before it. Lines of an empty search part make a
//! new file.

use super::super::protocol::fences::info_of;
use super::super::protocol::naming::{alone, path_in_info, path_in_sentence, path_of};
use super::{Change, FileEdit, Hunk, Line, LineKind, Order, Unreadable, diff, envelope};

/// A block's marks, by how they begin.
const MARKS: [(char, char); 2] = [('<', '>'), ('-', '+')];

/// Whether a text has a block, closed or not.
pub(super) fn has_one(text: &str) -> bool {
    text.lines().any(|line| opening(line).is_some())
}

pub(super) fn read(text: &str) -> Result<Vec<FileEdit>, Unreadable> {
    let lines: Vec<&str> = text.lines().collect();
    let mut edits = Vec::new();
    let mut naming = Naming::default();
    let mut at = 0;
    while at < lines.len() {
        let Some(open) = opening(lines[at]) else {
            if diff::is_hunk_header(lines[at]) || envelope::is_header(lines[at]) {
                return Err(Unreadable::TwoFormats);
            }
            naming.see(lines[at]);
            at += 1;
            continue;
        };
        let end = (at + 1..lines.len()).find(|line| opening(lines[*line]).is_some() || open.end.is_at(lines[*line]));
        let Some(end) = end.filter(|end| open.end.is_at(lines[*end])) else {
            return Err(Unreadable::Cut { line: end.unwrap_or(lines.len()), what: "a block has no end mark" });
        };
        let path = open.path.clone().or_else(|| naming.path());
        let hunk = open.hunk(at, &lines[at + 1..end], path.as_deref())?;
        naming.used(path.clone());
        let change = Change::Update { hunks: vec![hunk], order: Order::Any, move_to: None };
        edits.push(FileEdit { path, change });
        at = end + 1;
    }
    Ok(edits)
}

/// What names the file of the next block.
#[derive(Default)]
struct Naming {
    /// From the info of the fence that is open.
    info: Option<String>,
    /// The last line with text since the last block.
    line: String,
    /// Of the block before.
    previous: Option<String>,
}

impl Naming {
    fn see(&mut self, line: &str) {
        match info_of(line) {
            Some("") => self.info = None,
            Some(info) => self.info = path_in_info(info),
            None if line.trim().is_empty() => {}
            None => self.line = line.to_owned(),
        }
    }

    fn path(&self) -> Option<String> {
        let from_line = || path_of(&self.line).or_else(|| path_in_sentence(&self.line));
        self.info.clone().or_else(from_line).or_else(|| self.previous.clone())
    }

    fn used(&mut self, path: Option<String>) {
        self.line.clear();
        self.previous = path;
    }
}

/// What ends a block that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) struct PieceEnd(char);

impl PieceEnd {
    /// The end of the block that a line begins, if it begins one.
    pub(in crate::agent) fn of(line: &str) -> Option<Self> {
        opening(line).map(|opening| opening.end)
    }

    pub(in crate::agent) fn is_at(self, line: &str) -> bool {
        let Some((_, rest)) = marked(line.trim(), self.0) else { return false };
        let word = rest.trim();
        matches!(word, "REPLACE" | "UPDATED") || word.is_empty() && self.0 == '>'
    }
}

/// A search marker.
struct Opening<'a> {
    /// What stands before it.
    indentation: &'a str,
    length: usize,
    end: PieceEnd,
    path: Option<String>,
}

/// How many of a mark a line begins with, if it is a number that a marker has; and the rest of the line.
fn marked(line: &str, mark: char) -> Option<(usize, &str)> {
    let rest = line.trim_start_matches(mark);
    let length = line.len() - rest.len();
    (5..=9).contains(&length).then_some((length, rest))
}

fn opening(line: &str) -> Option<Opening<'_>> {
    let body = line.trim_start();
    let indentation = &line[..line.len() - body.len()];
    MARKS.into_iter().find_map(|(mark, closing)| {
        let (length, rest) = marked(body, mark)?;
        let rest = rest.trim_start_matches(' ');
        let rest = rest.strip_prefix("SEARCH").or_else(|| rest.strip_prefix("ORIGINAL").filter(|_| mark == '<'))?;
        let rest = rest.strip_prefix('>').unwrap_or(rest).trim();
        let path = if rest.is_empty() { None } else { Some(alone(rest)?) };
        Some(Opening { indentation, length, end: PieceEnd(closing), path })
    })
}

impl Opening<'_> {
    /// The block's hunk; `at`: the line, from 0, of its search marker.
    fn hunk(&self, at: usize, body: &[&str], path: Option<&str>) -> Result<Hunk, Unreadable> {
        let hints = hints_in(body);
        let line = body[..hints].iter().find_map(|line| line.strip_prefix(":start_line:")?.trim().parse().ok());
        let body = &body[hints..];
        let dividers = || (0..body.len()).filter_map(|line| Some((line, divider(body[line])?)));
        let all: Vec<usize> = dividers().map(|(line, _)| line).collect();
        let same: Vec<usize> = dividers().filter(|(_, length)| *length == self.length).map(|(line, _)| line).collect();
        let divider = match (&all[..], &same[..]) {
            ([one], _) | (_, [one]) => *one,
            ([], _) => {
                return Err(Unreadable::Malformed { line: at + 1, what: "a block has no line of = between its parts" });
            }
            (_, _) => {
                let what = "a block has several lines of =; use marks of another length, 9 characters each";
                return Err(Unreadable::Malformed { line: at + 1, what });
            }
        };
        let old = self.part(&body[..divider]);
        let new = self.part(&body[divider + 1..]);
        let is_markdown = path.is_some_and(|path| path.to_ascii_lowercase().ends_with(".md"));
        let (old, new) = match (unfenced(&old), unfenced(&new)) {
            (Some(old), Some(new)) if !is_markdown => (old, new),
            _ => (&old[..], &new[..]),
        };
        if old.is_empty() {
            let lines = new.iter().map(|text| Line { kind: LineKind::Add, text: (*text).to_owned() });
            return Ok(Hunk { lines: lines.collect(), ..Hunk::default() });
        }
        Ok(Hunk { line, ..Hunk::of_texts(old, new) })
    }

    /// The lines without the indentation that the markers have, if each has it.
    fn part<'a>(&self, lines: &[&'a str]) -> Vec<&'a str> {
        let has_it = |line: &&str| line.trim().is_empty() || line.starts_with(self.indentation);
        match lines.iter().all(has_it) {
            true => lines.iter().map(|line| line.strip_prefix(self.indentation).unwrap_or_default()).collect(),
            false => lines.to_vec(),
        }
    }
}

fn divider(line: &str) -> Option<usize> {
    let (length, rest) = marked(line.trim(), '=')?;
    rest.is_empty().then_some(length)
}

/// How many lines at the beginning of a block are hints.
fn hints_in(body: &[&str]) -> usize {
    if !body.first().is_some_and(|line| line.starts_with(":start_line:")) {
        return 0;
    }
    let is_hint = |line: &&&str| line.starts_with(":start_line:") || line.starts_with(":end_line:");
    let hints = body.iter().take_while(is_hint).count();
    let has_rule =
        body.get(hints).is_some_and(|line| marked(line.trim_end(), '-').is_some_and(|(_, rest)| rest.is_empty()));
    hints + usize::from(has_rule)
}

/// The lines within a fence that is around all of them; an empty part needs none.
fn unfenced<'a, 'b>(lines: &'b [&'a str]) -> Option<&'b [&'a str]> {
    match lines {
        [] => Some(lines),
        [first, inner @ .., last] if info_of(first).is_some() && info_of(last) == Some("") => Some(inner),
        [_, ..] => None,
    }
}
