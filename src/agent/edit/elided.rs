//! Lines that stand for others that were left out.

use super::super::protocol::whole_file::elision;
use super::super::text::clip;
use super::{Hunk, LineKind, Refusal};
use crate::agent::grammar::Language;

/// Refuses a hunk that would put such a line into the file, in which it does not stand yet.
pub(super) fn refuse(path: &str, hunk: &Hunk, before: &[u8]) -> Result<(), Refusal> {
    let mut added = hunk.lines.iter().filter(|line| line.kind == LineKind::Add).map(|line| line.text.as_str());
    match added.find(|line| stands_for_others(path, line, before)) {
        Some(line) => Err(Refusal::Elided { path: path.to_owned(), line: clip(line.trim(), 80) }),
        None => Ok(()),
    }
}

/// Like [`refuse`], for a whole file.
pub(super) fn refuse_whole(path: &str, content: &str, before: &[u8]) -> Result<(), Refusal> {
    match content.lines().find(|line| stands_for_others(path, line, before)) {
        Some(line) => Err(Refusal::Elided { path: path.to_owned(), line: clip(line.trim(), 80) }),
        None => Ok(()),
    }
}

fn stands_for_others(path: &str, line: &str, before: &[u8]) -> bool {
    let trimmed = line.trim();
    // Three dots alone are Python, and a text's.
    let is_code = Language::of(path).is_some_and(|language| language != Language::Python);
    let is_bare = is_code && matches!(trimmed, "..." | "…" | "[...]" | "(...)");
    (is_bare || (trimmed.contains("..") || trimmed.contains('…')) && elision(trimmed, "").is_some())
        && memchr::memmem::find(before, trimmed.as_bytes()).is_none()
}
