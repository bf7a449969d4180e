//! Reading unified diffs, also bad ones.
//!
//! ```text
//! text    := ( prose | fence | file )*
//! file    := [ "diff --git " path " " path ] extended* [ "--- " path ] [ "+++ " path ] hunk*
//! extended:= "new file mode" | "deleted file mode" | "rename from " path | "rename to " path | "index " | ...
//! hunk    := header? line*                             header: at the beginning of a file's first hunk it may lack
//! header  := "@@" [ " -" number [ "," number ] " +" number [ "," number ] ] [ " @@" ] [ " " anchor ]
//! line    := ( " " | "-" | "+" ) text | "" | "\ No newline at end of file" | text
//! ```
//!
//! Counts in headers are not believed, and line numbers only decide between places. An empty line is a blank line that
//! stays. A line without one of the three marks is a line that stays where a fence is open or the text begins with the
//! diff; else it ends the hunk. `--- ` and `+++ ` after each other are a file's header, unless the counts say that they are
//! the last lines of a hunk. `a/` and `b/` are taken off if both are there; `/dev/null` is a file that is not there. A
//! file's name may also stand in the info of the fence, or on the line before it.

use super::super::protocol::fences::info_of;
use super::super::protocol::naming::{alone, path_in_info};
use super::envelope::body_line;
use super::{Change, FileEdit, Hunk, LineKind, Order, Unreadable};

/// The numbers of a hunk's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Of the first old line.
    pub line: usize,
    old: usize,
    new: usize,
}

pub(super) fn is_hunk_header(line: &str) -> bool {
    line.starts_with("@@") && hunk_header(line).0.is_some()
}

/// The numbers and the anchor of a line that begins with `@@`.
pub(super) fn hunk_header(line: &str) -> (Option<Numbers>, Option<String>) {
    let rest = line.trim_start_matches('@').trim_start();
    let (range, anchor) = match rest.split_once("@@") {
        Some((range, anchor)) => (range, anchor),
        None => (rest, ""),
    };
    let mut words = range.split_whitespace();
    let numbers =
        words.next().and_then(|word| counted(word, '-')).zip(words.next().and_then(|word| counted(word, '+')));
    let anchor = match numbers {
        Some(_) => anchor.trim(),
        // Not numbers: an anchor, before closing marks or without them.
        None if anchor.trim().is_empty() => range.trim(),
        None => anchor.trim(),
    };
    let is_anchor = anchor.chars().any(char::is_alphanumeric);
    let numbers = numbers.map(|((line, old), (_, new))| Numbers { line, old, new });
    (numbers, is_anchor.then(|| anchor.to_owned()))
}

/// `-12,3` or `-12`.
fn counted(word: &str, mark: char) -> Option<(usize, usize)> {
    let word = word.strip_prefix(mark)?;
    let (line, count) = word.split_once(',').unwrap_or((word, "1"));
    Some((line.parse().ok()?, count.parse().ok()?))
}

pub(super) fn read(text: &str) -> Result<Vec<FileEdit>, Unreadable> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = lines.iter().find(|line| !line.trim().is_empty()).is_some_and(|line| begins_a_diff(line));
    let mut reader = Reader { lines: &lines, is_alone: begins, ..Reader::default() };
    let mut at = 0;
    while at < lines.len() {
        at = reader.take(at)?;
    }
    if let Some(line) = reader.unclosed() {
        return Err(Unreadable::Cut { line, what: "the diff is shorter than its header says, and its fence is open" });
    }
    reader.close_hunk();
    reader.close_file()?;
    Ok(reader.edits)
}

fn begins_a_diff(line: &str) -> bool {
    ["diff --git ", "--- ", "+++ ", "Index: "].iter().any(|start| line.starts_with(start)) || is_hunk_header(line)
}

/// What is known of the file at hand.
#[derive(Default)]
struct File {
    /// The line, from 1, where it begins.
    line: usize,
    git: Option<(String, String)>,
    old: Option<String>,
    new: Option<String>,
    renamed: (Option<String>, Option<String>),
    is_new: bool,
    is_deleted: bool,
    is_told: bool,
    hunks: Vec<Hunk>,
}

#[derive(Default)]
struct Open {
    hunk: Hunk,
    numbers: Option<Numbers>,
    /// Empty lines whose meaning the next line tells.
    blanks: usize,
    old_without_newline: bool,
    new_without_newline: bool,
}

#[derive(Default)]
struct Reader<'a> {
    lines: &'a [&'a str],
    /// The text begins with the diff: no prose is around it.
    is_alone: bool,
    /// The info of the fence that is open.
    fence: Option<&'a str>,
    /// The last line of prose.
    naming: &'a str,
    /// A hunk was ended by prose.
    after_prose: bool,
    file: Option<File>,
    open: Option<Open>,
    edits: Vec<FileEdit>,
}

impl<'a> Reader<'a> {
    fn line(&self, at: usize) -> &'a str {
        self.lines.get(at).copied().unwrap_or_default()
    }

    /// Takes a line, and answers which one is next.
    fn take(&mut self, at: usize) -> Result<usize, Unreadable> {
        let line = self.line(at);
        if let Some(info) = info_of(line).filter(|_| !line.starts_with([' ', '+', '-']) || self.open.is_none()) {
            return self.take_fence(at, info);
        }
        if line.starts_with("@@") && (self.is_in_diff() || is_hunk_header(line)) {
            self.open_hunk(at, line);
            return Ok(at + 1);
        }
        if let Some(next) = self.take_header(at)? {
            return Ok(next);
        }
        if self.open.is_some() {
            self.take_body(at, line);
            return Ok(at + 1);
        }
        let is_body = line.starts_with([' ', '+', '-']);
        if is_body && self.may_begin_without_header() {
            self.open_hunk(at, "");
            self.take_body(at, line);
        } else if self.after_prose && line.starts_with(['+', '-']) && self.fence.is_none() {
            return Err(Unreadable::Malformed { line: at + 1, what: "this line belongs to no hunk of the diff" });
        } else if !line.trim().is_empty() {
            self.naming = line;
        }
        Ok(at + 1)
    }

    fn is_in_diff(&self) -> bool {
        self.open.is_some() || self.file.is_some() || self.fence.is_some_and(is_diff)
    }

    /// A file's header or a fence of a diff lets lines follow at once.
    fn may_begin_without_header(&self) -> bool {
        match &self.file {
            Some(file) => file.hunks.is_empty() && (file.old.is_some() || file.new.is_some()),
            None => self.fence.is_some_and(is_diff),
        }
    }

    fn take_fence(&mut self, at: usize, info: &'a str) -> Result<usize, Unreadable> {
        self.close_hunk();
        self.close_file()?;
        self.after_prose = false;
        self.fence = match self.fence {
            Some(_) if info.is_empty() => None,
            Some(_) | None => Some(info),
        };
        Ok(at + 1)
    }

    /// Takes the lines of a file's header; `None`: this line is of none.
    fn take_header(&mut self, at: usize) -> Result<Option<usize>, Unreadable> {
        let line = self.line(at);
        if let Some(paths) = line.strip_prefix("diff --git ") {
            self.new_file(at)?;
            let git = paths.split_once(" b/").map(|(old, new)| (old.to_owned(), format!("b/{new}")));
            self.file().git = git.or_else(|| paths.split_once(' ').map(|(old, new)| (old.to_owned(), new.to_owned())));
            return Ok(Some(at + 1));
        }
        let next = self.line(at + 1);
        if line.starts_with("--- ") && next.starts_with("+++ ") && !self.closes_hunk(at) {
            if self.open.is_some()
                || self.file.as_ref().is_some_and(|file| file.old.is_some() || !file.hunks.is_empty())
            {
                self.new_file(at)?;
            }
            self.file_at(at).old = Some(path_of(&line[4..]));
            self.file().new = Some(path_of(&next[4..]));
            return Ok(Some(at + 2));
        }
        if self.open.is_some() {
            return Ok(None);
        }
        let lone = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ "));
        if let Some(path) = lone.filter(|_| self.line(at + 1).starts_with("@@")) {
            if self.file.as_ref().is_some_and(|file| !file.hunks.is_empty()) {
                self.new_file(at)?;
            }
            self.file_at(at).new = Some(path_of(path));
            return Ok(Some(at + 1));
        }
        Ok(self.take_extended(line)?.then_some(at + 1))
    }

    /// What git says of a file besides its lines; only behind `diff --git`.
    fn take_extended(&mut self, line: &str) -> Result<bool, Unreadable> {
        let Some(file) = self.file.as_mut().filter(|file| file.git.is_some()) else { return Ok(false) };
        if line.starts_with("Binary files ") || line.starts_with("GIT binary patch") {
            return Err(Unreadable::Malformed { line: file.line, what: "a binary file cannot be changed by a diff" });
        }
        if line.starts_with("new file mode") {
            file.is_new = true;
        } else if line.starts_with("deleted file mode") {
            file.is_deleted = true;
        } else if let Some(path) = line.strip_prefix("rename from ") {
            file.renamed.0 = Some(path.trim().to_owned());
        } else if let Some(path) = line.strip_prefix("rename to ") {
            file.renamed.1 = Some(path.trim().to_owned());
        } else if line.starts_with("copy from ") {
            return Err(Unreadable::Malformed { line: file.line, what: "a file cannot be copied by a diff" });
        } else {
            let others = ["index ", "similarity index", "dissimilarity index", "old mode", "new mode"];
            return Ok(others.iter().any(|start| line.starts_with(start)));
        }
        file.is_told = true;
        Ok(true)
    }

    fn file(&mut self) -> &mut File {
        self.file.get_or_insert_default()
    }

    fn file_at(&mut self, at: usize) -> &mut File {
        let file = self.file();
        if file.line == 0 {
            file.line = at + 1;
        }
        file
    }

    fn new_file(&mut self, at: usize) -> Result<(), Unreadable> {
        self.close_hunk();
        self.close_file()?;
        self.file = Some(File { line: at + 1, ..File::default() });
        Ok(())
    }

    /// Whether the counts say that this line and the next one, a removed and an added one, are the last ones of the hunk.
    fn closes_hunk(&self, at: usize) -> bool {
        let Some((open, numbers)) = self.open.as_ref().and_then(|open| Some((open, open.numbers?))) else {
            return false;
        };
        let (old, new) = (open.hunk.old().len() + open.blanks, open.hunk.wanted().len() + open.blanks);
        let looks_like_a_path = alone(&path_of(&self.line(at)[4..])).is_some();
        numbers.old == old + 1 && numbers.new == new + 1 && !(looks_like_a_path && self.line(at + 2).starts_with("@@"))
    }

    fn open_hunk(&mut self, at: usize, line: &str) {
        self.close_hunk();
        self.file_at(at);
        self.after_prose = false;
        let (numbers, anchor) = hunk_header(line);
        let hunk = Hunk {
            anchors: anchor.into_iter().collect(),
            line: numbers.map(|numbers| numbers.line).filter(|line| *line > 0),
            ..Hunk::default()
        };
        self.open = Some(Open { hunk, numbers, ..Open::default() });
    }

    fn take_body(&mut self, at: usize, line: &'a str) {
        let is_enclosed = self.is_alone || self.fence.is_some();
        let signature = line.trim_end() == "--" && self.line(at + 1).starts_with(|next: char| next.is_ascii_digit());
        let Some(open) = &mut self.open else { return };
        if line.is_empty() {
            open.blanks += 1;
            return;
        }
        if line.starts_with("\\ ") {
            match open.hunk.lines.last().map(|line| line.kind) {
                Some(LineKind::Remove) => open.old_without_newline = true,
                Some(LineKind::Add) => open.new_without_newline = true,
                Some(LineKind::Keep) | None => {}
            }
            return;
        }
        let is_marked = line.starts_with([' ', '+', '-']);
        if signature || !is_marked && !is_enclosed {
            self.close_hunk();
            self.after_prose = !signature;
            self.naming = line;
            return;
        }
        for _ in 0..std::mem::take(&mut open.blanks) {
            open.hunk.lines.push(body_line(""));
        }
        open.hunk.lines.push(body_line(line));
    }

    fn close_hunk(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if open.hunk.lines.is_empty() {
            return;
        }
        open.hunk.final_newline = match (open.old_without_newline, open.new_without_newline) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            (true, true) | (false, false) => None,
        };
        self.file().hunks.push(open.hunk);
    }

    /// The line at which a diff ends too early.
    fn unclosed(&self) -> Option<usize> {
        let open = self.open.as_ref().filter(|_| self.fence.is_some())?;
        let numbers = open.numbers?;
        (open.hunk.old().len() < numbers.old && open.hunk.wanted().len() < numbers.new).then_some(self.lines.len())
    }

    fn close_file(&mut self) -> Result<(), Unreadable> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let from_fence = self.fence.and_then(path_in_info);
        let named = from_fence.or_else(|| alone(std::mem::take(&mut self.naming)));
        self.edits.push(file.edit(named)?);
        Ok(())
    }
}

fn is_diff(info: &str) -> bool {
    let language = info.split([' ', ':', '{']).next().unwrap_or_default();
    matches!(language.to_ascii_lowercase().as_str(), "diff" | "patch" | "udiff")
}

/// The path in a header's line, without a time and quotes.
fn path_of(text: &str) -> String {
    let path = text.split('\t').next().unwrap_or_default().trim();
    path.strip_prefix('"').and_then(|path| path.strip_suffix('"')).unwrap_or(path).to_owned()
}

const NOTHING: &str = "/dev/null";

impl File {
    fn edit(self, named: Option<String>) -> Result<FileEdit, Unreadable> {
        let malformed = |what| Unreadable::Malformed { line: self.line.max(1), what };
        let (git_old, git_new) = self.git.clone().unzip();
        let (old, new) = (self.old.clone().or(git_old), self.new.clone().or(git_new));
        let (old, new) = without_prefixes(old, new);
        let is_new = self.is_new || old.as_deref() == Some(NOTHING);
        let is_deleted = self.is_deleted || new.as_deref() == Some(NOTHING);
        let (old, new) = (old.filter(|path| path != NOTHING), new.filter(|path| path != NOTHING));
        if is_deleted {
            return Ok(FileEdit { path: old.or(new).or(named), change: Change::Delete });
        }
        if is_new {
            let has_old_lines =
                self.hunks.iter().any(|hunk| hunk.lines.iter().any(|line| line.kind == LineKind::Remove));
            if has_old_lines {
                return Err(malformed("a new file has no lines to remove"));
            }
            let without_end = self.hunks.last().is_some_and(|hunk| hunk.final_newline == Some(false));
            let mut content: String = self.hunks.iter().flat_map(Hunk::wanted).flat_map(|line| [line, "\n"]).collect();
            if without_end {
                content.pop();
            }
            return Ok(FileEdit { path: new.or(old).or(named), change: Change::Create { content } });
        }
        if self.hunks.is_empty() && !self.is_told {
            return Err(malformed("a file's header is followed by no lines"));
        }
        let update = |path, move_to| {
            let change = Change::Update { hunks: self.hunks.clone(), order: Order::Ascending, move_to };
            Ok(FileEdit { path, change })
        };
        match (self.renamed.clone(), old, new) {
            ((Some(from), Some(to)), _, _) => update(Some(from), Some(to)),
            (_, Some(old), Some(new)) if old != new => match same_file(&old, &new) {
                Some(path) => update(Some(path), None),
                None => Err(malformed("the two names of the file differ; say \"rename from\" and \"rename to\"")),
            },
            (_, old, new) => update(new.or(old).or(named), None),
        }
    }
}

/// Takes off `a/` and `b/`.
fn without_prefixes(old: Option<String>, new: Option<String>) -> (Option<String>, Option<String>) {
    let stripped = |path: &Option<String>, prefix: &str| match path.as_deref() {
        None | Some(NOTHING) => Some(path.clone()),
        Some(path) => path.strip_prefix(prefix).map(|path| Some(path.to_owned())),
    };
    match (stripped(&old, "a/"), stripped(&new, "b/")) {
        (Some(old), Some(new)) => (old, new),
        _ => (old, new),
    }
}

/// The file that two names mean: one of them may say that it is a copy of before or after.
fn same_file(old: &str, new: &str) -> Option<String> {
    const ENDS: [&str; 8] = [".orig", ".old", ".bak", ".new", " (original)", " (modified)", " (before)", " (after)"];
    let plain = |path: &str| ENDS.iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path).to_owned();
    let bare = |path: &str| path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path).to_owned();
    let (old, new) = (plain(old), plain(new));
    (old == new || bare(&old) == bare(&new)).then(|| bare(&new))
}
