//! Paths in what stands around code: the info of a fence, a line above it, a comment in its first line. PURE.

use std::collections::BTreeSet;

/// The longest line that is looked at for a path.
const LONGEST_LINE: usize = 400;

/// The path that is all a line has, but for decoration; one without an extension has a folder.
pub(in crate::agent) fn path_of(line: &str) -> Option<String> {
    let with_folder = || {
        let word = line.trim().trim_matches(['`', '*', '#', ':', '"', '\'', ' ']);
        let is_path = word.contains('/') && !word.contains(char::is_whitespace) && !word.contains("://");
        (is_path && word.len() <= LONGEST_LINE).then(|| word.to_owned())
    };
    alone(line).or_else(with_folder)
}

/// The path in what stands behind a fence.
pub(in crate::agent) fn path_in_info(info: &str) -> Option<String> {
    let words =
        info.split([' ', ':', '{', '}', ',']).map(|word| word.rsplit_once('=').map_or(word, |(_, value)| value));
    words.map(|word| word.trim_matches(['"', '\''])).find(|word| has_extension(word)).map(str::to_owned)
}

/// The only path in the last sentence of a line.
pub(in crate::agent) fn path_in_sentence(line: &str) -> Option<String> {
    if line.len() > LONGEST_LINE {
        return None;
    }
    let sentence = line.trim().trim_end_matches(['.', ':']).rsplit(". ").next().unwrap_or_default();
    let words = sentence.split_whitespace().map(undecorated).filter(|word| has_extension(word));
    let paths: BTreeSet<&str> = words.collect();
    match paths.len() {
        1 => paths.first().map(|path| (*path).to_owned()),
        _ => None,
    }
}

/// The path that is all a line has, but for decoration.
pub(in crate::agent) fn alone(line: &str) -> Option<String> {
    if line.len() > LONGEST_LINE {
        return None;
    }
    let mut text = undecorated(line.trim().trim_start_matches(['-', '+', ' ']));
    for label in ["File", "Filename", "Path", "file", "filename", "path"] {
        text = text.strip_prefix(label).and_then(|rest| rest.trim_start().strip_prefix(':')).map_or(text, undecorated);
    }
    let text =
        text.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix(". ").map_or(text, undecorated);
    let is_known = matches!(text, "Makefile" | "Dockerfile" | "Gemfile" | "Rakefile" | "LICENSE" | "README");
    (is_known || has_extension(text) || text.starts_with("/") && text.len() > 1)
        .then(|| text.to_owned())
        .filter(|text| !text.contains(char::is_whitespace))
}

fn undecorated(text: &str) -> &str {
    text.trim()
        .trim_matches(['#', '*', '`', '"', '\'', '(', ')', '[', ']', '<', '>', ',', ';', ':', ' '])
        .trim_end_matches('.')
}

/// What a comment of one line holds; `None`: the line is no comment.
pub(super) fn comment_text(line: &str) -> Option<&str> {
    let pairs = [("<!--", "-->"), ("/*", "*/"), ("//", ""), ("#", ""), ("--", ""), (";", ""), ("%", "")];
    pairs.iter().find_map(|(start, end)| Some(line.strip_prefix(start)?.trim_end().strip_suffix(end)?.trim()))
}

/// Whether a word is a path by its look: its last part ends with a dot and a short extension, or begins with a dot.
pub(super) fn has_extension(word: &str) -> bool {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_-./+@\\".contains(letter);
    let name = word.rsplit('/').next().unwrap_or(word);
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let is_extension = (1..=10).contains(&extension.len())
        && extension.chars().all(|letter| letter.is_ascii_alphanumeric())
        && extension.starts_with(|letter: char| letter.is_ascii_alphabetic());
    word.chars().all(is_plain) && is_extension && !matches!((stem, extension), ("e", "g") | ("i", "e"))
}
