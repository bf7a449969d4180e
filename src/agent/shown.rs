//! Which files the first message of a run by whole files shows: those that the task or the failing tests name, those
//! that the failing test calls, then the short ones, within a budget.

use std::collections::BTreeSet;

use super::opening::View;
use super::prompt::listing;
use super::tokens::weigh;
use crate::workspace::{Files, RelativePath, Walk, Walked};

/// The most bytes of one file.
const MOST_BYTES: usize = 48_000;
/// The most bytes of a file that nothing names.
const MOST_UNNAMED_BYTES: u64 = 4_000;
/// The most tokens of the files that nothing names: on a processor without a GPU each costs seconds.
const MOST_UNNAMED: u64 = 2_200;
/// How many files of the map come before the shortest ones.
const BEST_OF_MAP: usize = 5;
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

/// Chooses the files, within the budget for files.
pub(super) fn select(files: &Files, walk: &Walk, view: &View) -> Shown {
    let budget = view.allowance.files;
    let mut ranked: Vec<((usize, usize), usize, &Walked)> = walk
        .files
        .iter()
        .enumerate()
        .filter(|(_, file)| !NOT_SHOWN.iter().any(|name| file.path.file_name() == *name))
        .map(|(at, file)| (rank(view, at, file), at, file))
        .collect();
    ranked.sort_by_key(|(rank, _, file)| (*rank, file.length));
    let mut shown = Vec::new();
    let (mut left, mut left_of_unnamed) = (budget, MOST_UNNAMED.min(budget / 2));
    for ((rank, _), _, file) in ranked {
        let is_unnamed = rank > LAST_POINTED_AT;
        if file.length > MOST_BYTES as u64 || is_unnamed && file.length > MOST_UNNAMED_BYTES {
            continue;
        }
        let Some(content) = text_of(files, &file.path) else { continue };
        let weight = weigh(&content);
        if weight > left || is_unnamed && weight > left_of_unnamed {
            continue;
        }
        left -= weight;
        left_of_unnamed -= if is_unnamed { weight } else { 0 };
        shown.push(ShownFile { path: file.path.to_string(), content, is_named: rank <= LAST_NAMED });
    }
    shown.sort_by(|left, right| left.path.cmp(&right.path));
    let paths: BTreeSet<&str> = shown.iter().map(|file| file.path.as_str()).collect();
    let others = walk.files.iter().filter(|file| !paths.contains(file.path.as_str())).cloned().collect();
    let others = Walk { files: others, truncated: walk.truncated };
    let hidden = if others.files.is_empty() { String::new() } else { listing(files, &others) };
    Shown { files: shown, hidden }
}

/// The last rank of what the task or the failing output names.
const LAST_NAMED: usize = 1;
/// The last rank of what they point to: the code that the failing test calls.
const LAST_POINTED_AT: usize = 2;

/// How early a file is chosen: its kind, and its place among those.
fn rank(view: &View, at: usize, file: &Walked) -> (usize, usize) {
    let path = file.path.as_str();
    let place = |list: &[usize]| list.iter().position(|other| *other == at);
    let is_mentioned = || {
        let name = file.path.file_name();
        let same_name = |path: &str| path.rsplit('/').next() == Some(name);
        view.interest.mentions.iter().filter_map(|mention| mention.path.as_deref()).any(same_name)
    };
    match (view.interest.names_task_file(path), place(&view.failing.files), place(&view.map.best)) {
        (true, _, _) => (0, 0),
        (false, Some(place), _) if is_mentioned() => (LAST_NAMED, place),
        (false, Some(place), _) => (LAST_POINTED_AT, place),
        (false, None, _) if is_mentioned() => (LAST_NAMED, usize::MAX),
        // Of what nothing points to, the best of the map, as far as it is short.
        (false, None, Some(place)) if place < BEST_OF_MAP => (LAST_POINTED_AT + 1, place),
        (false, None, _) => (LAST_POINTED_AT + 2, 0),
    }
}

/// The text of a file; `None` for what is no text.
pub(super) fn text_of(files: &Files, path: &RelativePath) -> Option<String> {
    text_within(files, path, MOST_BYTES as u64)
}

/// The text of a file of at most `most` bytes.
pub(super) fn text_within(files: &Files, path: &RelativePath, most: u64) -> Option<String> {
    let text = String::from_utf8(files.read(path, most).ok()?).ok()?;
    if text.contains('\0') {
        return None;
    }
    let text = text.replace("\r\n", "\n");
    Some(if text.is_empty() || text.ends_with('\n') { text } else { format!("{text}\n") })
}
