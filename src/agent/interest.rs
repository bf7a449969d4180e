//! What a task is about: the files, names and words that its text and its failing tests speak of. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::failing::{Mention, mentions};
use crate::workspace::Walk;

/// Words that say nothing about where something is.
const COMMON: [&str; 44] = [
    "about",
    "after",
    "again",
    "also",
    "because",
    "before",
    "change",
    "code",
    "correct",
    "does",
    "error",
    "every",
    "fail",
    "fails",
    "file",
    "files",
    "fixed",
    "from",
    "function",
    "have",
    "into",
    "make",
    "method",
    "must",
    "need",
    "only",
    "repository",
    "returns",
    "should",
    "that",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "when",
    "where",
    "which",
    "with",
    "without",
    "would",
    "your",
];
const SHORTEST_WORD: usize = 4;
const SHORTEST_NAME: usize = 3;
/// More words or names than this are not looked for.
const MOST: usize = 300;

/// What a task is about.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// In lower case.
    pub(super) words: HashSet<String>,
    /// What looks like a name in code, as it is written.
    pub(super) names: BTreeSet<String>,
    /// Paths and names of files, as the task writes them, and as the output does.
    paths: HashSet<String>,
    output_paths: HashSet<String>,
    /// What the failing output names.
    pub(super) mentions: Vec<Mention>,
}

impl Interest {
    /// Reads a task's text, and what its tests printed where they fail.
    pub(super) fn of(task: &str, output: Option<&str>) -> Self {
        let mut interest = Interest { mentions: output.map(mentions).unwrap_or_default(), ..Interest::default() };
        interest.paths = paths_in(task);
        interest.output_paths = output.map(paths_in).unwrap_or_default();
        let mut before = ' ';
        let mut rest = task;
        while let Some(start) = rest.find(|letter: char| letter.is_alphabetic() || letter == '_') {
            before = rest[..start].chars().next_back().unwrap_or(before);
            let name = &rest[start..];
            let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(name.len());
            let (name, after) = name.split_at(end);
            interest.take(name, before == '`' || after.starts_with(['(', '`']));
            before = name.chars().next_back().unwrap_or(' ');
            rest = after;
        }
        interest
    }

    fn take(&mut self, name: &str, is_marked: bool) {
        let is_mixed = name.chars().skip(1).any(char::is_uppercase) && name.contains(char::is_lowercase);
        let is_name = is_marked || name.trim_matches('_').contains('_') || is_mixed;
        if is_name && name.len() >= SHORTEST_NAME && self.names.len() < MOST {
            self.names.insert(name.to_owned());
        }
        let words = parts(name).into_iter().filter(|word| word.len() >= SHORTEST_WORD);
        for word in words.filter(|word| !COMMON.contains(&word.as_str())) {
            if self.words.len() < MOST {
                self.words.insert(word);
            }
        }
    }

    /// Whether the task or the output speaks of a file: by its path, the end of it, or its name.
    pub(super) fn names_file(&self, path: &str) -> bool {
        self.names_task_file(path) || holds(&self.output_paths, path)
    }

    /// Whether the task does.
    pub(super) fn names_task_file(&self, path: &str) -> bool {
        holds(&self.paths, path)
    }
}

/// What could be a path in a text.
fn paths_in(text: &str) -> HashSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && !"_-/.+@".contains(letter));
    let words = words.map(|word| word.trim_end_matches(['.', '-', '/'])).filter(|word| is_path(word));
    words.take(MOST * 4).map(|path| plain_path(path).to_owned()).collect()
}

/// A name without an ending is a word like others.
fn is_path(text: &str) -> bool {
    text.contains(['.', '/']) || text.contains(char::is_uppercase)
}

/// Whether a path, the end of it or its name is among `paths`.
fn holds(paths: &HashSet<String>, path: &str) -> bool {
    let mut end = Some(path);
    while let Some(text) = end {
        if is_path(text) && paths.contains(text) {
            return true;
        }
        end = text.split_once('/').map(|(_, rest)| rest);
    }
    false
}

/// The words of a name or path, in lower case: `parseURL_of` has `parse`, `url`, `of`.
pub(super) fn parts(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        let begins = letter.is_uppercase() && was_lower;
        if (begins || !letter.is_alphanumeric()) && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
        }
        if letter.is_alphanumeric() {
            part.extend(letter.to_lowercase());
        }
        was_lower = letter.is_lowercase() || letter.is_ascii_digit();
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
}

/// The files of a tree by their paths, to find the one that an output means.
pub(super) struct Paths<'a> {
    by_name: HashMap<&'a str, Vec<usize>>,
    walk: &'a Walk,
}

impl<'a> Paths<'a> {
    pub(super) fn of(walk: &'a Walk) -> Self {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, file) in walk.files.iter().enumerate() {
            by_name.entry(file.path.file_name()).or_default().push(at);
        }
        Self { by_name, walk }
    }

    /// The file that `path` means: the one with the longest common end, if there is one such.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        let wanted: Vec<&str> = plain_path(path).rsplit('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let candidates = self.by_name.get(wanted.first()?)?;
        let common = |at: usize| {
            let path = self.walk.files[at].path.as_str();
            path.rsplit('/').zip(&wanted).take_while(|(left, right)| left == *right).count()
        };
        let best = candidates.iter().map(|at| common(*at)).max()?;
        let mut fitting = candidates.iter().filter(|at| common(**at) == best);
        let (first, second) = (fitting.next()?, fitting.next());
        // The path of a library's file has a folder that no file here has.
        let is_whole = best == wanted.len() || best == self.walk.files[*first].path.as_str().split('/').count();
        (second.is_none() && is_whole).then_some(*first)
    }
}

/// A path without where the sandbox has the repository.
fn plain_path(path: &str) -> &str {
    let path = path.strip_prefix("file://").unwrap_or(path);
    path.strip_prefix("/workspace/").or_else(|| path.strip_prefix("./")).unwrap_or(path)
}

/// Whether a file holds tests, by its path.
pub(super) fn is_test(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let in_folder = folders
        .split('/')
        .any(|folder| matches!(folder, "test" | "tests" | "__tests__" | "spec" | "specs" | "testing"));
    let stem = name.split('.').next().unwrap_or(name);
    let named = stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_spec")
        || stem.ends_with("Test")
        || stem.ends_with("Tests")
        || matches!(stem, "test" | "tests" | "conftest")
        || name.contains(".test.")
        || name.contains(".spec.");
    in_folder || named
}
