//! `replace`, `patch`, `write` and `delete`: a change as it was meant, or none. What an edit comes to is worked out by
//! [`edit`]; here it is written, and told with what is wrong in the file's syntax since then.
//!
//! `write` does not rewrite a file that the model has not seen: it shows the file instead ([`unseen`]).

use super::super::edit::{self, Edited};
use super::super::syntax;
use super::super::text::clip;
use super::{Answer, DeleteArguments, PatchArguments, ReadArguments, ReplaceArguments, WriteArguments, look, path};
use crate::workspace::{FileError, Files, Kind, RelativePath};

/// The largest file that is edited, in bytes.
const MOST_FILE_BYTES: u64 = 8 << 20;
/// What an answer says around a file that was not seen, in tokens.
const AROUND_UNSEEN: u64 = 60;
/// The most lines of a file that an answer shows.
const MOST_SHOWN_LINES: usize = 12;

pub(super) fn replace(files: &Files, arguments: &ReplaceArguments) -> Result<Answer, FileError> {
    let path = path(&arguments.path)?;
    let before = files.read(&path, MOST_FILE_BYTES)?;
    match edit::replace(path.as_str(), &before, &arguments.old, &arguments.new) {
        Err(refusal) => Ok(Answer::error(refusal.to_string())),
        Ok(edited) if edited.after == edited.before => {
            Ok(Answer::error(format!("`{path}` would not differ; nothing was changed")))
        }
        Ok(edited) => put(files, vec![edited], "Replaced in"),
    }
}

/// Applies the edits in a text: search and replace blocks, unified diffs, patch envelopes; all of them, or none.
///
/// `only_editable` is the file that is meant where the text names none. The error is fatal: a host that cannot write.
pub fn apply_text(files: &Files, text: &str, only_editable: Option<&str>) -> Result<Answer, FileError> {
    let edits = match edit::read(text) {
        Ok(edits) => edits,
        Err(unreadable) => return Ok(Answer::error(unreadable.to_string())),
    };
    let mut wrong = None;
    let original = |text: &str| match path(text).and_then(|path| files.read(&path, MOST_FILE_BYTES)) {
        Ok(contents) => Some(contents),
        Err(FileError::NotFound(_)) => None,
        Err(error) => {
            wrong.get_or_insert(error);
            None
        }
    };
    let applied = edit::apply(&edits, original, only_editable);
    match (wrong, applied) {
        (Some(error), _) => super::answer_of(Err(error)),
        (None, Err(refusal)) => Ok(Answer::error(refusal.to_string())),
        (None, Ok(edited)) => super::answer_of(put(files, edited, "Changed")),
    }
}

/// The paths that a patch names, as the file layer spells them.
pub(in crate::agent) fn patched_paths(arguments: &PatchArguments) -> Vec<String> {
    let named = edit::read(&arguments.text).unwrap_or_default().into_iter().flat_map(|edit| {
        let target = match edit.change {
            edit::Change::Update { move_to, .. } => move_to,
            edit::Change::Create { .. } | edit::Change::Delete => None,
        };
        [edit.path, target]
    });
    named.chain([arguments.path.clone()]).flatten().map(|path| super::normal(&path)).collect()
}

pub(super) fn write(files: &Files, arguments: &WriteArguments) -> Result<Answer, FileError> {
    let path = path(&arguments.path)?;
    let before = match files.read(&path, MOST_FILE_BYTES) {
        Ok(before) => Some(before),
        Err(FileError::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    match edit::write(path.as_str(), before.as_deref(), &arguments.content) {
        Err(refusal) => Ok(Answer::error(refusal.to_string())),
        Ok(edited) if edited.after == edited.before => {
            Ok(Answer::ok(format!("`{path}` has exactly this content already; nothing was changed.")))
        }
        Ok(edited) => put(files, vec![edited], "Rewrote"),
    }
}

/// What the model reads instead of a rewrite: the file that it would have lost, within `page` tokens. `None`: there is no
/// such file.
pub(super) fn unseen(files: &Files, arguments: &WriteArguments, page: u64) -> Result<Option<Answer>, FileError> {
    let path = path(&arguments.path)?;
    if !matches!(files.kind(&path), Ok(Kind::File { length: 1.., .. })) {
        return Ok(None);
    }
    let read = ReadArguments { path: path.to_string(), start: None, lines: None };
    let shown = look::read(files, &read, page.saturating_sub(AROUND_UNSEEN))?.text;
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

/// Writes all files, or puts back the ones that were written when one cannot be.
fn put(files: &Files, edited: Vec<Edited>, verb: &str) -> Result<Answer, FileError> {
    let mut placed = Vec::with_capacity(edited.len());
    for edited in &edited {
        let path = path(&edited.path)?;
        placed.push((path, edited));
    }
    // What goes away goes last: a move writes its target in the manner of its source.
    placed.sort_by_key(|(_, edited)| edited.after.is_none());
    for (at, (path, edited)) in placed.iter().enumerate() {
        if let Err(error) = put_one(files, path, edited) {
            for (path, edited) in placed[..at].iter().rev() {
                // The first error is the one to tell.
                let _ = match &edited.before {
                    Some(before) => files.write(path, before),
                    None => files.remove(path),
                };
            }
            return Err(error);
        }
    }
    let told: Vec<String> =
        edited.iter().filter_map(|edited| tell(edited, &edited_to(&placed, edited), verb)).collect();
    let errors = edited.iter().filter_map(|edited| {
        let errors = syntax::new_errors(&edited.path, edited.before.as_deref(), edited.after.as_deref()?);
        syntax::tell(&edited.path, &errors)
    });
    let lines: Vec<String> = told.into_iter().chain(errors).collect();
    Ok(Answer::changed(lines.join("\n")))
}

fn put_one(files: &Files, path: &RelativePath, edited: &Edited) -> Result<(), FileError> {
    match (&edited.after, &edited.moved_from) {
        (Some(after), Some(source)) => files.write_like(path, after, &self::path(source)?),
        (Some(after), None) => files.write(path, after),
        (None, _) => files.remove(path),
    }
}

/// Where a file that goes away went, if it was moved.
fn edited_to(placed: &[(RelativePath, &Edited)], edited: &Edited) -> Option<String> {
    let moved = placed.iter().find(|(_, other)| other.moved_from.as_ref() == Some(&edited.path));
    moved.map(|(path, _)| path.to_string())
}

/// What became of a file, as a sentence, with its lines where parts of it changed.
fn tell(edited: &Edited, moved_to: &Option<String>, verb: &str) -> Option<String> {
    let path = &edited.path;
    let Some(after) = &edited.after else {
        return Some(match moved_to {
            Some(target) => format!("Moved `{path}` to `{target}`."),
            None => format!("Deleted `{path}`."),
        });
    };
    let notes: String = edited.notes.iter().map(|note| format!(" ({})", note.sentence())).collect();
    let count = String::from_utf8_lossy(after).lines().count();
    let is_whole = verb == "Rewrote" || edited.before.is_none();
    if is_whole && edited.moved_from.is_none() {
        let verb = if edited.before.is_none() { "Created" } else { verb };
        return Some(format!("{verb} `{path}` ({count} lines).{notes}"));
    }
    let numbers: Vec<String> = edited.places.iter().take(10).map(|place| (place.start + 1).to_string()).collect();
    if numbers.is_empty() {
        return None;
    }
    let line = if numbers.len() == 1 { "line" } else { "lines" };
    let shown = surroundings(after, edited);
    Some(format!("{verb} `{path}` at {line} {}.{notes} It now reads:\n{shown}", numbers.join(", ")))
}

/// The changed lines with one before and one after, numbered: what an edit has come to.
fn surroundings(contents: &[u8], edited: &Edited) -> String {
    let text = String::from_utf8_lossy(contents);
    let is_near =
        |line: usize| edited.places.iter().any(|place| (place.start.saturating_sub(1)..=place.end).contains(&line));
    let near: Vec<(usize, &str)> = text.lines().enumerate().filter(|(at, _)| is_near(*at)).collect();
    let mut shown = Vec::new();
    let mut last = None;
    for (at, line) in near.iter().take(MOST_SHOWN_LINES) {
        if last.is_some_and(|last| last + 1 < *at) {
            shown.push("      ...".to_owned());
        }
        shown.push(format!("{:>4}  {}", at + 1, clip(line, 200)));
        last = Some(*at);
    }
    if near.len() > MOST_SHOWN_LINES {
        shown.push(format!("[and {} more lines]", near.len() - MOST_SHOWN_LINES));
    }
    shown.join("\n")
}
