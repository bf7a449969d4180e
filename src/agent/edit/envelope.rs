//! Reading patch envelopes.
//!
//! ```text
//! text    := prose [ "*** Begin Patch" ] section+ [ "*** End Patch" ] prose      the two come together; several may follow
//! section := "*** Add File: " path ( "+" text )*                                 or no line of it begins with "+"
//!          | "*** Delete File: " path
//!          | "*** Update File: " path [ "*** Move to: " path ] chunk*
//! chunk   := ( "@@" [ " " anchor ] )* line* [ "*** End of File" ]                at least one "@@", but in the first chunk
//! line    := ( " " | "-" | "+" ) text | text                                     the last: a line that stays
//! ```
//!
//! An anchor is a line of the file above the chunk, or around it; it decides where the chunk's old lines stand in several
//! places. `@@ -1,2 +3,4 @@` is a line number. A fence ends a section without an envelope around it.

use super::super::protocol::fences::info_of;
use super::diff::{hunk_header, is_hunk_header};
use super::{Change, FileEdit, Hunk, Line, LineKind, Order, Unreadable};

/// Whether a text has a section of an envelope.
pub(super) fn is_one(text: &str) -> bool {
    text.lines().any(|line| is_header(line) || line.trim_end() == "*** Begin Patch")
}

/// Whether a line begins a section.
pub(super) fn is_header(line: &str) -> bool {
    header(line).is_some()
}

enum Header<'a> {
    Add(&'a str),
    Delete(&'a str),
    Update(&'a str),
}

fn header(line: &str) -> Option<Header<'_>> {
    let rest = line.strip_prefix("*** ")?;
    let path = |name: &str| rest.strip_prefix(name).map(str::trim).filter(|path| !path.is_empty());
    path("Add File:")
        .map(Header::Add)
        .or_else(|| path("Create File:").map(Header::Add))
        .or_else(|| path("Delete File:").map(Header::Delete))
        .or_else(|| path("Update File:").map(Header::Update))
}

pub(super) fn read(text: &str) -> Result<Vec<FileEdit>, Unreadable> {
    let lines: Vec<&str> = text.lines().collect();
    let mut edits = Vec::new();
    let mut begun = None;
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_end();
        if line == "*** Begin Patch" {
            begun = Some(at);
        } else if line == "*** End Patch" {
            begun = None;
        } else if let Some(header) = header(lines[at]) {
            let end =
                (at + 1..lines.len()).find(|line| ends_section(lines[*line], begun.is_some())).unwrap_or(lines.len());
            edits.push(section(&header, at, &lines[at + 1..end])?);
            at = end;
            continue;
        } else if begun.is_some() && !line.trim().is_empty() && info_of(line).is_none() {
            return Err(Unreadable::Malformed { line: at + 1, what: "a patch must begin with the name of a file" });
        } else if begun.is_none() && is_hunk_header(line) {
            return Err(Unreadable::TwoFormats);
        }
        at += 1;
    }
    match begun {
        Some(_) => Err(Unreadable::Cut { line: lines.len(), what: "the patch has no end mark" }),
        None => Ok(edits),
    }
}

fn ends_section(line: &str, in_envelope: bool) -> bool {
    is_header(line)
        || matches!(line.trim_end(), "*** End Patch" | "*** Begin Patch")
        || !in_envelope && info_of(line).is_some() && !line.starts_with(' ')
}

/// One section; `at`: the line, from 0, of its header.
fn section(header: &Header<'_>, at: usize, body: &[&str]) -> Result<FileEdit, Unreadable> {
    let (path, change) = match header {
        Header::Add(path) => (path, Change::Create { content: content(at, body)? }),
        Header::Delete(path) => (path, Change::Delete),
        Header::Update(path) => {
            let moved = body.first().and_then(|line| line.strip_prefix("*** Move to:")).map(str::trim);
            let skipped = usize::from(moved.is_some());
            let hunks = chunks(at + skipped, &body[skipped..])?;
            if hunks.is_empty() && moved.is_none() {
                return Err(Unreadable::Malformed { line: at + 1, what: "nothing is said of how this file changes" });
            }
            (path, Change::Update { hunks, order: Order::Ascending, move_to: moved.map(str::to_owned) })
        }
    };
    Ok(FileEdit { path: Some((*path).to_owned()), change })
}

/// The lines of a new file.
fn content(at: usize, body: &[&str]) -> Result<String, Unreadable> {
    let trailing = body.iter().rev().take_while(|line| line.trim().is_empty()).count();
    let body = &body[..body.len() - trailing];
    let marked = body.iter().filter(|line| line.starts_with('+')).count();
    let is_plus = |line: &&str| line.starts_with('+') || line.is_empty();
    if marked > 0
        && let Some(bare) = body.iter().position(|line| !is_plus(line))
    {
        let what = "each line of a new file must begin with +";
        return Err(Unreadable::Malformed { line: at + bare + 2, what });
    }
    Ok(body.iter().flat_map(|line| [line.strip_prefix('+').unwrap_or(line), "\n"]).collect())
}

fn chunks(at: usize, body: &[&str]) -> Result<Vec<Hunk>, Unreadable> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut hunk = Hunk::default();
    let mut finish = |hunk: &mut Hunk| {
        let hunk = std::mem::take(hunk);
        if !hunk.lines.is_empty() {
            hunks.push(without_trailing_blanks(hunk));
        }
    };
    for (number, line) in body.iter().enumerate() {
        if line.starts_with("@@") {
            if !hunk.lines.is_empty() {
                finish(&mut hunk);
            }
            let (number, anchor) = hunk_header(line);
            hunk.line = number.map(|numbers| numbers.line);
            hunk.anchors.extend(anchor);
            continue;
        }
        match line.trim_end() {
            "*** End of File" => {
                hunk.at_end = true;
                finish(&mut hunk);
            }
            mark if mark.starts_with("*** ") => {
                return Err(Unreadable::Malformed { line: at + number + 2, what: "this mark is not known" });
            }
            _ => hunk.lines.push(body_line(line)),
        }
    }
    finish(&mut hunk);
    Ok(hunks)
}

/// A line of a hunk by its first character; without one of the three it stays as it is.
pub(super) fn body_line(line: &str) -> Line {
    let (kind, text) = match line.chars().next() {
        Some('+') => (LineKind::Add, &line[1..]),
        Some('-') => (LineKind::Remove, &line[1..]),
        Some(' ') => (LineKind::Keep, &line[1..]),
        Some(_) | None => (LineKind::Keep, line),
    };
    Line { kind, text: text.to_owned() }
}

/// Blank lines between chunks are nobody's.
fn without_trailing_blanks(mut hunk: Hunk) -> Hunk {
    while hunk.lines.len() > 1
        && hunk.lines.last().is_some_and(|line| line.kind == LineKind::Keep && line.text.is_empty())
    {
        hunk.lines.pop();
    }
    hunk
}
