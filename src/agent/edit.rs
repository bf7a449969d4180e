//! Edits as models write them: each is applied as it is meant, or refused with an answer that says what to do. PURE.
//!
//! [`read`] finds the edits in a text of one of three formats, whose grammars stand at the top of their readers: blocks
//! with a search and a replace part (`edit/blocks.rs`), unified diffs (`edit/diff.rs`) and patch envelopes
//! (`edit/envelope.rs`). [`apply`] turns them into new contents, all of them or none. [`replace`] and [`write`] are what
//! the tools of those names do.
//!
//! Where lines of an edit stand in a file is decided by the first of these that finds any place, and more than one place
//! is refused, unless the edit's own line number, anchor or order leaves one (`edit/find.rs`):
//!
//! 1. exactly;
//! 2. but for white space at line ends;
//! 3. but for the indentation, if one rule leads from the given to the found; the new lines follow the same rule;
//! 4. but for quotes and characters that look alike (dashes, spaces, full-width signs);
//! 5. as 1 to 4, without line numbers as `read` shows them, if every line has one; without blank lines at the ends.
//!
//! Kept is what the edit does not speak of: each line's end (LF, CRLF), the byte order mark, the end of the last line,
//! bytes that are no UTF-8, and the file's own spelling of lines that stay. UTF-16 and binary files are refused, and so is
//! a line that stands for others that were left out.

mod alike;
mod blocks;
mod diff;
mod document;
mod elided;
mod envelope;
mod exact;
mod find;
mod indentation;
mod nearest;
mod numbered;
mod refusal;
mod splice;
mod tree;

use std::collections::BTreeSet;
use std::ops::Range;

pub(in crate::agent) use blocks::PieceEnd;
pub use exact::{replace, write};
pub use refusal::{Part, Refusal, Unreadable};
pub use tree::apply;

/// More parts than this in one text are refused.
const MOST_PARTS: usize = 2_000;

/// What a text says about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEdit {
    /// As the model wrote it; `None`: the text names none.
    pub path: Option<String>,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file that is not there is made, if no hunk has old lines.
    Update {
        hunks: Vec<Hunk>,
        order: Order,
        move_to: Option<String>,
    },
    Create {
        content: String,
    },
    Delete,
}

/// What the order of hunks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing. A hunk may also change what one before it has made.
    Any,
    /// They stand in the file in this order.
    Ascending,
}

/// Lines to find, and what becomes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Hunk {
    pub lines: Vec<Line>,
    /// Lines of the file above it, or around it; they only decide between places.
    pub anchors: Vec<String>,
    /// The number of its first old line, from 1; it only decides between places.
    pub line: Option<usize>,
    /// It stands at the end of the file; that, too, only decides between places.
    pub at_end: bool,
    /// Whether the last line ends with a line end afterwards; `None`: as before.
    pub final_newline: Option<bool>,
}

/// A line without its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    pub kind: LineKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineKind {
    Keep,
    Remove,
    Add,
}

/// What an edit has come to for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub path: String,
    /// `None`: it was not there.
    pub before: Option<Vec<u8>>,
    /// `None`: it is to go.
    pub after: Option<Vec<u8>>,
    /// The changed lines, from 0, as they stand afterwards; empty ranges where lines went.
    pub places: Vec<Range<usize>>,
    pub notes: BTreeSet<Note>,
    /// It is this file under another name.
    pub moved_from: Option<String>,
}

/// In what an edit's old text differed from the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    TrailingSpace,
    Indentation,
    LookAlikes,
    LineNumbers,
    BlankEdges,
}

impl Note {
    /// A sentence for the model.
    pub fn sentence(self) -> &'static str {
        match self {
            Note::TrailingSpace => "White space at line ends differed.",
            Note::Indentation => "The indentation differed; the new text was moved along.",
            Note::LookAlikes => "Quotes or characters that look alike differed.",
            Note::LineNumbers => "The line numbers were taken off.",
            Note::BlankEdges => "Blank lines around the old text differed.",
        }
    }
}

impl Hunk {
    /// From a text to find and the text for it: lines that stay are found by their difference.
    fn of_texts(old: &[&str], new: &[&str]) -> Self {
        Self { lines: splice::difference(old, new), ..Self::default() }
    }

    /// The lines that the file is to have.
    fn old(&self) -> Vec<&str> {
        self.texts(LineKind::Add)
    }

    /// The lines that stand there afterwards.
    fn wanted(&self) -> Vec<&str> {
        self.texts(LineKind::Remove)
    }

    fn texts(&self, without: LineKind) -> Vec<&str> {
        self.lines.iter().filter(|line| line.kind != without).map(|line| line.text.as_str()).collect()
    }

    fn changes_anything(&self) -> bool {
        self.final_newline.is_some() || self.old() != self.wanted()
    }
}

/// Finds the edits in a text: parts of one file together, files in the order of the text.
pub fn read(text: &str) -> Result<Vec<FileEdit>, Unreadable> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let edits = if envelope::is_one(text) {
        envelope::read(text)?
    } else if blocks::has_one(text) {
        blocks::read(text)?
    } else {
        diff::read(text)?
    };
    let parts: usize = edits.iter().map(FileEdit::parts).sum();
    match parts {
        0 => Err(Unreadable::Nothing),
        parts if parts > MOST_PARTS => Err(Unreadable::TooMany),
        _ => Ok(merged(edits)),
    }
}

impl FileEdit {
    fn parts(&self) -> usize {
        match &self.change {
            Change::Update { hunks, move_to, .. } => hunks.len() + usize::from(move_to.is_some()),
            Change::Create { .. } | Change::Delete => 1,
        }
    }
}

/// Updates of the same file that follow each other are one.
fn merged(edits: Vec<FileEdit>) -> Vec<FileEdit> {
    let mut merged: Vec<FileEdit> = Vec::with_capacity(edits.len());
    for edit in edits {
        let earlier = merged.iter_mut().rev().find(|earlier| earlier.path == edit.path);
        match (earlier.map(|earlier| &mut earlier.change), edit.change) {
            (
                Some(Change::Update { hunks, order, move_to: None }),
                Change::Update { hunks: more, order: also, move_to: None },
            ) if *order == also => {
                // Two sections for one file have no order between them.
                *order = Order::Any;
                hunks.extend(more);
            }
            (_, change) => merged.push(FileEdit { path: edit.path, change }),
        }
    }
    merged
}
