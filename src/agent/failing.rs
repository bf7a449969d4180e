//! The code that a failing test names: the test, what it calls one step further, and the functions in the stack.

mod mentions;

use std::collections::BTreeMap;

pub(super) use mentions::{Mention, mentions};

use super::interest::Paths;
use super::map::{Definition, Index, Indexed, Kind, Name};
use super::text::{self, clip};
use super::tokens::weigh;
use crate::workspace::{Files, Walk};

/// Lines shown around a place that lies in no definition.
const AROUND: usize = 6;
/// The most lines of one piece; of a longer one, those around the place, or the first ones.
const MOST_LINES: usize = 60;
const LONGEST_LINE: usize = 300;
const LONGEST_FILE: u64 = 192 << 10;
/// A name that more definitions have is followed to none of them.
const MOST_NAMESAKES: usize = 3;
/// How many names a test is followed to.
const MOST_FOLLOWED: usize = 8;
/// The lines of a test that is shown without numbers.
const MOST_TEST_LINES: usize = 30;
/// The failing tests that are shown.
const MOST_TESTS: usize = 2;

/// A piece of a file; lines count from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    file: usize,
    first: usize,
    last: usize,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Test,
    Stack,
    Called,
}

/// What the failing output points to.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// The code with line numbers; empty if the output names none.
    pub(super) text: String,
    /// Places in the walk of the files that it is from, those without tests first.
    pub(super) files: Vec<usize>,
    /// The functions outside of tests that it points to, whole.
    pub(super) functions: Vec<Function>,
    /// The first failing test, without numbers, from its first column on; empty if none is found.
    pub(super) test: String,
}

/// A function; lines count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) file: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Reads the code within `budget` tokens. Blocks.
pub(super) fn code(
    files: &Files,
    walk: &Walk,
    paths: &Paths<'_>,
    index: &Index,
    mentions: &[Mention],
    budget: u64,
) -> Failing {
    let pieces = pieces(paths, index, mentions);
    let mut order: Vec<usize> = Vec::new();
    let is_test = |piece: &&Piece| piece.why == Why::Test;
    for piece in pieces.iter().filter(|piece| !is_test(piece)).chain(pieces.iter().filter(is_test)) {
        if !order.contains(&piece.file) {
            order.push(piece.file);
        }
    }
    let functions = pieces.iter().filter(|piece| !is_test(piece)).filter_map(|piece| {
        let own = enclosing(&index.at(piece.file)?.tags.definitions, piece.first)?;
        Some(Function { file: piece.file, first: own.first, last: own.last })
    });
    let functions = functions.collect();
    let mut test = String::new();
    let mut shown: Vec<Piece> = Vec::new();
    let mut texts: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut parts = Vec::new();
    let mut left = budget;
    for piece in pieces {
        let covered =
            |other: &Piece| other.file == piece.file && other.first <= piece.first && piece.last <= other.last;
        if shown.iter().any(covered) {
            continue;
        }
        let lines = texts.entry(piece.file).or_insert_with(|| read(files, walk, piece.file));
        let path = walk.files[piece.file].path.as_str();
        let Some(text) = render(path, lines, &piece) else { continue };
        if test.is_empty() && piece.why == Why::Test {
            test = bare(lines, &piece);
        }
        // A piece that does not fit may be followed by one that does.
        let Some(rest) = left.checked_sub(weigh(&text)) else { continue };
        left = rest;
        parts.push(text);
        shown.push(piece);
    }
    Failing { text: parts.join("\n\n"), files: order, functions, test }
}

/// The pieces, the most telling first: a failing test, where the stack leads, what the test calls.
fn pieces(paths: &Paths<'_>, index: &Index, mentions: &[Mention]) -> Vec<Piece> {
    let mut tests: Vec<Piece> = Vec::new();
    let mut stack: Vec<Piece> = Vec::new();
    for mention in mentions {
        let Some(piece) = place(paths, index, mention) else { continue };
        let pieces = if piece.why == Why::Test { &mut tests } else { &mut stack };
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    tests.truncate(MOST_TESTS);
    let called: Vec<Piece> = tests.iter().flat_map(|test| called(index, test)).collect();
    tests.into_iter().chain(stack).chain(called).collect()
}

/// What a mention points to.
fn place(paths: &Paths<'_>, index: &Index, mention: &Mention) -> Option<Piece> {
    let file = mention.path.as_deref().and_then(|path| paths.find(path));
    let indexed = match (file, &mention.path) {
        (Some(file), _) => index.at(file)?,
        // A library's.
        (None, Some(_)) => return None,
        (None, None) => {
            let name = index.names.find(mention.name.as_deref()?)?;
            let holds = |indexed: &&Indexed| indexed.tags.definitions.iter().any(|own| own.name == name);
            index
                .files
                .iter()
                .filter(|indexed| indexed.is_test)
                .find(holds)
                .or_else(|| index.files.iter().find(holds))?
        }
    };
    let definitions = &indexed.tags.definitions;
    let named = || {
        let name = index.names.find(mention.name.as_deref()?)?;
        definitions.iter().find(|own| own.name == name && own.kind == Kind::Code)
    };
    let of_line = mention.line.map(|line| line - 1);
    let definition = match of_line {
        Some(line) => {
            enclosing(definitions, line).or_else(|| named().filter(|own| own.first <= line && line <= own.last))
        }
        None => Some(named()?),
    };
    // A name without a path is one of a test that a runner lists.
    let is_test = indexed.is_test
        || mention.path.is_none()
        || definition.is_some_and(|own| index.names.text(own.name).starts_with("test"));
    let (first, last) = match (definition, of_line) {
        (Some(own), Some(line)) => window(own, line),
        (Some(own), None) => (own.first, own.last.min(own.first + MOST_LINES - 1)),
        (None, Some(line)) => (line.saturating_sub(AROUND), line + AROUND),
        (None, None) => return None,
    };
    Some(Piece { file: indexed.file, first, last, why: if is_test { Why::Test } else { Why::Stack } })
}

/// The innermost function around a line.
fn enclosing(definitions: &[Definition], line: usize) -> Option<&Definition> {
    let around = definitions.iter().filter(|own| own.kind == Kind::Code && own.first <= line && line <= own.last);
    around.max_by_key(|own| (own.depth, own.first))
}

/// The lines of a definition around one of them, where it is too long to be shown whole.
fn window(own: &Definition, line: usize) -> (usize, usize) {
    if own.last - own.first < MOST_LINES {
        return (own.first, own.last);
    }
    let first = line.saturating_sub(MOST_LINES / 2).max(own.first);
    (first, (first + MOST_LINES - 1).min(own.last))
}

/// What a test calls that this repository defines outside of its tests, in the order of its lines.
fn called(index: &Index, test: &Piece) -> Vec<Piece> {
    let Some(indexed) = index.at(test.file) else { return Vec::new() };
    let lines = test.first as u32..=test.last as u32;
    let mut used: Vec<(u32, Name)> = indexed
        .tags
        .uses
        .iter()
        .filter_map(|(name, at)| Some((*at.iter().find(|line| lines.contains(line))?, *name)))
        .collect();
    used.sort_unstable();
    let mut pieces = Vec::new();
    for (_, name) in used {
        let defining = index.files.iter().filter(|other| !other.is_test || other.file == test.file);
        let found: Vec<(usize, &Definition)> = defining
            .flat_map(|other| other.tags.definitions.iter().map(move |own| (other.file, own)))
            .filter(|(file, own)| {
                own.name == name && !(*file == test.file && test.first <= own.first && own.last <= test.last)
            })
            .collect();
        if found.is_empty() || found.len() > MOST_NAMESAKES || pieces.len() >= MOST_FOLLOWED {
            continue;
        }
        pieces.extend(found.into_iter().map(|(file, own)| Piece {
            file,
            first: own.first,
            last: own.last.min(own.first + MOST_LINES - 1),
            why: Why::Called,
        }));
    }
    // A class that is shown whole holds its methods.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.last - piece.first));
    pieces
}

fn read(files: &Files, walk: &Walk, file: usize) -> Vec<String> {
    let text = files.read(&walk.files[file].path, LONGEST_FILE).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(|line| clip(line, LONGEST_LINE)).collect()
}

/// The lines as `read` shows them; `None` if there are none.
fn render(path: &str, lines: &[String], piece: &Piece) -> Option<String> {
    let last = piece.last.min(lines.len().checked_sub(1)?);
    let shown = lines.get(piece.first..=last)?;
    let why = match piece.why {
        Why::Test => ", the failing test",
        Why::Stack => "",
        Why::Called => ", called by the test",
    };
    let numbered: Vec<String> =
        shown.iter().enumerate().map(|(at, line)| format!("{:>4}  {line}", piece.first + at + 1)).collect();
    Some(format!("{path}, lines {} to {}{why}:\n{}", piece.first + 1, last + 1, numbered.join("\n")))
}

/// The first lines of a piece, without the spaces that all of them begin with.
fn bare(lines: &[String], piece: &Piece) -> String {
    let shown: Vec<&str> = lines
        .iter()
        .skip(piece.first)
        .take(MOST_TEST_LINES.min(piece.last + 1 - piece.first))
        .map(String::as_str)
        .collect();
    text::dedented(&shown)
}
