//! Source text -> the tests in it.
//!
//! No parser of the language: headers are found line by line in blanked code, and a test's body goes on to where its
//! indentation or its brackets end, at the latest to the next header. Each line is looked at a fixed number of times.

mod headers;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::blank::blank;
use super::language::Language;
use super::strength::{Strength, assertions};
use headers::{Header, Place};

/// One test of a file.
#[derive(Debug)]
pub(super) struct Test {
    /// As its runner calls it; in Python with its class.
    pub name: String,
    /// Of the header, from 1.
    pub line: usize,
    /// Hashes of the body's lines without indentation, blank ones left out.
    pub body: Vec<u64>,
    /// Hashes of the lines that assert something.
    pub assertions: BTreeSet<u64>,
    /// Assertions by strength.
    pub strong: usize,
    /// See [`Strength::Weak`].
    pub weak: usize,
    /// See [`Strength::Trivial`].
    pub trivial: usize,
    /// Nothing is done in it.
    pub is_empty: bool,
    /// It ends before it comes to its assertions.
    pub returns_early: bool,
    /// Times that it catches what would fail it, and goes on.
    pub swallows: usize,
    /// Lines and words of what keeps it from counting.
    pub markers: Vec<(usize, &'static str)>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct File {
    /// In order.
    pub tests: Vec<Test>,
    /// Behind the last test.
    pub markers: Vec<(usize, &'static str)>,
}

/// Reads the tests of a file.
pub(super) fn read(text: &str, language: Language) -> File {
    let code = blank(text, language);
    let code: Vec<&str> = code.lines().collect();
    let lines: Vec<&str> = text.lines().collect();
    let headers = headers::headers(&code, &lines, language);
    let mut file = File::default();
    let mut from = 0;
    for (index, header) in headers.iter().enumerate() {
        let limit = headers.get(index + 1).map_or(code.len(), |next| next.line);
        let end = match header.place {
            Place::Indented => end_by_indentation(&code, header.line, limit),
            Place::Braces => end_by_brackets(&code, header, limit, "{}"),
            Place::Call => end_by_brackets(&code, header, limit, "({})"),
            Place::Line => header.line + 1,
        };
        let mut test = test(&code, &lines, header, end, language);
        test.markers = (from..end).filter_map(|at| Some((at + 1, headers::marker(language, code[at])?))).collect();
        file.tests.push(test);
        from = end;
    }
    file.markers = (from..code.len()).filter_map(|at| Some((at + 1, headers::marker(language, code[at])?))).collect();
    file
}

fn test(code: &[&str], lines: &[&str], header: &Header, end: usize, language: Language) -> Test {
    let mut test = Test {
        name: header.name.clone(),
        line: header.line + 1,
        body: Vec::new(),
        assertions: BTreeSet::new(),
        strong: 0,
        weak: 0,
        trivial: 0,
        is_empty: true,
        returns_early: false,
        swallows: 0,
        markers: Vec::new(),
    };
    let mut first_indentation = None;
    let mut may_return_early = false;
    for at in header.line..end {
        let from = if at == header.line { header.end } else { 0 };
        let (code, line) = (
            code[at].get(from..).unwrap_or_default(),
            lines.get(at).and_then(|line| line.get(from..)).unwrap_or_default(),
        );
        let trimmed = code.trim();
        if trimmed.is_empty() {
            continue;
        }
        if at > header.line {
            test.body.push(hash(line.trim()));
        }
        let strengths = assertions(language, code, line);
        test.is_empty &= strengths.is_empty() && headers::does_nothing(trimmed, at == header.line);
        if !strengths.is_empty() {
            test.assertions.insert(hash(line.trim()));
            test.returns_early |= may_return_early;
        }
        for strength in strengths {
            match strength {
                Strength::Strong => test.strong += 1,
                Strength::Weak => test.weak += 1,
                Strength::Trivial => test.trivial += 1,
            }
        }
        test.swallows += usize::from(headers::swallows(code));
        if at > header.line {
            let first = *first_indentation.get_or_insert(indentation(code));
            may_return_early |= indentation(code) <= first
                && matches!(trimmed, "return" | "return;" | "return None" | "return 0" | "return Ok(());" | "next");
        }
    }
    test
}

/// A test's body goes on while lines stand further in; a line that closes belongs to it.
fn end_by_indentation(code: &[&str], header: usize, limit: usize) -> usize {
    let outer = indentation(code[header]);
    let is_outside = |line: &&str| {
        let text = line.trim();
        !text.is_empty() && indentation(line) <= outer && !text.starts_with([')', ']', '}'])
    };
    code[header + 1..limit].iter().position(is_outside).map_or(limit, |at| header + 1 + at)
}

/// A test's body goes on until the brackets that it opens are closed.
fn end_by_brackets(code: &[&str], header: &Header, limit: usize, brackets: &str) -> usize {
    let mut depth = 0_usize;
    for (at, line) in code.iter().enumerate().take(limit).skip(header.line) {
        let line = if at == header.line { line.get(header.bracket..).unwrap_or_default() } else { line };
        let mut characters = line.chars().filter(|character| !character.is_whitespace()).peekable();
        while let Some(character) = characters.next() {
            if !brackets.contains(character) {
                continue;
            }
            if matches!(character, '(' | '{') {
                depth += 1;
                continue;
            }
            depth = depth.saturating_sub(1);
            // `it.each([...])('name', ...)`: the body is in the second call.
            if depth == 0 && !matches!(characters.peek(), Some('(' | '`')) {
                return at + 1;
            }
        }
    }
    limit
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
