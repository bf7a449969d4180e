//! Reading whole files out of a reply. Pure; never panics.
//!
//! ```text
//! reply  := thinking* ( prose | block )*                       block: as in `fences`
//! info   := language | path | language [ ":" | " " ] [ key "=" ] path
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
//! Of several blocks with the same path the last one counts. Blocks without a path are counted, not taken. Where it cannot
//! be told where a file ends, neither it is taken nor what stands behind it.

use std::collections::HashSet;

use super::fences::{self, Block, Body, End, Head};
use super::naming::{alone, comment_text, has_extension, path_in_info, path_in_sentence};
use super::without_thinking;
use crate::agent::difference::likeness;

pub use super::fences::fence_for;

/// A longer line is like none.
const LONGEST_LIKE_LINE: usize = 400;
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
    /// The file whose end cannot be told, since fences inside of it may be as long as the one around it.
    pub ambiguous: Vec<String>,
    /// A file came again as it was: the model goes round in a circle.
    pub repeats: bool,
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

/// How a block says whose content it is.
struct Named {
    path: Option<String>,
    /// By its info, the line before it or its first line, and in no sentence.
    is_plain: bool,
    /// Lines at its beginning that are no part of the file.
    lines: usize,
    /// In lower case; empty if not told.
    language: String,
}

/// Reads a reply; `was_cut`: the server ended it at a limit, or it is still coming.
pub fn read_files(content: &str, was_cut: bool) -> Written {
    let lines: Vec<&str> = without_thinking(content).lines().collect();
    let blocks = fences::blocks(&lines, body_of);
    let mut written = Written { prose: prose(&lines, &blocks), ..Written::default() };
    for (at, block) in blocks.iter().enumerate() {
        let named = name(&block.head, &block.body);
        let is_open = block.end != End::Closed && block.lines.end == lines.len();
        if is_open && was_cut {
            written.cut = Some(Cut { path: named.path });
            break;
        }
        let lines = block.body.iter().skip(named.lines);
        let content: String = lines.flat_map(|line| [line, "\n"]).collect();
        let Some(path) = named.path else {
            if !is_of_the_command_line(&named.language) {
                written.unnamed.push(Unnamed { language: named.language, content });
            }
            continue;
        };
        if is_open && content.trim().is_empty() {
            break;
        }
        // Listings stand in documents, so there a name alone does not say that another file begins.
        let is_document = is_markdown(&path);
        let is_other = |block: &Block<'_>| {
            let named = name(&block.head, &block.body);
            named.path.is_some() && (!is_document || named.is_plain && !block.head.info.is_empty())
        };
        if !fences::is_sure(&path, block, &blocks[at + 1..], is_other, was_cut) {
            written.ambiguous.push(path);
            break;
        }
        written.put(path, content);
    }
    written
}

fn prose(lines: &[&str], blocks: &[Block<'_>]) -> String {
    let mut from = 0;
    let mut prose: Vec<&str> = Vec::new();
    for block in blocks {
        prose.extend(&lines[from..block.lines.start]);
        from = block.lines.end;
    }
    prose.extend(&lines[from..]);
    prose.join("\n").trim().to_owned()
}

/// What a block holds: where it is a script, its here-documents count.
fn body_of(head: &Head<'_>, body: &[&str]) -> Body {
    let named = name(head, &body[..body.len().min(2)]);
    let is_script = named.path.as_ref().is_some_and(|path| path.ends_with(".sh") || path.ends_with(".bash"));
    match (is_script, named.path.is_none() && is_of_the_command_line(&named.language)) {
        (true, _) => Body::Command,
        (false, true) => Body::Plain,
        (false, false) => Body::File,
    }
}

fn name(head: &Head<'_>, body: &[&str]) -> Named {
    let language = head.info.split([' ', ':', '{', ',']).next().unwrap_or_default().to_ascii_lowercase();
    if let Some(path) = path_in_info(head.info).or_else(|| alone(head.naming)) {
        return Named { path: Some(path), is_plain: true, lines: 0, language };
    }
    let first = body.first().map(|line| line.trim()).unwrap_or_default();
    if let Some(path) = comment_text(first).and_then(alone).filter(|path| has_extension(path)) {
        // A blank line after the name is no part of the file either.
        let is_blank = body.get(1).is_some_and(|line| line.trim().is_empty());
        return Named { path: Some(path), is_plain: true, lines: 1 + usize::from(is_blank), language };
    }
    // A shell block below a sentence with a path is about that file, not its content.
    let path = (!is_of_the_command_line(&language)).then(|| path_in_sentence(head.naming)).flatten();
    Named { path, is_plain: false, lines: 0, language }
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
            content.lines().filter(|kept| !kept.starts_with([' ', '\t']) && kept.len() <= LONGEST_LIKE_LINE);
        margin.any(|kept| likeness(kept.trim(), line.trim()) > MOST_ALIKE)
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
    fn put(&mut self, path: String, content: String) {
        let before = self.files.iter().position(|file| file.path == path).map(|at| self.files.remove(at));
        self.repeats |= before.is_some_and(|before| before.content == content);
        self.files.push(WrittenFile { path, content });
    }
}

fn is_markdown(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".md", ".markdown", ".mdx", ".rst", ".adoc"].iter().any(|ending| path.ends_with(ending))
}

fn is_of_the_command_line(language: &str) -> bool {
    matches!(
        language,
        "bash" | "sh" | "shell" | "zsh" | "console" | "terminal" | "text" | "txt" | "plaintext" | "output" | "diff"
    )
}
