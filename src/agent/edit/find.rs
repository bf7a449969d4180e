//! Where the old lines of a hunk stand in a file.
//!
//! Every place is found by one pass over the hashes of the folded lines, then told apart by what differs there; only the
//! places that differ least count. The cost is that of reading the file once, and of comparing the places.

use std::borrow::Cow;

use super::alike::folded;
use super::document::{Document, hash_of};
use super::{Hunk, Line, LineKind, Note, indentation, numbered};

/// More comparisons of lines than this are not made: then the text stands there too often.
const MOST_COMPARISONS: usize = 2_000_000;

/// How a place's lines differ from the ones looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likeness {
    Exact,
    TrailingSpace,
    Indented,
    Alike,
}

/// A place where a hunk's old lines stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The line, from 0, of the first old line.
    pub first: usize,
    pub likeness: Likeness,
    /// The hunk's new lines, indented as they are to stand there.
    pub added: Vec<String>,
}

/// A hunk in the form in which it was found, with its places.
pub(super) struct Located<'a> {
    pub hunk: Cow<'a, Hunk>,
    pub places: Vec<Place>,
    pub note: Option<Note>,
}

/// Finds a hunk: as it is, without pasted line numbers, without blank lines at its ends. The error: it stands there too
/// often to look at every place; the lines, from 0, of the first ones.
pub(super) fn locate<'a>(document: &Document<'_>, hunk: &'a Hunk) -> Result<Located<'a>, Vec<usize>> {
    let as_is = places_of(document, hunk)?;
    if !as_is.is_empty() {
        return Ok(Located { hunk: Cow::Borrowed(hunk), places: as_is, note: None });
    }
    let forms = [(unnumbered(hunk), Note::LineNumbers), (without_blank_edges(hunk), Note::BlankEdges)];
    for (form, note) in forms.into_iter().filter_map(|(form, note)| Some((form?, note))) {
        let places = places_of(document, &form)?;
        if !places.is_empty() {
            return Ok(Located { hunk: Cow::Owned(form), places, note: Some(note) });
        }
    }
    Ok(Located { hunk: Cow::Borrowed(hunk), places: Vec::new(), note: None })
}

/// The lines, from 0, where these lines stand exactly.
pub(super) fn exactly(document: &Document<'_>, lines: &[&str]) -> Vec<usize> {
    let hashes: Vec<u64> = lines.iter().map(|line| hash_of(line.as_bytes())).collect();
    let is_there =
        |first: &usize| lines.iter().enumerate().all(|(at, line)| document.text(first + at) == line.as_bytes());
    let most = MOST_COMPARISONS / hashes.len().max(1);
    occurrences(document.folded(), &hashes).take(most).filter(is_there).collect()
}

fn places_of(document: &Document<'_>, hunk: &Hunk) -> Result<Vec<Place>, Vec<usize>> {
    let old = hunk.old();
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<u64> = old.iter().map(|line| hash_of(line.as_bytes())).collect();
    let most = (MOST_COMPARISONS / old.len()).max(2);
    let candidates: Vec<usize> = occurrences(document.folded(), &hashes).take(most).collect();
    if candidates.len() == most {
        return Err(candidates);
    }
    let added: Vec<&str> = added(hunk);
    let places: Vec<Place> =
        candidates.into_iter().filter_map(|first| compare(document, first, &old, &added)).collect();
    let all_blank = old.iter().all(|line| line.trim().is_empty());
    let least = places.iter().map(|place| place.likeness).min();
    // Blank lines alone are everywhere.
    let counts = |place: &Place| Some(place.likeness) == least && (!all_blank || place.likeness == Likeness::Exact);
    Ok(places.into_iter().filter(counts).collect())
}

pub(super) fn added(hunk: &Hunk) -> Vec<&str> {
    hunk.lines.iter().filter(|line| line.kind == LineKind::Add).map(|line| line.text.as_str()).collect()
}

/// The place at `first`, if the lines there differ in nothing but what may differ.
fn compare(document: &Document<'_>, first: usize, old: &[&str], added: &[&str]) -> Option<Place> {
    let mut likeness = Likeness::Exact;
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (at, wanted) in old.iter().enumerate() {
        let line = document.text(first + at);
        if line != wanted.as_bytes() {
            likeness = likeness.max(Likeness::TrailingSpace);
        }
        let (line, wanted) = (line.trim_ascii_end(), wanted.trim_ascii_end());
        if line.is_empty() && wanted.is_empty() {
            continue;
        }
        let spaces = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let (space, body) = line.split_at(spaces);
        let space = std::str::from_utf8(space).ok()?;
        let (wanted_space, wanted_body) = indentation::split(wanted);
        if body != wanted_body.as_bytes() {
            if folded(line) != folded(wanted.as_bytes()) {
                return None;
            }
            likeness = Likeness::Alike;
        }
        if space != wanted_space {
            likeness = likeness.max(Likeness::Indented);
        }
        pairs.push((wanted_space, space));
    }
    let added = indentation::follow(&pairs, added)?;
    Some(Place { first, likeness, added })
}

/// A hunk whose every old line has a pasted line number, without them; its new lines have them all or none.
fn unnumbered(hunk: &Hunk) -> Option<Hunk> {
    let (first, old) = numbered::strip(&hunk.old())?;
    let added = added(hunk);
    let new_lines = match numbered::strip(&added) {
        Some((_, lines)) => lines,
        None => added,
    };
    let (mut old, mut new_lines) = (old.into_iter(), new_lines.into_iter());
    let lines = hunk.lines.iter().map(|line| {
        let text = match line.kind {
            LineKind::Keep | LineKind::Remove => old.next(),
            LineKind::Add => new_lines.next(),
        };
        Some(Line { kind: line.kind, text: text?.to_owned() })
    });
    Some(Hunk { lines: lines.collect::<Option<_>>()?, line: Some(hunk.line.unwrap_or(first)), ..hunk.clone() })
}

/// A hunk without the blank lines that stay at its ends; `None`: it has none.
fn without_blank_edges(hunk: &Hunk) -> Option<Hunk> {
    let is_edge = |line: &Line| line.kind == LineKind::Keep && line.text.trim().is_empty();
    let front = hunk.lines.iter().take_while(|line| is_edge(line)).count();
    let back = hunk.lines[front..].iter().rev().take_while(|line| is_edge(line)).count();
    let lines = hunk.lines[front..hunk.lines.len() - back].to_vec();
    let is_less = lines.len() < hunk.lines.len() && lines.iter().any(|line| line.kind != LineKind::Add);
    is_less.then(|| Hunk { lines, line: hunk.line.map(|line| line + front), ..hunk.clone() })
}

/// Where `needle` stands in `haystack`, overlaps included, in time that grows with both lengths alone (Knuth, Morris and
/// Pratt).
fn occurrences<'a>(haystack: &'a [u64], needle: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
    let mut borders = vec![0; needle.len()];
    let mut length = 0;
    for at in 1..needle.len() {
        while length > 0 && needle[at] != needle[length] {
            length = borders[length - 1];
        }
        length += usize::from(needle[at] == needle[length]);
        borders[at] = length;
    }
    let mut matched = 0;
    haystack.iter().enumerate().filter_map(move |(at, hash)| {
        if needle.is_empty() {
            return None;
        }
        while matched > 0 && *hash != needle[matched] {
            matched = borders[matched - 1];
        }
        matched += usize::from(*hash == needle[matched]);
        if matched < needle.len() {
            return None;
        }
        matched = borders[matched - 1];
        Some(at + 1 - needle.len())
    })
}
