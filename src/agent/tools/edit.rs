//! `replace`, `write` and `delete`: a change as it was meant, or none.
//!
//! `write` does not rewrite a file that the model has not seen: it shows the file instead ([`unseen`]).
//!
//! `replace` looks for its text in three ways and takes the first that finds any; more than one place is refused:
//!
//! 1. exactly, byte for byte (in a file with CRLF line ends, the given LF counts as CRLF);
//! 2. whole lines, equal but for white space at their ends;
//! 3. whole lines that all stand deeper, or all less deep, by the same white space; the new text moves along.

use std::ops::Range;

use super::super::text::clip;
use super::{Answer, DeleteArguments, ReadArguments, ReplaceArguments, WriteArguments, look, path};
use crate::workspace::{FileError, Files, Kind, RelativePath};

/// The largest file that is edited, in bytes.
const MOST_FILE_BYTES: u64 = 8 << 20;
/// The most places that an answer names.
const MOST_PLACES: usize = 10;
/// The most lines of a file that an answer shows.
const MOST_SHOWN_LINES: usize = 12;
/// Comparing each window of a longer file would take too long.
const MOST_COMPARED_LINES: usize = 20_000;

pub(super) fn replace(files: &Files, arguments: &ReplaceArguments) -> Result<Answer, FileError> {
    let path = path(&arguments.path)?;
    if arguments.old.is_empty() {
        return Ok(Answer::error(
            "old is empty. To add lines, copy a line of the file into old, and that line with the new ones into new; \
             to create a file or rewrite it, call write",
        ));
    }
    let contents = files.read(&path, MOST_FILE_BYTES)?;
    if arguments.old == arguments.new {
        let hint = match places_of(&contents, arguments.new.as_bytes())[..] {
            [] => "read the file",
            _ => "the file reads so already: do what is left of the task, or call finish",
        };
        return Ok(Answer::error(format!("old and new are the same, so nothing was changed; {hint}")));
    }
    let uses_crlf = has_only_crlf(&contents);
    let (old, new) = match uses_crlf {
        true => (to_crlf(&arguments.old), to_crlf(&arguments.new)),
        false => (arguments.old.clone(), arguments.new.clone()),
    };
    let places = places_of(&contents, old.as_bytes());
    if let [place] = places[..] {
        return put(files, &path, &contents, place..place + old.len(), new.as_bytes(), "");
    }
    if !places.is_empty() {
        let numbers: Vec<usize> = places.iter().map(|place| line_number(&contents, *place)).collect();
        return Ok(Answer::error(not_unique(&path, &numbers)));
    }
    let Ok(text) = std::str::from_utf8(&contents) else {
        return Ok(Answer::error(format!("the text is not in `{path}`, which is no UTF-8; nothing was changed")));
    };
    match by_lines(text, &arguments.old, &arguments.new) {
        ByLines::Once { range, new, note } => {
            let new = if uses_crlf { to_crlf(&new) } else { new };
            put(files, &path, &contents, range, new.as_bytes(), note)
        }
        ByLines::Several(numbers) => Ok(Answer::error(not_unique(&path, &numbers))),
        ByLines::Nowhere => Ok(Answer::error(format!(
            "the text is not in `{path}`; nothing was changed. {}",
            nearest(text, &arguments.old)
        ))),
    }
}

pub(super) fn write(files: &Files, arguments: &WriteArguments) -> Result<Answer, FileError> {
    let path = path(&arguments.path)?;
    let before = match files.read(&path, MOST_FILE_BYTES) {
        Ok(before) => Some(before),
        Err(FileError::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let contents = match &before {
        Some(before) if has_only_crlf(before) && !arguments.content.contains('\r') => to_crlf(&arguments.content),
        Some(_) | None => arguments.content.clone(),
    };
    if before.as_deref() == Some(contents.as_bytes()) {
        return Ok(Answer::ok(format!("`{path}` has exactly this content already; nothing was changed.")));
    }
    files.write(&path, contents.as_bytes())?;
    let done = if before.is_some() { "Rewrote" } else { "Created" };
    Ok(Answer::changed(format!("{done} `{path}` ({} lines).", contents.lines().count())))
}

/// What the model reads instead of a rewrite: the file that it would have lost. `None`: there is no such file.
pub(super) fn unseen(files: &Files, arguments: &WriteArguments) -> Result<Option<Answer>, FileError> {
    let path = path(&arguments.path)?;
    if !matches!(files.kind(&path), Ok(Kind::File { length: 1.., .. })) {
        return Ok(None);
    }
    let read = ReadArguments { path: path.to_string(), start: None, lines: None };
    let shown = look::read(files, &read)?.text;
    Ok(Some(Answer::error(format!(
        "`{path}` exists already and was not read, so nothing was written. {shown}\n\
         Change it with replace; or call write again to rewrite it as a whole."
    ))))
}

pub(super) fn delete(files: &Files, arguments: &DeleteArguments) -> Result<Answer, FileError> {
    let path = path(&arguments.path)?;
    files.remove(&path)?;
    Ok(Answer::changed(format!("Deleted `{path}`.")))
}

fn put(
    files: &Files,
    path: &RelativePath,
    contents: &[u8],
    range: Range<usize>,
    new: &[u8],
    note: &str,
) -> Result<Answer, FileError> {
    let mut changed = Vec::with_capacity(contents.len() + new.len());
    changed.extend_from_slice(&contents[..range.start]);
    changed.extend_from_slice(new);
    changed.extend_from_slice(&contents[range.end..]);
    if changed == contents {
        return Ok(Answer::error(format!("`{path}` would not differ; nothing was changed")));
    }
    files.write(path, &changed)?;
    let line = line_number(contents, range.start);
    let shown = surroundings(&changed, range.start..range.start + new.len());
    Ok(Answer::changed(format!("Replaced in `{path}` at line {line}.{note} It now reads:\n{shown}")))
}

/// The lines of `range` with one before and one after, numbered: what an edit has come to.
fn surroundings(contents: &[u8], range: Range<usize>) -> String {
    let text = String::from_utf8_lossy(contents);
    let first = line_number(contents, range.start).saturating_sub(1).max(1);
    let last = line_number(contents, range.end) + 1;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let numbered = |(number, line): (usize, &str)| format!("{number:>4}  {}", clip(line, 200));
    let mut shown: Vec<String> = lines.filter(|(number, _)| (first..=last).contains(number)).map(numbered).collect();
    if shown.len() > MOST_SHOWN_LINES {
        let omitted = shown.len() - MOST_SHOWN_LINES;
        shown.truncate(MOST_SHOWN_LINES);
        shown.push(format!("[and {omitted} more lines]"));
    }
    shown.join("\n")
}

enum ByLines {
    Once {
        range: Range<usize>,
        new: String,
        note: &'static str,
    },
    /// The line numbers where it stands.
    Several(Vec<usize>),
    Nowhere,
}

fn by_lines(text: &str, old: &str, new: &str) -> ByLines {
    let lines: Vec<(usize, &str)> = line_starts(text);
    let wanted: Vec<&str> = old.lines().collect();
    if wanted.iter().all(|line| line.trim().is_empty()) || wanted.len() > lines.len() {
        return ByLines::Nowhere;
    }
    let windows = || lines.windows(wanted.len()).enumerate();
    let range_of = |first: usize| {
        let start = lines[first].0;
        let (last_start, last) = lines[first + wanted.len() - 1];
        // Without its line end, unless the old text has one too.
        let end = last_start + last.trim_end_matches(['\r', '\n']).len();
        start..if old.ends_with('\n') { last_start + last.len() } else { end }
    };
    let loose: Vec<usize> = windows()
        .filter(|(_, window)| {
            window.iter().zip(&wanted).all(|((_, line), wanted)| line.trim_end() == wanted.trim_end())
        })
        .map(|(first, _)| first)
        .collect();
    match loose[..] {
        [first] => {
            let note = " (White space at line ends differed.)";
            return ByLines::Once { range: range_of(first), new: new.to_owned(), note };
        }
        [] => {}
        _ => return ByLines::Several(loose.iter().map(|first| first + 1).collect()),
    }
    let moved: Vec<(usize, Shift)> = windows()
        .filter_map(|(first, window)| Some((first, shift_of(window.iter().map(|(_, line)| *line), &wanted)?)))
        .collect();
    match &moved[..] {
        [(first, shift)] => match shift.apply(new) {
            Some(new) => ByLines::Once {
                range: range_of(*first),
                new,
                note: " (The indentation differed; the new text was moved along.)",
            },
            None => ByLines::Nowhere,
        },
        [] => ByLines::Nowhere,
        several => ByLines::Several(several.iter().map(|(first, _)| first + 1).collect()),
    }
}

/// By what white space the file's lines stand deeper or less deep than the given ones.
#[derive(PartialEq)]
enum Shift {
    Deeper(String),
    Shallower(String),
}

impl Shift {
    fn apply(&self, text: &str) -> Option<String> {
        let lines = text.split_inclusive('\n').map(|line| match self {
            _ if line.trim().is_empty() => Some(line.to_owned()),
            Shift::Deeper(space) => Some(format!("{space}{line}")),
            Shift::Shallower(space) => line.strip_prefix(space.as_str()).map(str::to_owned),
        });
        lines.collect()
    }
}

fn shift_of<'a>(window: impl Iterator<Item = &'a str>, wanted: &[&str]) -> Option<Shift> {
    let mut shift: Option<Shift> = None;
    for (line, wanted) in window.zip(wanted) {
        let (line, wanted) = (line.trim_end(), wanted.trim_end());
        if line.is_empty() && wanted.is_empty() {
            continue;
        }
        let this = if let Some(space) = line.strip_suffix(wanted) {
            Shift::Deeper(space.to_owned())
        } else {
            Shift::Shallower(wanted.strip_suffix(line)?.to_owned())
        };
        let (Shift::Deeper(space) | Shift::Shallower(space)) = &this;
        if space.is_empty() || !space.trim().is_empty() || line.is_empty() || wanted.is_empty() {
            return None;
        }
        match &shift {
            Some(shift) if *shift != this => return None,
            Some(_) | None => shift = Some(this),
        }
    }
    shift
}

/// The lines that are most like `old`, with their numbers, as a sentence for the model.
fn nearest(text: &str, old: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let wanted: Vec<&str> = old.lines().map(str::trim).collect();
    let many = wanted.len().clamp(1, MOST_SHOWN_LINES);
    let best = (0..lines.len().min(MOST_COMPARED_LINES))
        .map(|first| {
            let window = lines[first..].iter().zip(wanted.iter().take(many));
            let score: f32 = window.map(|(line, wanted)| likeness(line.trim(), wanted)).sum();
            (score / many as f32, first)
        })
        .max_by(|left, right| left.0.total_cmp(&right.0).then(right.1.cmp(&left.1)));
    match best {
        Some((score, first)) if score >= 0.3 => {
            let last = (first + many).min(lines.len());
            let shown: Vec<String> =
                (first..last).map(|at| format!("{:>4}  {}", at + 1, clip(lines[at], 200))).collect();
            format!("The nearest text there is:\n{}\nCopy old from these lines, without the numbers.", shown.join("\n"))
        }
        Some(_) | None => "Nothing there is like it: read the file.".into(),
    }
}

/// From 0 to 1: how much of two lines is the same at their beginning and end.
fn likeness(left: &str, right: &str) -> f32 {
    let longest = left.len().max(right.len());
    if longest == 0 {
        return 0.2;
    }
    let shortest = left.len().min(right.len());
    let prefix = left.bytes().zip(right.bytes()).take_while(|(left, right)| left == right).count();
    let suffix = left.bytes().rev().zip(right.bytes().rev()).take_while(|(left, right)| left == right).count();
    (prefix + suffix.min(shortest - prefix)) as f32 / longest as f32
}

fn not_unique(path: &RelativePath, numbers: &[usize]) -> String {
    let shown: Vec<String> = numbers.iter().take(MOST_PLACES).map(ToString::to_string).collect();
    let more = if numbers.len() > MOST_PLACES { " and more" } else { "" };
    format!(
        "the text stands {} times in `{path}`, at lines {}{more}; nothing was changed. \
         Give more lines around it in old, so that it is unique.",
        numbers.len(),
        shown.join(", ")
    )
}

/// Each line with its line end, and where it starts.
fn line_starts(text: &str) -> Vec<(usize, &str)> {
    let mut start = 0;
    text.split_inclusive('\n')
        .map(|line| {
            let this = (start, line);
            start += line.len();
            this
        })
        .collect()
}

/// Where `needle` stands, without overlaps.
fn places_of(contents: &[u8], needle: &[u8]) -> Vec<usize> {
    let Some(first) = needle.first() else { return Vec::new() };
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(at) = contents[from..].iter().position(|byte| byte == first) {
        let at = from + at;
        if contents[at..].starts_with(needle) {
            places.push(at);
            from = at + needle.len();
        } else {
            from = at + 1;
        }
    }
    places
}

fn line_number(contents: &[u8], place: usize) -> usize {
    contents[..place].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn has_only_crlf(contents: &[u8]) -> bool {
    let ends = contents.iter().filter(|byte| **byte == b'\n').count();
    ends > 0 && contents.windows(2).filter(|pair| *pair == b"\r\n").count() == ends
}

fn to_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}
