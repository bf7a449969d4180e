//! Lines of Markdown, told apart: text, fenced blocks, HTML comments; and the patches that fences hold.
//!
//! Fences as in CommonMark 0.31, section 4.5, with two allowances: any indentation, since list items indent, and a
//! context line of an unfinished hunk never closes a `diff` fence, since diffs of Markdown files hold fences of their own.

use super::Rejection;

/// A longer line has no code spans: finding them costs more than linear time.
const LONGEST_LINE_WITH_CODE_SPANS: usize = 1024;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Outside of fences and comments.
    Text,
    /// Begins inside an HTML comment: people do not see it.
    Comment,
    /// Opens a fence; `patch`: a `diff` or `patch` one.
    FenceOpens { patch: bool },
    /// Inside a fence.
    Fenced,
    /// Closes the fence.
    FenceCloses,
}

/// One line, without its line end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) kind: Kind,
}

/// The lines of `text`, which has LF line ends, one after the other.
pub(super) fn lines(text: &str) -> Lines<'_> {
    Lines { text, at: 0, in_comment: false, fence: None }
}

/// The contents of the `diff` and `patch` fences, in order, without the fences' own indentation.
pub(super) fn patches(text: &str) -> Result<Vec<String>, Rejection> {
    let mut patches = Vec::new();
    let mut open: Option<(String, &str)> = None;
    for line in lines(text) {
        match line.kind {
            Kind::FenceOpens { patch: true } => open = Some((String::new(), line.text)),
            Kind::Fenced => {
                if let Some((patch, opening)) = &mut open {
                    patch.push_str(without_indentation(line.text, opening));
                    patch.push('\n');
                }
            }
            Kind::FenceCloses => patches.extend(open.take().map(|(patch, _)| patch)),
            Kind::Text | Kind::Comment | Kind::FenceOpens { patch: false } => {}
        }
    }
    match open {
        None => Ok(patches),
        Some(_) => Err(Rejection::Malformed(format!(
            "Patch {} of the instruction is a fenced block that is never closed, so its end may be missing. Close it \
             with a line of its own that repeats the opening fence.",
            patches.len() + 1
        ))),
    }
}

/// Iterator over the lines of a text.
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    in_comment: bool,
    fence: Option<Fence<'a>>,
}

struct Fence<'a> {
    mark: u8,
    length: usize,
    opening: &'a str,
    patch: bool,
    hunk: Hunk,
}

/// Lines that the current hunk of a patch still owes, on the old and on the new side.
#[derive(Default)]
struct Hunk {
    old: u64,
    new: u64,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (text, consumed) = rest.find('\n').map_or((rest, rest.len()), |end| (&rest[..end], end + 1));
        self.at += consumed;
        Some(Line { text, kind: self.classify(text) })
    }
}

impl<'a> Lines<'a> {
    fn classify(&mut self, line: &'a str) -> Kind {
        if let Some(fence) = &mut self.fence {
            if fence.closes(line) {
                self.fence = None;
                return Kind::FenceCloses;
            }
            return Kind::Fenced;
        }
        if !self.in_comment
            && let Some(fence) = opening_fence(line)
        {
            let patch = fence.patch;
            self.fence = Some(fence);
            return Kind::FenceOpens { patch };
        }
        let kind = if self.in_comment { Kind::Comment } else { Kind::Text };
        self.in_comment = ends_in_comment(line, self.in_comment);
        kind
    }
}

impl Fence<'_> {
    /// Whether `line` closes the fence; if not, it is content, and counted.
    fn closes(&mut self, line: &str) -> bool {
        let trimmed = line.trim_matches([' ', '\t']);
        let marks = trimmed.bytes().take_while(|byte| *byte == self.mark).count();
        let looks_closing = marks >= self.length && marks == trimmed.len();
        let content = without_indentation(line, self.opening);
        if looks_closing && !(self.patch && self.hunk.owes_both() && content.starts_with(' ')) {
            return true;
        }
        if self.patch {
            self.hunk.count(content);
        }
        false
    }
}

impl Hunk {
    fn owes_both(&self) -> bool {
        self.old > 0 && self.new > 0
    }

    fn count(&mut self, line: &str) {
        if self.old == 0 && self.new == 0 {
            *self = hunk_header(line).unwrap_or_default();
            return;
        }
        match line.bytes().next() {
            None | Some(b' ') => {
                self.old = self.old.saturating_sub(1);
                self.new = self.new.saturating_sub(1);
            }
            Some(b'-') => self.old = self.old.saturating_sub(1),
            Some(b'+') => self.new = self.new.saturating_sub(1),
            Some(b'\\') => {}
            Some(_) => *self = Hunk::default(),
        }
    }
}

/// Reads `@@ -1,4 +1,5 @@`; a missing count is 1.
fn hunk_header(line: &str) -> Option<Hunk> {
    let mut ranges = line.strip_prefix("@@ -")?.split(' ');
    let count = |range: &str| range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok());
    let old = count(ranges.next()?)?;
    let new = count(ranges.next()?.strip_prefix('+')?)?;
    Some(Hunk { old, new })
}

fn opening_fence(line: &str) -> Option<Fence<'_>> {
    let trimmed = line.trim_start_matches([' ', '\t']);
    let mark = trimmed.bytes().next().filter(|byte| matches!(byte, b'`' | b'~'))?;
    let length = trimmed.bytes().take_while(|byte| *byte == mark).count();
    let info = &trimmed[length..];
    if length < 3 || (mark == b'`' && info.contains('`')) {
        return None;
    }
    let info = info.trim();
    let language_end = info.find(|character: char| !character.is_alphanumeric() && !"+-_#".contains(character));
    let language = &info[..language_end.unwrap_or(info.len())];
    let patch = language.eq_ignore_ascii_case("diff") || language.eq_ignore_ascii_case("patch");
    Some(Fence { mark, length, opening: line, patch, hunk: Hunk::default() })
}

/// Removes from `line` what it shares of the white space that the fence's opening line begins with.
fn without_indentation<'a>(line: &'a str, opening: &str) -> &'a str {
    let shared = line
        .bytes()
        .zip(opening.bytes())
        .take_while(|(left, right)| left == right && matches!(left, b' ' | b'\t'))
        .count();
    &line[shared..]
}

/// Whether a comment is open after `line`, which is outside of fences.
fn ends_in_comment(line: &str, mut in_comment: bool) -> bool {
    let mut rest = line;
    loop {
        if in_comment {
            let Some(close) = rest.find("-->") else { return true };
            rest = &rest[close + 3..];
        } else {
            let Some(open) = comment_opening(rest) else { return false };
            rest = &rest[open + 4..];
        }
        in_comment = !in_comment;
    }
}

/// The first `<!--` that stands in no code span.
fn comment_opening(line: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let open = from + line[from..].find("<!--")?;
        if line.len() > LONGEST_LINE_WITH_CODE_SPANS {
            return Some(open);
        }
        match code_span_around(line, from, open) {
            Some(end) => from = end,
            None => return Some(open),
        }
    }
}

/// The end of the code span that `position` is in: a run of backticks up to the next run of the same length.
/// `at` is outside of code spans.
fn code_span_around(line: &str, mut at: usize, position: usize) -> Option<usize> {
    let run_at = |start: usize| line[start..].bytes().take_while(|byte| *byte == b'`').count();
    while let Some(found) = line[at..position.max(at)].find('`') {
        let open = at + found;
        let length = run_at(open);
        let mut search = open + length;
        let mut end = None;
        while let Some(next) = line[search..].find('`') {
            let start = search + next;
            let closing = run_at(start);
            search = start + closing;
            if closing == length {
                end = Some(search);
                break;
            }
        }
        match end {
            Some(end) if end > position => return Some(end),
            Some(end) => at = end,
            None => at = open + length,
        }
    }
    None
}
