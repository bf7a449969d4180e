//! The edits of the tools `replace` and `write`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::alike::{Spelling, fold, respelled};
use super::document::Document;
use super::find::{Located, locate};
use super::nearest::nearest;
use super::splice::{Splice, spliced, splices};
use super::tree::{lines_of, note_of};
use super::{Edited, Hunk, Note, Part, Refusal, elided};

/// More places than this are not counted.
const MOST_PLACES: usize = 1_000;
const ALONE: Part = Part { number: 1, of: 1 };

/// Replaces one piece of a file.
///
/// It may begin and end within lines, if it stands there exactly, or is a part of one line but for look-alikes; else it is
/// taken as whole lines. A line end that only `old` has at its end stays.
pub fn replace(path: &str, before: &[u8], old: &str, new: &str) -> Result<Edited, Refusal> {
    let (old, new) = (plain(old), plain(new));
    if old.is_empty() && !before.is_empty() {
        return Err(Refusal::OldIsEmpty);
    }
    let document = Document::open(path, before)?;
    let view = View::of(before);
    if old == new {
        let hint = match view.places(&new)[..] {
            [] => "read the file",
            _ => "the file reads so already: do what is left of the task, or call finish",
        };
        return Err(Refusal::Same { hint });
    }
    let (old_lines, new_lines): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let hunk = Hunk::of_texts(&old_lines, &new_lines);
    elided::refuse(path, &hunk, before)?;
    let done = |splices: &[Splice], notes: BTreeSet<Note>| {
        let (after, places) = spliced(before, splices);
        let places = lines_of(&after, &places);
        Edited {
            path: path.to_owned(),
            before: Some(before.to_vec()),
            after: Some(after),
            places,
            notes,
            moved_from: None,
        }
    };
    let not_unique = |lines: Vec<usize>| Refusal::NotUnique { path: path.to_owned(), part: ALONE, lines };
    match view.places(&old)[..] {
        [] => {}
        [at] => return Ok(done(&[piece(path, &document, &view, at, &old, &new)?], BTreeSet::new())),
        ref places => {
            return Err(not_unique(places.iter().map(|at| document.line_at(view.original(*at)) + 1).collect()));
        }
    }
    let located = match locate(&document, &hunk) {
        Ok(located) => located,
        Err(lines) => return Err(not_unique(lines.iter().map(|line| line + 1).collect())),
    };
    if let Some(edited) = whole_lines(path, &document, &located, &done)? {
        return Ok(edited);
    }
    match alike_pieces(&document, &old)[..] {
        [ref range] => {
            let splice = alike_piece(path, &document, range.clone(), &old, &new)?;
            return Ok(done(&[splice], BTreeSet::from([Note::LookAlikes])));
        }
        [] => {}
        ref ranges => return Err(not_unique(ranges.iter().map(|range| document.line_at(range.start) + 1).collect())),
    }
    if let [at] = view.places(&new)[..]
        && new.trim().len() > old.trim().len() / 2
    {
        let line = document.line_at(view.original(at)) + 1;
        return Err(Refusal::Already { path: path.to_owned(), part: ALONE, line });
    }
    Err(Refusal::NotFound { path: path.to_owned(), part: ALONE, nearest: nearest(before, &old_lines) })
}

fn whole_lines(
    path: &str,
    document: &Document<'_>,
    located: &Located<'_>,
    done: &dyn Fn(&[Splice], BTreeSet<Note>) -> Edited,
) -> Result<Option<Edited>, Refusal> {
    let by_number = located.places.iter().find(|place| located.hunk.line == Some(place.first + 1));
    let place = match (&located.places[..], by_number) {
        ([], _) => return Ok(None),
        ([place], _) | (_, Some(place)) => place,
        (several, None) => {
            let lines = several.iter().map(|place| place.first + 1).collect();
            return Err(Refusal::NotUnique { path: path.to_owned(), part: ALONE, lines });
        }
    };
    let notes = located.note.into_iter().chain(note_of(place.likeness)).collect();
    Ok(Some(done(&splices(path, document, &located.hunk, place)?, notes)))
}

/// A text with LF line ends, and without a byte order mark.
fn plain(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.contains("\r\n") {
        true => Cow::Owned(text.replace("\r\n", "\n")),
        false => Cow::Borrowed(text),
    }
}

/// A file's bytes with LF line ends.
struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where, in `bytes`, an LF stands whose CR is left out.
    without_cr: Vec<usize>,
}

impl<'a> View<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let returns: Vec<usize> = memchr::memmem::find_iter(bytes, b"\r\n").collect();
        if returns.is_empty() {
            return Self { bytes: Cow::Borrowed(bytes), without_cr: returns };
        }
        let mut view = Vec::with_capacity(bytes.len());
        let mut without_cr = Vec::with_capacity(returns.len());
        let mut done = 0;
        for place in returns {
            view.extend_from_slice(&bytes[done..place]);
            without_cr.push(view.len());
            done = place + 1;
        }
        view.extend_from_slice(&bytes[done..]);
        Self { bytes: Cow::Owned(view), without_cr }
    }

    /// The place in the file of a place in the view.
    fn original(&self, at: usize) -> usize {
        at + self.without_cr.partition_point(|place| *place < at)
    }

    /// Where a text stands, overlaps included.
    fn places(&self, text: &str) -> Vec<usize> {
        let finder = memchr::memmem::Finder::new(text);
        let mut places = Vec::new();
        let mut from = 0;
        while let Some(at) = self.bytes.get(from..).and_then(|rest| finder.find(rest)) {
            places.push(from + at);
            from += at + 1;
            if text.is_empty() || places.len() == MOST_PLACES {
                break;
            }
        }
        places
    }
}

/// The change of a piece that stands at `at` in the view; what both texts begin and end with is left alone.
fn piece(
    path: &str,
    document: &Document<'_>,
    view: &View<'_>,
    at: usize,
    old: &str,
    new: &str,
) -> Result<Splice, Refusal> {
    let begins_a_line = at == 0 || view.bytes[at - 1] == b'\n';
    let new = match begins_a_line && old.ends_with('\n') && !new.is_empty() && !new.ends_with('\n') {
        true => Cow::Owned(format!("{new}\n")),
        false => Cow::Borrowed(new),
    };
    let prefix = common(old.chars().zip(new.chars()));
    let (old_rest, new_rest) = (&old[prefix..], &new[prefix..]);
    let suffix = common(old_rest.chars().rev().zip(new_rest.chars().rev()));
    let range = view.original(at + prefix)..view.original(at + old.len() - suffix);
    let middle = &new_rest[..new_rest.len() - suffix];
    if !document.is_utf8 && !middle.is_ascii() {
        return Err(encoding(path, middle));
    }
    let removed = &document.bytes[range.clone()];
    let mut ends = memchr::memchr_iter(b'\n', removed).map(|at| match at > 0 && removed[at - 1] == b'\r' {
        true => &b"\r\n"[..],
        false => b"\n",
    });
    let near = document.line_end_near(document.line_at(range.end));
    let mut bytes = Vec::with_capacity(middle.len());
    for line in middle.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(text) => {
                bytes.extend(text.bytes());
                bytes.extend(ends.next().unwrap_or(near));
            }
            None => bytes.extend(line.bytes()),
        }
    }
    Ok(Splice { range, bytes })
}

/// How many bytes of characters are the same.
fn common(pairs: impl Iterator<Item = (char, char)>) -> usize {
    pairs.take_while(|(left, right)| left == right).map(|(letter, _)| letter.len_utf8()).sum()
}

fn encoding(path: &str, text: &str) -> Refusal {
    let text = text.chars().filter(|letter| !letter.is_ascii()).take(5).collect();
    Refusal::Encoding { path: path.to_owned(), text }
}

/// Where a part of one line stands but for look-alikes.
fn alike_pieces(document: &Document<'_>, old: &str) -> Vec<Range<usize>> {
    if old.contains('\n') || old.trim().is_empty() {
        return Vec::new();
    }
    let wanted: String = old.chars().map(fold).collect();
    let finder = memchr::memmem::Finder::new(&wanted);
    let mut ranges = Vec::new();
    for line in 0..document.len() {
        let text = String::from_utf8_lossy(document.text(line));
        let folded: String = text.chars().map(fold).collect();
        let mut from = 0;
        while let Some(at) = folded.as_bytes().get(from..).and_then(|rest| finder.find(rest)) {
            let skipped = folded[..from + at].chars().count();
            ranges.push(bytes_of(document, line, skipped..skipped + wanted.chars().count()));
            // One byte on lies within the same character or at the next: a place there is never found twice.
            from += at + wanted.chars().next().map_or(1, char::len_utf8);
            if ranges.len() == MOST_PLACES {
                return ranges;
            }
        }
    }
    ranges
}

/// The bytes of a line's characters.
fn bytes_of(document: &Document<'_>, line: usize, characters: Range<usize>) -> Range<usize> {
    let start = document.start(line);
    let mut offsets = Vec::new();
    let mut offset = start;
    for chunk in document.text(line).utf8_chunks() {
        for letter in chunk.valid().chars() {
            offsets.push(offset);
            offset += letter.len_utf8();
        }
        if !chunk.invalid().is_empty() {
            offsets.push(offset);
            offset += chunk.invalid().len();
        }
    }
    offsets.push(offset);
    let at = |index: usize| offsets.get(index).copied().unwrap_or(offset);
    at(characters.start)..at(characters.end)
}

fn alike_piece(
    path: &str,
    document: &Document<'_>,
    range: Range<usize>,
    old: &str,
    new: &str,
) -> Result<Splice, Refusal> {
    let spelling = Spelling::of_piece(&document.bytes[range.clone()], old);
    let respelled = match new.contains('\n') {
        true => None,
        false => respelled(&document.bytes[range.clone()], old, new, &spelling),
    };
    if let Some(bytes) = respelled {
        // Bytes of an unknown encoding come from the file itself; what is new must be ASCII.
        let is_new =
            |letter: &char| !letter.is_ascii() && *letter != char::REPLACEMENT_CHARACTER && !old.contains(*letter);
        if document.is_utf8 || !new.chars().any(|letter| is_new(&letter)) {
            return Ok(Splice { range, bytes });
        }
    }
    if !document.is_utf8 && !new.is_ascii() {
        return Err(encoding(path, new));
    }
    let end = document.line_end_near(document.line_at(range.end));
    let bytes = new.split('\n').map(str::as_bytes).collect::<Vec<_>>().join(end);
    Ok(Splice { range, bytes })
}

/// A file as a whole, in the manner of the file that it replaces: its byte order mark, its line ends, its last line's end.
pub fn write(path: &str, before: Option<&[u8]>, content: &str) -> Result<Edited, Refusal> {
    elided::refuse_whole(path, content, before.unwrap_or_default())?;
    let mut notes = BTreeSet::new();
    let after = match before.filter(|before| !before.is_empty()) {
        None => content.as_bytes().to_vec(),
        Some(before) => {
            let document = Document::open(path, before)?;
            let content = plain(content);
            let lines: Vec<&str> = content.lines().collect();
            let is_numbered =
                |line: usize| super::numbered::strip(&[&String::from_utf8_lossy(document.text(line))]).is_some();
            match super::numbered::strip(&lines) {
                Some((1, unnumbered)) if !(0..document.len()).all(is_numbered) => {
                    notes.insert(Note::LineNumbers);
                    rewritten(path, &document, &unnumbered, content.ends_with('\n'))?
                }
                Some(_) | None => rewritten(path, &document, &lines, content.ends_with('\n'))?,
            }
        }
    };
    let lines = memchr::memchr_iter(b'\n', &after).count() + usize::from(!after.is_empty() && !after.ends_with(b"\n"));
    let (before, places) = (before.map(<[u8]>::to_vec), std::iter::once(0..lines).collect());
    Ok(Edited { path: path.to_owned(), before, after: Some(after), places, notes, moved_from: None })
}

fn rewritten(path: &str, before: &Document<'_>, lines: &[&str], ends_with_newline: bool) -> Result<Vec<u8>, Refusal> {
    let own: HashMap<Cow<'_, str>, &[u8]> = match before.is_utf8 {
        true => HashMap::new(),
        false => (0..before.len()).map(|at| (String::from_utf8_lossy(before.text(at)), before.text(at))).collect(),
    };
    let same = |at: usize, line: &str| before.text(at) == line.as_bytes();
    let front = lines.iter().enumerate().take_while(|(at, line)| same(*at, line) && *at < before.len()).count();
    let rest = before.len().min(lines.len()) - front.min(before.len());
    let back =
        lines.iter().rev().enumerate().take(rest).take_while(|(at, line)| same(before.len() - 1 - at, line)).count();
    let mut after = before.bytes[..before.start(0)].to_vec();
    let mut last_end = 0;
    for (at, line) in lines.iter().enumerate() {
        let same_line = match lines.len() - at {
            _ if at < front => Some(at),
            left if left <= back => Some(before.len() - left),
            _ => None,
        };
        match own.get(*line) {
            Some(bytes) => after.extend(*bytes),
            None if !before.is_utf8 && !line.is_ascii() => return Err(encoding(path, line)),
            None => after.extend(line.bytes()),
        }
        last_end = after.len();
        let end = same_line.map(|line| before.line_end(line)).filter(|end| !end.is_empty());
        after.extend(end.unwrap_or_else(|| before.line_end_near(at.min(before.len()))));
    }
    if !before.ends_with_newline() && (!ends_with_newline || &after[..last_end] != before.bytes) {
        after.truncate(last_end);
    }
    Ok(after)
}
