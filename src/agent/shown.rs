//! Which files the first message of a run by whole files shows: those that the task or the failing tests name, then the
//! short ones, within a budget.

use std::collections::BTreeSet;

use super::Brief;
use super::prompt::listing;
use crate::outcome::TestEnding;
use crate::workspace::{Files, RelativePath, Walk, Walked};

/// The most bytes of all files together, where the window has room for them.
const MOST_BYTES: usize = 24_000;
/// The most bytes of a file that nothing names.
const MOST_UNNAMED_BYTES: u64 = 4_000;
/// The most bytes of the files that nothing names: on a processor without a GPU each costs seconds.
const MOST_UNNAMED_BYTES_TOGETHER: usize = 8_000;
/// Files that no task of this kind is about, by their last part.
const NOT_SHOWN: [&str; 12] = [
    "Cargo.lock",
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "poetry.lock",
    "uv.lock",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "LICENSE",
    ".gitignore",
    ".gitattributes",
];

/// What the first message shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// In the order of their paths.
    pub(super) files: Vec<ShownFile>,
    /// The paths of the others; empty if there are none.
    pub(super) hidden: String,
}

#[derive(Debug)]
pub(super) struct ShownFile {
    pub(super) path: String,
    /// With LF line ends and one at its end.
    pub(super) content: String,
    /// The task or the failing tests name it.
    pub(super) is_named: bool,
}

/// Chooses the files.
pub(super) fn select(files: &Files, walk: &Walk, brief: &Brief, window: Option<u64>) -> Shown {
    // Three bytes are a token at worst; a third of the window is left for files.
    let room = window.map_or(MOST_BYTES, |window| usize::try_from(window).unwrap_or(usize::MAX)).min(MOST_BYTES);
    let failing = brief.baseline.as_ref().filter(|run| run.ending != TestEnding::Passed);
    let task = format!("{} {}", brief.title, brief.instruction);
    let mut ranked: Vec<(u8, &Walked)> = walk
        .files
        .iter()
        .filter(|file| !NOT_SHOWN.iter().any(|name| file.path.file_name() == *name))
        .map(|file| {
            let is_in_failure = failing.is_some_and(|run| run.excerpt.contains(file.path.file_name()));
            (
                if names(&task, file.path.as_str()) {
                    0
                } else if is_in_failure {
                    1
                } else {
                    2
                },
                file,
            )
        })
        .collect();
    ranked.sort_by_key(|(rank, file)| (*rank, file.length));
    let mut shown = Vec::new();
    let (mut bytes, mut unnamed_bytes) = (0, 0);
    for (rank, file) in ranked {
        let is_named = rank < 2;
        if file.length > room as u64 || !is_named && file.length > MOST_UNNAMED_BYTES {
            continue;
        }
        let Some(content) = text_of(files, &file.path) else { continue };
        let is_too_much = bytes + content.len() > room
            || !is_named && unnamed_bytes + content.len() > MOST_UNNAMED_BYTES_TOGETHER.min(room / 2);
        if is_too_much {
            continue;
        }
        bytes += content.len();
        unnamed_bytes += if is_named { 0 } else { content.len() };
        shown.push(ShownFile { path: file.path.to_string(), content, is_named });
    }
    shown.sort_by(|left, right| left.path.cmp(&right.path));
    let paths: BTreeSet<&str> = shown.iter().map(|file| file.path.as_str()).collect();
    let others = walk.files.iter().filter(|file| !paths.contains(file.path.as_str())).cloned().collect();
    let others = Walk { files: others, truncated: walk.truncated };
    let hidden = if others.files.is_empty() { String::new() } else { listing(files, &others) };
    Shown { files: shown, hidden }
}

/// Whether a text speaks of a file: by its path, or its name.
fn names(text: &str, path: &str) -> bool {
    let is_inside = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '/');
    let name = path.rsplit('/').next().unwrap_or(path);
    [path, name].iter().any(|wanted| {
        text.match_indices(wanted)
            .any(|(at, _)| !text[..at].ends_with(is_inside) && !text[at + wanted.len()..].starts_with(is_inside))
    })
}

/// The text of a file; `None` for what is no text.
pub(super) fn text_of(files: &Files, path: &RelativePath) -> Option<String> {
    let text = String::from_utf8(files.read(path, MOST_BYTES as u64).ok()?).ok()?;
    if text.contains('\0') {
        return None;
    }
    let text = text.replace("\r\n", "\n");
    Some(if text.is_empty() || text.ends_with('\n') { text } else { format!("{text}\n") })
}
