//! A file's bytes as lines, with nothing lost.

use std::cell::OnceCell;
use std::ops::Range;

use super::Refusal;
use super::alike::{fold_byte, folded};

const BOM: &[u8] = b"\xef\xbb\xbf";
/// How much is looked at to tell a binary file.
const MOST_LOOKED_AT: usize = 8_192;

/// Every byte belongs to the byte order mark, to a line's text, or to a line's end.
pub(super) struct Document<'a> {
    pub bytes: &'a [u8],
    pub is_utf8: bool,
    lines: Vec<Extent>,
    /// A hash of each line without what may differ ([`folded`]).
    folded: OnceCell<Vec<u64>>,
}

#[derive(Clone, Copy)]
struct Extent {
    start: usize,
    /// Where its text ends and its line end begins.
    text_end: usize,
    end: usize,
}

impl<'a> Document<'a> {
    pub fn open(path: &str, bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(Refusal::Utf16 { path: path.to_owned() });
        }
        if bytes.iter().take(MOST_LOOKED_AT).any(|byte| *byte == 0) {
            return Err(Refusal::Binary { path: path.to_owned() });
        }
        let is_utf8 = std::str::from_utf8(bytes).is_ok();
        Ok(Self { bytes, is_utf8, lines: extents(bytes), folded: OnceCell::new() })
    }

    /// How many lines there are; what follows the last line end is one, if it is not empty.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// A line without its end.
    pub fn text(&self, line: usize) -> &'a [u8] {
        self.lines.get(line).map_or(&[], |extent| &self.bytes[extent.start..extent.text_end])
    }

    /// A line's end: LF, CRLF, or nothing for a last line without.
    pub fn line_end(&self, line: usize) -> &'a [u8] {
        self.lines.get(line).map_or(&[], |extent| &self.bytes[extent.text_end..extent.end])
    }

    /// Where a line starts; for the line after the last one, the end of the file.
    pub fn start(&self, line: usize) -> usize {
        self.lines.get(line).map_or(self.bytes.len(), |extent| extent.start)
    }

    /// The bytes of whole lines.
    pub fn range(&self, lines: Range<usize>) -> Range<usize> {
        self.start(lines.start)..self.start(lines.end)
    }

    /// The line, from 0, that the byte belongs to.
    pub fn line_at(&self, offset: usize) -> usize {
        self.lines.partition_point(|extent| extent.end <= offset).min(self.lines.len().saturating_sub(1))
    }

    pub fn ends_with_newline(&self) -> bool {
        self.lines.last().is_none_or(|last| last.text_end < last.end)
    }

    /// The line end that a new line near `line` takes: the one of that line, else of the nearest line before, else of the
    /// first line.
    pub fn line_end_near(&self, line: usize) -> &'a [u8] {
        let before = (0..=line.min(self.lines.len())).rev().map(|line| self.line_end(line)).find(|end| !end.is_empty());
        before.unwrap_or(match self.line_end(0) {
            [] => b"\n",
            first => first,
        })
    }

    /// The hash of each line without white space at its ends, quotes and look-alikes folded.
    pub fn folded(&self) -> &[u64] {
        self.folded.get_or_init(|| (0..self.lines.len()).map(|line| hash_of(self.text(line))).collect())
    }
}

/// The hash of one line, folded (Fowler, Noll and Vo, 1a). Quick rather than good: places are compared line by line.
pub(super) fn hash_of(line: &[u8]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    match line.is_ascii() {
        true => line.trim_ascii().iter().fold(start, |hash, byte| step(hash, fold_byte(*byte))),
        false => folded(line).iter().fold(start, |hash, byte| step(hash, *byte)),
    }
}

fn extents(bytes: &[u8]) -> Vec<Extent> {
    let mut start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let mut lines = Vec::with_capacity(bytes.len() / 32);
    for newline in memchr::memchr_iter(b'\n', bytes) {
        let text_end = newline - usize::from(newline > start && bytes[newline - 1] == b'\r');
        lines.push(Extent { start, text_end, end: newline + 1 });
        start = newline + 1;
    }
    if start < bytes.len() {
        lines.push(Extent { start, text_end: bytes.len(), end: bytes.len() });
    }
    lines
}
