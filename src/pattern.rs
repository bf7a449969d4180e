//! Regular expressions that cost nothing before they are used, and little then.
//!
//! What counts as a letter or a digit in Unicode takes thousands of states for each `\w`, in each expression and again in
//! each thread's cache; here each character beyond ASCII is taken for one, which takes ten.

use std::sync::OnceLock;

use regex::{Captures, Match, Matches, Regex};

/// A character of a word.
const WORD: &str = r"[0-9A-Za-z_\x{80}-\x{10FFFF}]";

/// An expression as it is written, compiled when it is first asked. One that cannot be compiled matches every text, since
/// most look for what is wrong, and shows nothing of it.
pub struct Pattern {
    source: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    #[must_use]
    pub const fn new(source: &'static str) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| compile(self.source)).as_ref()
    }

    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex().is_none_or(|regex| regex.is_match(text))
    }

    #[must_use]
    pub fn captures<'h>(&self, text: &'h str) -> Option<Captures<'h>> {
        self.regex()?.captures(text)
    }

    pub fn find_iter<'r, 'h>(&'r self, text: &'h str) -> impl Iterator<Item = Match<'h>> + use<'r, 'h> {
        self.regex().into_iter().flat_map(move |regex: &'r Regex| -> Matches<'r, 'h> { regex.find_iter(text) })
    }
}

/// Compiles an expression that is made up while we run.
#[must_use]
pub fn compile(source: &str) -> Option<Regex> {
    let cheap = source.replace(r"\w", WORD).replace(r"\d", "[0-9]").replace(r"\b", r"(?-u:\b)");
    Regex::new(&cheap).ok()
}
