//! Fenced blocks in a text: where each begins and where it ends. PURE; never panics.
//!
//! ```text
//! text  := ( line | block )*
//! block := open body close
//! open  := spaces fence [ info ]          the spaces are taken off each line of the body that has them
//! fence := at least three "`" or "~"
//! close := spaces fence                   of the same character, as long at least, and not further in than the open
//! ```
//!
//! A body may hold fences of its own. Which line is the close follows what the body is ([`Body`]); where that cannot be
//! told, the block says so ([`End`], [`is_sure`]), and nobody acts on it. Of a file in a language with a grammar, the text
//! before a fence that is part of it is no whole file: the fence stands in a text or a comment that is open there. Of any
//! other file that cannot be seen, so no further fence may follow that could belong to it.

mod shell;

use std::ops::Range;

pub use shell::Text;

use super::super::edit::PieceEnd;
use super::super::grammar::Language;
use super::super::syntax;
use shell::Shell;

/// More blocks than this are not looked for: hostile text stays cheap.
const MOST_BLOCKS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub character: char,
    pub length: usize,
}

/// What a body is, as far as it matters for where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A shell command: a fence in one of its texts is no close.
    Command,
    /// The first close ends it.
    Plain,
    /// A diff, or pieces with a search and a replace part: what stands in these is no close.
    Edit,
    /// A file: fences in it come in pairs.
    File,
    /// Anything else: pieces count, and pairs.
    Other,
}

/// How a block begins.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub fence: Fence,
    /// What stands behind the fence.
    pub info: &'a str,
    /// The last line with text before it, since the block before.
    pub naming: &'a str,
    indentation: usize,
}

/// A block as it stands.
#[derive(Debug)]
pub struct Block<'a> {
    pub head: Head<'a>,
    pub kind: Body,
    pub body: Vec<&'a str>,
    /// From its open to its close.
    pub lines: Range<usize>,
    pub end: End,
    /// `None`: there is none.
    close: Option<Fence>,
}

/// How a block ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Closed,
    /// With the text, without a close.
    Missing,
    /// Fences inside of it do not come in pairs, so any of them could be the close.
    Uneven,
    /// A text in the command does not end.
    In(Text),
}

/// The blocks of a text, in its order. `body_of` tells what a block holds, by its head and the lines behind it.
pub fn blocks<'a>(lines: &[&'a str], body_of: impl Fn(&Head<'a>, &[&'a str]) -> Body) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut naming = "";
    let mut at = 0;
    while let Some(line) = lines.get(at).copied() {
        match fence_of(line).filter(|_| blocks.len() < MOST_BLOCKS) {
            Some((fence, info)) => {
                let head = Head { fence, info, naming, indentation: indentation_of(line) };
                let kind = body_of(&head, &lines[at + 1..]);
                let block = block(lines, at, head, kind);
                at = block.lines.end;
                naming = "";
                blocks.push(block);
            }
            None => {
                naming = if line.trim().is_empty() { naming } else { line };
                at += 1;
            }
        }
    }
    blocks
}

/// Whether a file's block ends at its close, and not at a fence that is part of the file.
///
/// `later`: the blocks behind it; `is_other`: what tells of one that it is no part of the file. `was_cut`: more might follow.
pub fn is_sure<'a>(
    path: &str,
    block: &Block<'a>,
    later: &[Block<'a>],
    is_other: impl Fn(&Block<'a>) -> bool,
    was_cut: bool,
) -> bool {
    let is_open_ended = match block.end {
        End::Uneven | End::In(_) => return false,
        End::Missing => true,
        End::Closed => false,
    };
    if block.kind == Body::Command {
        return !is_open_ended;
    }
    let could_belong = |line: &str| fence_of(line).is_some_and(|(fence, _)| fence.could_close(block.head.fence));
    let holds_such = |later: &Block<'a>| {
        [Some(later.head.fence), later.close].iter().flatten().any(|fence| fence.could_close(block.head.fence))
            || later.body.iter().any(|line| could_belong(line))
    };
    let is_followed = later.iter().any(&is_other);
    let may_go_on = was_cut && !is_followed || later.iter().any(|later| !is_other(later) && holds_such(later));
    match Language::of(path) {
        // Their here-documents and data may stand open without an error.
        Some(Language::Bash | Language::Ruby) | None => !may_go_on,
        Some(
            Language::C
            | Language::Cpp
            | Language::Go
            | Language::Java
            | Language::JavaScript
            | Language::Json
            | Language::Python
            | Language::Rust
            | Language::Tsx
            | Language::TypeScript,
        ) => !(may_go_on || is_open_ended) || syntax::is_sound(path, block.content().as_bytes()),
    }
}

/// The text that a command does not end; `None`: it ends them all.
pub fn open_text<'a>(command: impl IntoIterator<Item = &'a str>) -> Option<Text> {
    let mut shell = Shell::default();
    command.into_iter().for_each(|line| shell.take(line));
    shell.inside()
}

/// A fence, and what stands behind it.
pub fn fence_of(line: &str) -> Option<(Fence, &str)> {
    let line = line.trim();
    let character = line.chars().next().filter(|character| matches!(character, '`' | '~'))?;
    let info = line.trim_start_matches(character);
    let length = line.len() - info.len();
    let is_inline = character == '`' && info.contains('`');
    (length >= 3 && !is_inline).then_some((Fence { character, length }, info.trim()))
}

/// What stands behind the fence of a line.
pub fn info_of(line: &str) -> Option<&str> {
    fence_of(line).map(|(_, info)| info)
}

/// A fence for `content` that nothing inside of it closes.
pub fn fence_for(content: &str) -> String {
    let longest = content.lines().filter_map(fence_of).map(|(fence, _)| fence.length).max();
    "`".repeat(longest.map_or(3, |longest| longest + 1))
}

impl Fence {
    fn could_close(self, open: Fence) -> bool {
        self.character == open.character && self.length >= open.length
    }
}

impl Block<'_> {
    /// The body with line ends.
    pub fn content(&self) -> String {
        self.body.iter().flat_map(|line| [line, "\n"]).collect()
    }
}

/// The block that line `at` opens.
fn block<'a>(lines: &[&'a str], at: usize, head: Head<'a>, kind: Body) -> Block<'a> {
    let mut reader =
        Reader { head, kind, shell: Shell::default(), piece: None, inner: Vec::new(), holds: Holds::NoFence };
    let mut body = Vec::new();
    for (at_line, line) in lines.iter().enumerate().skip(at + 1) {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        let bare = &line[spaces.min(head.indentation)..];
        if reader.is_close(line, bare) {
            let end = if reader.holds == Holds::Uneven { End::Uneven } else { End::Closed };
            let close = fence_of(line).map(|(fence, _)| fence);
            return Block { head, kind, body, lines: at..at_line + 1, end, close };
        }
        body.push(bare);
    }
    let end = match (reader.shell.inside(), reader.holds) {
        (Some(text), _) => End::In(text),
        (None, Holds::NoFence) => End::Missing,
        (None, Holds::Fences | Holds::Uneven) => End::Uneven,
    };
    Block { head, kind, body, lines: at..lines.len(), end, close: None }
}

/// A block that is being read.
struct Reader<'a> {
    head: Head<'a>,
    kind: Body,
    shell: Shell,
    /// What ends the piece that is open.
    piece: Option<PieceEnd>,
    /// The fences that are open inside, with their indentation.
    inner: Vec<(Fence, usize)>,
    holds: Holds,
}

/// What a body has of fences that could be its close.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    NoFence,
    Fences,
    Uneven,
}

impl Reader<'_> {
    /// Takes a line in; `true`: it is the close. `bare`: the line as the body has it.
    fn is_close(&mut self, line: &str, bare: &str) -> bool {
        let fence = fence_of(line).filter(|(fence, _)| fence.could_close(self.head.fence));
        match self.kind {
            Body::Command => {
                let closes = fence.filter(|_| self.shell.inside().is_none());
                // Outside of its texts a command has none, so two blocks run into each other.
                if closes.is_some_and(|(_, info)| !info.is_empty()) {
                    self.holds = Holds::Uneven;
                }
                let is_close = closes.is_some_and(|(_, info)| info.is_empty());
                if !is_close {
                    self.shell.take(bare);
                }
                is_close
            }
            Body::Plain => fence.is_some_and(|(_, info)| info.is_empty()),
            Body::Edit => {
                let is_inside = self.is_in_piece(bare);
                let is_close = fence.is_some_and(|(_, info)| info.is_empty()) && self.is_far_enough_out(line);
                is_close && !is_inside
            }
            Body::File => fence.is_some_and(|fence| self.is_close_of_pairs(line, fence)),
            Body::Other => {
                let is_inside = self.is_in_piece(bare);
                !is_inside && fence.is_some_and(|fence| self.is_close_of_pairs(line, fence))
            }
        }
    }

    fn is_in_piece(&mut self, line: &str) -> bool {
        self.piece = match self.piece.take() {
            Some(end) if end.is_at(line) => return true,
            Some(end) => Some(end),
            None => PieceEnd::of(line),
        };
        self.piece.is_some()
    }

    fn is_far_enough_out(&self, line: &str) -> bool {
        indentation_of(line) <= self.head.indentation
    }

    fn is_close_of_pairs(&mut self, line: &str, (fence, info): (Fence, &str)) -> bool {
        let indentation = indentation_of(line);
        match self.inner.last().copied() {
            None if info.is_empty() && self.is_far_enough_out(line) => return true,
            Some((open, at)) if info.is_empty() && fence.could_close(open) => {
                self.inner.pop();
                if at != indentation {
                    self.holds = Holds::Uneven;
                }
            }
            // A shorter one is part of what is open.
            Some((open, _)) if fence.length < open.length => {}
            Some((open, _)) => {
                // In a block none begins with the same fence, so one of the two has no close.
                if fence.could_close(open) {
                    self.holds = Holds::Uneven;
                }
                self.inner.push((fence, indentation));
            }
            None => self.inner.push((fence, indentation)),
        }
        if self.holds == Holds::NoFence {
            self.holds = Holds::Fences;
        }
        false
    }
}

fn indentation_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
