//! From a hunk and its place to the bytes that change.

use std::ops::Range;

use similar::DiffOp;

use super::alike::{Spelling, respelled};
use super::document::Document;
use super::find::{Likeness, Place};
use super::{Hunk, Line, LineKind, Refusal, indentation};
use crate::agent::difference::operations;

/// Texts of more lines than this between their common ends are not compared line by line.
const MOST_COMPARED_LINES: usize = 3_000;

/// Bytes in the place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Splice {
    pub range: Range<usize>,
    pub bytes: Vec<u8>,
}

/// The lines of `old` and `new` as those that stay, go and come.
pub(super) fn difference(old: &[&str], new: &[&str]) -> Vec<Line> {
    let prefix = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[prefix..], &new[prefix..]);
    let suffix = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old_middle, new_middle) = (&old_rest[..old_rest.len() - suffix], &new_rest[..new_rest.len() - suffix]);
    let mut lines = Vec::with_capacity(old.len() + new_middle.len());
    let mut push = |kind, texts: &[&str]| {
        lines.extend(texts.iter().map(|text| Line { kind, text: (*text).to_owned() }));
    };
    push(LineKind::Keep, &old[..prefix]);
    if old_middle.len().max(new_middle.len()) > MOST_COMPARED_LINES {
        push(LineKind::Remove, old_middle);
        push(LineKind::Add, new_middle);
    } else {
        for operation in operations(old_middle, new_middle) {
            match operation {
                DiffOp::Equal { old_index, len, .. } => push(LineKind::Keep, &old_middle[old_index..old_index + len]),
                DiffOp::Delete { old_index, old_len, .. } => {
                    push(LineKind::Remove, &old_middle[old_index..old_index + old_len]);
                }
                DiffOp::Insert { new_index, new_len, .. } => {
                    push(LineKind::Add, &new_middle[new_index..new_index + new_len]);
                }
                DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                    push(LineKind::Remove, &old_middle[old_index..old_index + old_len]);
                    push(LineKind::Add, &new_middle[new_index..new_index + new_len]);
                }
            }
        }
    }
    push(LineKind::Keep, &old[old.len() - suffix..]);
    lines
}

/// Lines that are removed, and those that come in their place.
#[derive(Default)]
struct Group<'a> {
    /// The first line, from 0, that is removed or stands behind.
    at: usize,
    /// As the model wrote them.
    removed: Vec<&'a str>,
    added: Vec<&'a str>,
}

/// The splices of a hunk at its place.
pub(super) fn splices(path: &str, document: &Document<'_>, hunk: &Hunk, place: &Place) -> Result<Vec<Splice>, Refusal> {
    let mut spelling = Spelling::default();
    if place.likeness == Likeness::Alike {
        for (at, old) in hunk.old().into_iter().enumerate() {
            let line = document.text(place.first + at);
            spelling.learn(line.trim_ascii(), old.trim());
        }
    }
    let mut splices = Vec::new();
    let mut group = Group { at: place.first, ..Group::default() };
    let mut added = place.added.iter();
    for line in &hunk.lines {
        match line.kind {
            LineKind::Remove => group.removed.push(&line.text),
            LineKind::Add => group.added.extend(added.next().map(String::as_str)),
            LineKind::Keep => {
                let next = group.at + group.removed.len() + 1;
                splices.extend(group.splice(path, document, hunk, &spelling, place.likeness)?);
                group = Group { at: next, ..Group::default() };
            }
        }
    }
    splices.extend(group.splice(path, document, hunk, &spelling, place.likeness)?);
    Ok(splices)
}

impl Group<'_> {
    fn splice(
        &self,
        path: &str,
        document: &Document<'_>,
        hunk: &Hunk,
        spelling: &Spelling,
        likeness: Likeness,
    ) -> Result<Option<Splice>, Refusal> {
        if self.removed.is_empty() && self.added.is_empty() {
            return Ok(None);
        }
        let lines = self.at..self.at + self.removed.len();
        let mut range = document.range(lines.clone());
        let is_at_end = range.end == document.bytes.len();
        let ends_with_newline = hunk.final_newline.unwrap_or(document.ends_with_newline());
        if is_at_end && self.added.is_empty() && !ends_with_newline && self.at > 0 {
            // The line before is the last one then.
            range.start -= document.line_end(self.at - 1).len();
        }
        let mut bytes = Vec::new();
        if !self.added.is_empty() && self.removed.is_empty() && is_at_end && !document.ends_with_newline() {
            bytes.extend(document.line_end_near(self.at));
        }
        for (number, line) in self.added.iter().enumerate() {
            let text = match (likeness, self.removed.get(number)) {
                (Likeness::Alike, Some(old)) => {
                    let translated = || spelling.translate(line).into_bytes();
                    respell(document.text(self.at + number), old, line, spelling).unwrap_or_else(translated)
                }
                (Likeness::Alike, None) => spelling.translate(line).into_bytes(),
                (Likeness::Exact | Likeness::TrailingSpace | Likeness::Indented, _) => line.as_bytes().to_vec(),
            };
            check_encoding(path, document, self.removed.len().min(number + 1), self.at, &text)?;
            bytes.extend(text);
            let is_last = number + 1 == self.added.len();
            if !(is_last && is_at_end && !ends_with_newline) {
                let own = if number < self.removed.len() { document.line_end(self.at + number) } else { b"" };
                let near = || document.line_end_near(lines.end.saturating_sub(1));
                bytes.extend(if own.is_empty() { near() } else { own });
            }
        }
        Ok(Some(Splice { range, bytes }))
    }
}

/// The body of a new line in the file's spelling, with the new line's indentation.
fn respell(file: &[u8], old: &str, new: &str, spelling: &Spelling) -> Option<Vec<u8>> {
    let (indentation, body) = indentation::split(new);
    let mut line = indentation.as_bytes().to_vec();
    line.extend(respelled(file.trim_ascii(), old.trim(), body, spelling)?);
    Some(line)
}

/// Refuses what is not ASCII in a new line of a file in an unknown encoding, but for bytes of the line that it replaces.
fn check_encoding(path: &str, document: &Document<'_>, replaced: usize, at: usize, text: &[u8]) -> Result<(), Refusal> {
    if document.is_utf8 || text.is_ascii() {
        return Ok(());
    }
    let old: Vec<u8> = (at..at + replaced).flat_map(|line| document.text(line).iter().copied()).collect();
    let is_foreign = |part: &&[u8]| memchr::memmem::find(&old, part).is_none();
    match text.split(u8::is_ascii).filter(|part| !part.is_empty()).find(is_foreign) {
        Some(part) => {
            Err(Refusal::Encoding { path: path.to_owned(), text: String::from_utf8_lossy(part).into_owned() })
        }
        None => Ok(()),
    }
}

/// The file with the splices in it, which are sorted and do not overlap; and where, in it, each stands.
pub(super) fn spliced(bytes: &[u8], splices: &[Splice]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut result = Vec::with_capacity(bytes.len() + splices.iter().map(|splice| splice.bytes.len()).sum::<usize>());
    let mut places = Vec::with_capacity(splices.len());
    let mut done = 0;
    for splice in splices {
        result.extend_from_slice(&bytes[done..splice.range.start]);
        let start = result.len();
        result.extend_from_slice(&splice.bytes);
        places.push(start..result.len());
        done = splice.range.end;
    }
    result.extend_from_slice(&bytes[done..]);
    (result, places)
}
