//! What an edit has broken in a file's syntax: the errors that were not there before. PURE.

use std::collections::HashMap;
use std::time::Duration;

use tree_sitter::{Node, Tree};

use super::grammar::Language;
use super::text::clip;

/// Larger files are not looked at, in bytes: a tree takes many times the memory of its text.
const MOST_BYTES: usize = 512 << 10;
/// How long one of the two readings may take.
const LONGEST: Duration = Duration::from_millis(200);
/// The most errors that are told.
const MOST_TOLD: usize = 3;
/// More nodes than this are not walked through.
const MOST_NODES: usize = 500_000;

/// A place where a text is not of its language.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    pub text: String,
    /// What is missing there, if that is known.
    pub missing: Option<String>,
}

/// The errors in `after` that are not in `before`, by the text of their lines, the first ones; none for a language that is
/// not known, and for a file that is too large.
pub fn new_errors(path: &str, before: Option<&[u8]>, after: &[u8]) -> Vec<SyntaxError> {
    let Some(language) = Language::of(path) else { return Vec::new() };
    let Some(errors) = errors(language, after).filter(|errors| !errors.is_empty()) else { return Vec::new() };
    // A file whose old errors cannot be told has no new ones.
    let Some(old) = before.map_or(Some(Vec::new()), |before| self::errors(language, before)) else { return Vec::new() };
    let mut known: HashMap<(String, Option<String>), usize> = HashMap::new();
    for error in old {
        *known.entry((error.text, error.missing)).or_default() += 1;
    }
    let is_new = |error: &SyntaxError| match known.get_mut(&(error.text.clone(), error.missing.clone())) {
        Some(left @ 1..) => {
            *left -= 1;
            false
        }
        Some(_) | None => true,
    };
    errors.into_iter().filter(is_new).take(MOST_TOLD).collect()
}

/// Whether a text is known to have no error; a language that is not known tells nothing.
pub fn is_sound(path: &str, text: &[u8]) -> bool {
    let errors = Language::of(path).and_then(|language| errors(language, text));
    errors.is_some_and(|errors| errors.is_empty())
}

/// The errors as sentences for the model; `None`: there is none.
pub fn tell(path: &str, errors: &[SyntaxError]) -> Option<String> {
    if errors.is_empty() {
        return None;
    }
    let lines = errors.iter().map(|error| {
        let missing = error.missing.as_ref().map(|missing| format!("  (missing {missing})")).unwrap_or_default();
        format!("{:>4}  {}{missing}", error.line, error.text)
    });
    let lines: Vec<String> = lines.collect();
    Some(format!("But `{path}` has a syntax error now, which was not there before:\n{}\nCorrect it.", lines.join("\n")))
}

/// All errors in the order of the text, one a line at most; `None`: the text is too large, or reading it took too long.
fn errors(language: Language, text: &[u8]) -> Option<Vec<SyntaxError>> {
    if text.len() > MOST_BYTES {
        return None;
    }
    let tree = language.parse(text, LONGEST)?;
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let mut errors: Vec<SyntaxError> = Vec::new();
    for node in broken(&tree) {
        let at = line_of(&node, &lines);
        if errors.last().is_some_and(|last| last.line == at + 1) {
            continue;
        }
        let text = String::from_utf8_lossy(lines.get(at).copied().unwrap_or_default());
        let missing = node.is_missing().then(|| node.kind().to_owned());
        errors.push(SyntaxError { line: at + 1, text: clip(text.trim(), 160), missing });
    }
    Some(errors)
}

/// The line, from 0, that a reader would look at: an error that begins with blank lines is told where its text begins, and
/// something missing on the last line with text before it.
fn line_of(node: &Node<'_>, lines: &[&[u8]]) -> usize {
    let is_blank = |line: usize| lines.get(line).is_none_or(|text| text.trim_ascii().is_empty());
    let start = node.start_position().row;
    if node.is_missing() {
        let starts_line = node.start_position().column == 0 || is_blank(start);
        return (0..=start).rev().skip(usize::from(starts_line)).find(|line| !is_blank(*line)).unwrap_or(start);
    }
    (start..=node.end_position().row).find(|line| !is_blank(*line)).unwrap_or(start)
}

/// The nodes that are errors or stand for something missing, outermost only.
fn broken(tree: &Tree) -> Vec<Node<'_>> {
    let mut broken = Vec::new();
    let mut cursor = tree.walk();
    let mut walked = 0;
    loop {
        walked += 1;
        let node = cursor.node();
        if node.is_error() || node.is_missing() {
            broken.push(node);
        }
        let goes_down = node.has_error() && !node.is_error() && cursor.goto_first_child();
        if goes_down {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return broken;
            }
        }
        if walked > MOST_NODES {
            return broken;
        }
    }
}
