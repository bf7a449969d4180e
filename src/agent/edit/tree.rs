//! Applying what was read to files: all of it, or nothing.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::document::Document;
use super::find::{Likeness, Located, Place, added, exactly, locate};
use super::nearest::nearest;
use super::splice::{Splice, spliced, splices};
use super::{Change, Edited, FileEdit, Hunk, LineKind, Note, Order, Part, Refusal, elided};

/// What the edits come to, files in their order, and only those that differ then.
///
/// `original` gives a file as it is now, `None` if it is not there. `only_editable` is the file that is meant where an edit
/// names none, and the one whose folder an edit may leave out.
pub fn apply(
    edits: &[FileEdit],
    mut original: impl FnMut(&str) -> Option<Vec<u8>>,
    only_editable: Option<&str>,
) -> Result<Vec<Edited>, Refusal> {
    let mut tree = Tree { original: &mut original, only_editable, files: Vec::new() };
    for edit in edits {
        let path = match (&edit.path, only_editable) {
            (Some(path), _) => normal(path).to_owned(),
            (None, Some(only)) => normal(only).to_owned(),
            (None, None) => return Err(Refusal::NoPath),
        };
        match &edit.change {
            Change::Create { content } => tree.create(&path, content)?,
            Change::Delete => {
                let at = tree.existing(&path).ok_or(Refusal::Missing { path })?;
                tree.files[at].after = None;
            }
            Change::Update { hunks, order, move_to } => {
                let at = tree.update(&path, hunks, *order)?;
                if let Some(target) = move_to {
                    tree.rename(at, normal(target))?;
                }
            }
        }
    }
    let changed: Vec<Edited> = tree.files.into_iter().filter(|file| file.before != file.after).collect();
    if changed.is_empty() { Err(Refusal::NothingChanges) } else { Ok(changed) }
}

/// A path without what models put before it.
fn normal(path: &str) -> &str {
    let mut path = path.trim();
    path = path.strip_prefix("/workspace/").unwrap_or(path);
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    path
}

struct Tree<'a> {
    original: &'a mut dyn FnMut(&str) -> Option<Vec<u8>>,
    only_editable: Option<&'a str>,
    /// `after` is the file as it is so far.
    files: Vec<Edited>,
}

impl Tree<'_> {
    /// The file of this path, whether it is there or not.
    fn file(&mut self, path: &str) -> usize {
        if let Some(at) = self.files.iter().position(|file| file.path == path) {
            return at;
        }
        let before = (self.original)(path);
        let after = before.clone();
        let (places, notes) = (Vec::new(), BTreeSet::new());
        self.files.push(Edited { path: path.to_owned(), before, after, places, notes, moved_from: None });
        self.files.len() - 1
    }

    /// The file that is meant: the one of this path, else the one without the prefix of a diff, else the only editable one
    /// if it has the same name.
    fn existing(&mut self, path: &str) -> Option<usize> {
        let without_prefix = path.strip_prefix("a/").or_else(|| path.strip_prefix("b/"));
        let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
        let only = self.only_editable.map(normal).filter(|only| name(only) == name(path)).map(str::to_owned);
        for candidate in [Some(path.to_owned()), without_prefix.map(str::to_owned), only].into_iter().flatten() {
            let at = self.file(&candidate);
            if self.files[at].after.is_some() {
                return Some(at);
            }
        }
        None
    }

    fn create(&mut self, path: &str, content: &str) -> Result<(), Refusal> {
        let at = self.file(path);
        if self.files[at].after.as_ref().is_some_and(|after| !after.trim_ascii().is_empty()) {
            return Err(Refusal::Exists { path: path.to_owned() });
        }
        elided::refuse_whole(path, content, b"")?;
        self.files[at].after = Some(content.as_bytes().to_vec());
        Ok(())
    }

    fn update(&mut self, path: &str, hunks: &[Hunk], order: Order) -> Result<usize, Refusal> {
        let Some(at) = self.existing(path) else {
            let makes_a_file = !hunks.is_empty() && hunks.iter().all(|hunk| hunk.old().is_empty());
            if !makes_a_file {
                return Err(Refusal::Missing { path: path.to_owned() });
            }
            let content: String = hunks.iter().flat_map(added).flat_map(|line| [line, "\n"]).collect();
            self.create(path, &content)?;
            return Ok(self.file(path));
        };
        let path = self.files[at].path.clone();
        let changing: Vec<&Hunk> = hunks.iter().filter(|hunk| hunk.changes_anything()).collect();
        if changing.is_empty() {
            return Ok(at);
        }
        let before = self.files[at].after.take().unwrap_or_default();
        let update = update(&path, &before, &changing, order)?;
        let file = &mut self.files[at];
        file.after = Some(update.bytes);
        file.places = update.places;
        file.notes.extend(update.notes);
        Ok(at)
    }

    fn rename(&mut self, at: usize, target: &str) -> Result<(), Refusal> {
        let to = self.file(target);
        if to == at {
            return Ok(());
        }
        if self.files[to].after.is_some() {
            return Err(Refusal::Exists { path: target.to_owned() });
        }
        let from = &mut self.files[at];
        let (after, places) = (from.after.take(), std::mem::take(&mut from.places));
        let (notes, path) = (from.notes.clone(), from.path.clone());
        let file = &mut self.files[to];
        file.moved_from = Some(path);
        (file.after, file.places) = (after, places);
        file.notes.extend(notes);
        Ok(())
    }
}

/// A file's new bytes, and what is to be told of them.
pub(super) struct Update {
    pub bytes: Vec<u8>,
    pub places: Vec<Range<usize>>,
    pub notes: BTreeSet<Note>,
}

fn update(path: &str, bytes: &[u8], hunks: &[&Hunk], order: Order) -> Result<Update, Refusal> {
    match (at_once(path, bytes, hunks, order), order) {
        (Err(refusal @ Refusal::NotFound { .. }), Order::Any) if hunks.len() > 1 => {
            one_by_one(path, bytes, hunks).map_err(|_| refusal)
        }
        (update, Order::Any | Order::Ascending) => update,
    }
}

/// Each hunk on what the ones before it have made.
fn one_by_one(path: &str, bytes: &[u8], hunks: &[&Hunk]) -> Result<Update, Refusal> {
    let mut update = Update { bytes: bytes.to_vec(), places: Vec::new(), notes: BTreeSet::new() };
    for hunk in hunks {
        let next = at_once(path, &update.bytes, &[hunk], Order::Any)?;
        update.bytes = next.bytes;
        update.places = next.places;
        update.notes.extend(next.notes);
    }
    Ok(update)
}

/// All hunks on the file as it is.
pub(super) fn at_once(path: &str, bytes: &[u8], hunks: &[&Hunk], order: Order) -> Result<Update, Refusal> {
    let document = Document::open(path, bytes)?;
    let mut told = HashSet::new();
    let distinct: Vec<&Hunk> =
        hunks.iter().copied().filter(|hunk| order == Order::Ascending || told.insert(*hunk)).collect();
    let mut located = Vec::with_capacity(distinct.len());
    for (at, hunk) in distinct.iter().enumerate() {
        elided::refuse(path, hunk, bytes)?;
        located.push(find(path, &document, hunk, Part { number: at + 1, of: distinct.len() })?);
    }
    let chosen = choose(path, &located, order)?;
    let mut notes: BTreeSet<Note> = located.iter().filter_map(|located| located.note).collect();
    let mut all: Vec<Splice> = Vec::new();
    for (located, place) in located.iter().zip(chosen) {
        notes.extend(note_of(place.likeness));
        all.extend(splices(path, &document, &located.hunk, place)?);
    }
    all.sort_by_key(|splice| (splice.range.start, splice.range.end));
    if let Some(pair) = all.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        let line = document.line_at(pair[1].range.start) + 1;
        return Err(Refusal::Overlap { path: path.to_owned(), line });
    }
    let (bytes, places) = spliced(bytes, &all);
    let places = lines_of(&bytes, &places);
    Ok(Update { bytes, places, notes })
}

pub(super) fn note_of(likeness: Likeness) -> Option<Note> {
    match likeness {
        Likeness::Exact => None,
        Likeness::TrailingSpace => Some(Note::TrailingSpace),
        Likeness::Indented => Some(Note::Indentation),
        Likeness::Alike => Some(Note::LookAlikes),
    }
}

/// The places of a hunk, at least one, of which its own line, anchors and end leave as few as they can.
pub(super) fn find<'a>(
    path: &str,
    document: &Document<'_>,
    hunk: &'a Hunk,
    part: Part,
) -> Result<Located<'a>, Refusal> {
    let owned = || path.to_owned();
    let old = hunk.old();
    if old.is_empty() {
        if document.len() > 0 && !hunk.at_end {
            return Err(Refusal::NoPlace { path: owned(), part });
        }
        let added = added(hunk).into_iter().map(str::to_owned).collect();
        let place = Place { first: document.len(), likeness: Likeness::Exact, added };
        return Ok(Located { hunk: Cow::Borrowed(hunk), places: vec![place], note: None });
    }
    let too_many = |lines: Vec<usize>| not_unique(path, part, &lines);
    let mut located = locate(document, hunk).map_err(too_many)?;
    if located.places.is_empty() {
        let adds = hunk.lines.iter().any(|line| line.kind == LineKind::Add);
        return Err(match exactly(document, &hunk.wanted())[..] {
            [line] if adds => Refusal::Already { path: owned(), part, line: line + 1 },
            _ => Refusal::NotFound { path: owned(), part, nearest: nearest(document.bytes, &old) },
        });
    }
    narrow(document, &mut located);
    Ok(located)
}

fn not_unique(path: &str, part: Part, lines: &[usize]) -> Refusal {
    let lines = lines.iter().map(|line| line + 1).collect();
    Refusal::NotUnique { path: path.to_owned(), part, lines }
}

/// Leaves the places that the hunk's own hints speak for; a hint that fits no place is none.
fn narrow(document: &Document<'_>, located: &mut Located<'_>) {
    let hunk = &located.hunk;
    let length = hunk.old().len();
    let is_at_end =
        |place: &Place| (place.first + length..document.len()).all(|line| document.text(line).trim_ascii().is_empty());
    let is_at_line = |place: &Place| hunk.line == Some(place.first + 1);
    let places = &mut located.places;
    if hunk.at_end {
        keep_if_any(places, is_at_end);
    }
    if places.len() > 1 && !hunk.anchors.is_empty() {
        let regions = regions(document, &hunk.anchors);
        keep_if_any(places, |place| regions.iter().any(|region| region.contains(&place.first)));
    }
    if places.len() > 1 {
        keep_if_any(places, is_at_line);
    }
}

fn keep_if_any(places: &mut Vec<Place>, fits: impl Fn(&Place) -> bool) {
    if places.iter().any(&fits) {
        places.retain(fits);
    }
}

/// The lines that belong to what the anchors name, each within the one before it: an anchor's line, and those behind it
/// that stand deeper.
fn regions(document: &Document<'_>, anchors: &[String]) -> Vec<Range<usize>> {
    let everything = 0..document.len();
    let mut regions = vec![everything];
    for anchor in anchors {
        let anchor = anchor.trim().as_bytes();
        let in_region = |region: Range<usize>| {
            region
                .filter(|line| document.text(*line).trim_ascii() == anchor)
                .map(|line| line..end_of_block(document, line))
        };
        let inner: Vec<Range<usize>> = regions.iter().cloned().flat_map(in_region).collect();
        if inner.is_empty() {
            return regions;
        }
        regions = inner;
    }
    regions
}

/// The line behind the block that the line at `first` opens.
fn end_of_block(document: &Document<'_>, first: usize) -> usize {
    let depth = |line: usize| {
        let text = document.text(line);
        text.len() - text.trim_ascii_start().len()
    };
    let opens = |line: usize| document.text(line).trim_ascii().starts_with(b"{");
    let is_outside =
        |line: &usize| !document.text(*line).trim_ascii().is_empty() && depth(*line) <= depth(first) && !opens(*line);
    match (first + 1..document.len()).find(is_outside) {
        Some(end) if document.text(end).trim_ascii().starts_with(b"}") => end + 1,
        Some(end) => end,
        None => document.len(),
    }
}

/// One place for each hunk, or the refusal of the first that has several.
fn choose<'a>(path: &str, located: &'a [Located<'_>], order: Order) -> Result<Vec<&'a Place>, Refusal> {
    let refuse = |at: usize| {
        let lines: Vec<usize> = located[at].places.iter().map(|place| place.first).collect();
        not_unique(path, Part { number: at + 1, of: located.len() }, &lines)
    };
    let only: Vec<&Place> = located.iter().flat_map(|located| located.places.first()).collect();
    let Some(first_unclear) = located.iter().position(|located| located.places.len() != 1) else { return Ok(only) };
    match order {
        Order::Any => Err(refuse(first_unclear)),
        Order::Ascending => {
            let (Some(earliest), Some(latest)) = (earliest(located), latest(located)) else {
                return Err(refuse(first_unclear));
            };
            match earliest.iter().zip(&latest).position(|(earliest, latest)| earliest.first != latest.first) {
                Some(unclear) => Err(refuse(unclear)),
                None => Ok(earliest),
            }
        }
    }
}

/// The lines that a hunk changes at a place, without those that stay at its ends.
fn changed(hunk: &Hunk, place: &Place) -> Range<usize> {
    let stays = |line: &&super::Line| line.kind == LineKind::Keep;
    let front = hunk.lines.iter().take_while(stays).count();
    let back = hunk.lines.iter().rev().take_while(stays).count();
    let start = place.first + front;
    start..(place.first + hunk.old().len()).saturating_sub(back).max(start)
}

/// Every hunk as early in the file as its order allows.
fn earliest<'a>(located: &'a [Located<'_>]) -> Option<Vec<&'a Place>> {
    let mut from = 0;
    let places = located.iter().map(|located| {
        let place = located.places.iter().find(|place| changed(&located.hunk, place).start >= from)?;
        from = changed(&located.hunk, place).end;
        Some(place)
    });
    places.collect()
}

/// Every hunk as late in the file as its order allows.
fn latest<'a>(located: &'a [Located<'_>]) -> Option<Vec<&'a Place>> {
    let mut until = usize::MAX;
    let places = located.iter().rev().map(|located| {
        let place = located.places.iter().rev().find(|place| changed(&located.hunk, place).end <= until)?;
        until = changed(&located.hunk, place).start;
        Some(place)
    });
    let mut places = places.collect::<Option<Vec<_>>>()?;
    places.reverse();
    Some(places)
}

/// The lines, from 0, of byte ranges in order.
pub(super) fn lines_of(bytes: &[u8], places: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut at, mut line) = (0, 0);
    let mut line_of = |offset: usize| {
        line += memchr::memchr_iter(b'\n', &bytes[at..offset]).count();
        at = offset;
        line
    };
    let ranges = places.iter().map(|place| {
        let start = line_of(place.start);
        let is_whole = place.end > place.start && bytes[place.end - 1] == b'\n';
        let end = line_of(place.end);
        start..if is_whole || place.is_empty() { end } else { end + 1 }
    });
    ranges.collect()
}
