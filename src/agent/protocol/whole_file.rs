//! Reading whole files out of a reply. Pure; never panics.
//!
//! ```text
//! reply  := thinking* ( prose | block )*
//! block  := open body close
//! open   := at least three "`" or "~", then [ info ]           spaces before it are taken off each line of the body
//! info   := language | path | language [ ":" | " " ] [ key "=" ] path
//! body   := lines; in a Markdown file, pairs of an open with an info and a close may stand inside
//! close  := a line of at least as many of the same character as the open has, and nothing else
//! ```
//!
//! A block's path is the first of these that names one:
//!
//! 1. its info;
//! 2. the line before it, if it is a path with nothing but `#`, `*`, `-`, quotes, `File:` or `:` around it;
//! 3. its first line, if it is a comment that holds a path and nothing else; that line is no part of the file;
//! 4. the last sentence of the line before it, if exactly one path stands there.
//!
//! Line ends are read as LF. The last block of a reply may lack its close, unless the reply was cut: then it is no file.
//! Of several blocks with the same path the last one counts. Blocks without a path are counted, not taken.

use std::collections::{BTreeSet, HashSet};

use super::without_thinking;

/// More blocks than this are not read: hostile text stays cheap.
const MOST_BLOCKS: usize = 200;
/// The longest line that is looked at for a path.
const LONGEST_NAMING_LINE: usize = 400;
/// Two lines that are more alike, from 0 to 1, are one line and its change.
const MOST_ALIKE: f32 = 0.6;

/// What a reply holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// In the order of the reply; each path once.
    pub files: Vec<WrittenFile>,
    /// Complete blocks without a path, but those in languages of the command line.
    pub unnamed: Vec<Unnamed>,
    /// What stands outside of the blocks.
    pub prose: String,
    /// The reply was cut inside of a block.
    pub cut: Option<Cut>,
    /// Markdown files whose end cannot be told, since their own fences are as long as the one around them.
    pub ambiguous: Vec<String>,
}

/// A file as the model wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// As the model wrote it; not checked.
    pub path: String,
    /// Ends with a line end, unless it is empty.
    pub content: String,
}

/// A block that says not whose content it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed {
    /// In lower case; empty if not told.
    pub language: String,
    pub content: String,
}

/// Where a reply was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Of the file whose end is missing, if it has a path.
    pub path: Option<String>,
}

/// A block that is being read.
struct Open {
    fence: Fence,
    indentation: usize,
    language: String,
    /// From the info, or alone on the line before.
    path: Option<String>,
    /// From the sentence before.
    path_in_sentence: Option<String>,
    lines: Vec<String>,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Fence {
    character: char,
    length: usize,
}

/// Reads a reply; `was_cut`: the server ended it at a limit.
pub fn read_files(content: &str, was_cut: bool) -> Written {
    let mut written = Written::default();
    let mut open: Option<Open> = None;
    let mut prose: Vec<&str> = Vec::new();
    // The last line with text since the last block.
    let mut naming_line = "";
    let mut blocks = 0;
    for line in without_thinking(content).lines() {
        let Some(block) = &mut open else {
            match opening(line, naming_line) {
                Some(block) if blocks < MOST_BLOCKS => {
                    blocks += 1;
                    open = Some(block);
                }
                Some(_) | None => {
                    prose.push(line);
                    naming_line = if line.trim().is_empty() { naming_line } else { line };
                }
            }
            continue;
        };
        if block.take(line) {
            written.add(open.take());
            naming_line = "";
        }
    }
    match open {
        Some(block) if was_cut => written.cut = Some(Cut { path: block.named().0 }),
        block => written.add(block),
    }
    written.prose = prose.join("\n").trim().to_owned();
    written
}

/// A fence for `content` that nothing inside of it closes.
pub fn fence_for(content: &str) -> String {
    let longest = content.lines().filter_map(|line| fence_of(line.trim_start())).map(|(fence, _)| fence.length).max();
    "`".repeat(longest.map_or(3, |longest| longest + 1))
}

/// The line of `content` that stands for lines that were left out (`# ... existing code ...`), if there is one that is
/// not in the file as it was.
pub fn elision<'a>(content: &'a str, before: &str) -> Option<&'a str> {
    const WORDS: [&str; 8] =
        ["existing", "rest of", "unchanged", "remain", "same as", "as before", "other code", "previous code"];
    content.lines().map(str::trim).find(|line| {
        let Some(comment) = comment_text(line) else { return false };
        let text = comment.to_ascii_lowercase();
        let has_dots = text.starts_with("...") || text.ends_with("...") || text.contains('…');
        has_dots
            && (text.trim_matches(['.', '…', ' ']).is_empty() || WORDS.iter().any(|word| text.contains(word)))
            && !before.lines().any(|old| old.trim() == *line)
    })
}

/// The first part of `before` of which `content` keeps no line, while it keeps others, and has none like its first: small
/// models forget what their task does not speak of. A part begins at the margin after a blank line, and has two lines at
/// least.
pub fn left_out<'a>(content: &str, before: &'a str) -> Option<Vec<&'a str>> {
    let kept: HashSet<&str> = content.lines().map(str::trim).collect();
    let is_like = |line: &str| {
        let mut margin =
            content.lines().filter(|kept| !kept.starts_with([' ', '\t']) && kept.len() <= LONGEST_NAMING_LINE);
        margin.any(|kept| similar::TextDiff::from_chars(kept.trim(), line.trim()).ratio() > MOST_ALIKE)
    };
    let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
    let mut after_blank = false;
    for line in before.lines() {
        if line.trim().is_empty() {
            after_blank = true;
            continue;
        }
        if after_blank && !line.starts_with([' ', '\t', '}', ')']) {
            parts.push(Vec::new());
        }
        after_blank = false;
        parts.last_mut()?.push(line);
    }
    let is_kept = |part: &Vec<&str>| part.iter().any(|line| kept.contains(line.trim()));
    if !parts.iter().any(is_kept) {
        return None;
    }
    parts.into_iter().find(|part| part.len() >= 2 && !is_kept(part) && !is_like(part[0]))
}

impl Written {
    fn add(&mut self, block: Option<Open>) {
        let Some(block) = block else { return };
        let (path, has_name_inside) = block.named();
        let lines = &block.lines[usize::from(has_name_inside)..];
        // A blank line after the name is no part of the file either.
        let lines = match lines {
            [blank, rest @ ..] if has_name_inside && blank.trim().is_empty() => rest,
            lines => lines,
        };
        let content: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let Some(path) = path else {
            if let Some(previous) = self.files.last()
                && is_markdown(&previous.path)
            {
                self.ambiguous.push(previous.path.clone());
                self.files.pop();
            } else if !is_of_the_command_line(&block.language) {
                self.unnamed.push(Unnamed { language: block.language, content });
            }
            return;
        };
        self.files.retain(|file| file.path != path);
        self.files.push(WrittenFile { path, content });
    }
}

impl Open {
    /// Takes a line in; `true`: it was the close.
    fn take(&mut self, line: &str) -> bool {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        let line = &line[spaces.min(self.indentation)..];
        if let Some((fence, info)) = fence_of(line.trim_start())
            && fence.character == self.fence.character
            && fence.length >= self.fence.length
        {
            let nests = self.path.as_deref().is_some_and(is_markdown);
            match (info.is_empty(), self.depth) {
                (true, 0) => return true,
                (true, _) => self.depth -= 1,
                (false, _) if nests => self.depth += 1,
                (false, _) => {}
            }
        }
        self.lines.push(line.to_owned());
        false
    }

    /// The path, and whether it stands in the first line.
    fn named(&self) -> (Option<String>, bool) {
        if self.path.is_some() {
            return (self.path.clone(), false);
        }
        let first = self.lines.first().map(|line| line.trim()).unwrap_or_default();
        let named = comment_text(first).and_then(alone).filter(|path| has_extension(path));
        let has_name_inside = named.is_some();
        (named.or_else(|| self.path_in_sentence.clone()), has_name_inside)
    }
}

fn opening(line: &str, naming_line: &str) -> Option<Open> {
    let trimmed = line.trim_start();
    let (fence, info) = fence_of(trimmed)?;
    let language = info.split([' ', ':', '{', ',']).next().unwrap_or_default().to_ascii_lowercase();
    let path = path_in_info(info).or_else(|| alone(naming_line));
    // A shell block below a sentence with a path is about that file, not its content.
    let path_in_sentence = (!is_of_the_command_line(&language)).then(|| path_in_sentence(naming_line)).flatten();
    let indentation = line.len() - trimmed.len();
    Some(Open { fence, indentation, language, path, path_in_sentence, lines: Vec::new(), depth: 0 })
}

fn fence_of(line: &str) -> Option<(Fence, &str)> {
    let character = line.chars().next().filter(|character| matches!(character, '`' | '~'))?;
    let info = line.trim_start_matches(character);
    let length = line.len() - info.len();
    let is_inline = character == '`' && info.contains('`');
    (length >= 3 && !is_inline).then_some((Fence { character, length }, info.trim()))
}

pub(in crate::agent) fn path_in_info(info: &str) -> Option<String> {
    let words =
        info.split([' ', ':', '{', '}', ',']).map(|word| word.rsplit_once('=').map_or(word, |(_, value)| value));
    words.map(|word| word.trim_matches(['"', '\''])).find(|word| has_extension(word)).map(str::to_owned)
}

pub(in crate::agent) fn path_in_sentence(line: &str) -> Option<String> {
    if line.len() > LONGEST_NAMING_LINE {
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
    if line.len() > LONGEST_NAMING_LINE {
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
fn comment_text(line: &str) -> Option<&str> {
    let pairs = [("<!--", "-->"), ("/*", "*/"), ("//", ""), ("#", ""), ("--", ""), (";", ""), ("%", "")];
    pairs.iter().find_map(|(start, end)| Some(line.strip_prefix(start)?.trim_end().strip_suffix(end)?.trim()))
}

/// Whether a word is a path by its look: its last part ends with a dot and a short extension, or begins with a dot.
fn has_extension(word: &str) -> bool {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_-./+@\\".contains(letter);
    let name = word.rsplit('/').next().unwrap_or(word);
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let is_extension = (1..=10).contains(&extension.len())
        && extension.chars().all(|letter| letter.is_ascii_alphanumeric())
        && extension.starts_with(|letter: char| letter.is_ascii_alphabetic());
    word.chars().all(is_plain) && is_extension && !matches!((stem, extension), ("e", "g") | ("i", "e"))
}

fn is_markdown(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.ends_with(".md") || path.ends_with(".markdown")
}

fn is_of_the_command_line(language: &str) -> bool {
    matches!(
        language,
        "bash" | "sh" | "shell" | "zsh" | "console" | "terminal" | "text" | "txt" | "plaintext" | "output" | "diff"
    )
}
