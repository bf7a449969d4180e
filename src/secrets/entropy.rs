//! Values that look random, assigned to names like `password`.

use aho_corasick::AhoCorasick;

use super::plain::{entropy, is_common_password, is_uuid};
use super::{Found, Kind, ScannerError, small_automaton};

/// Parts of names that hold secrets; letters of either case.
const KEYWORDS: [&str; 19] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "access-key",
    "auth_key",
    "authkey",
    "private_key",
    "privatekey",
    "credential",
    "client_key",
    "connectionstring",
];

/// Words on a line that say what else a random value may be; letters of either case.
const EXPLANATIONS: [&str; 15] = [
    "sha1",
    "sha256",
    "sha384",
    "sha512",
    "md5",
    "checksum",
    "digest",
    "integrity",
    "etag",
    "commit",
    "revision",
    "uuid",
    "guid",
    "public_key",
    "publickey",
];

const SHORTEST: usize = 16;
const LONGEST: usize = 512;
/// Of a name behind its keyword: `token` in `token_for_staging`.
const LONGEST_NAME: usize = 40;
/// Quotes, brackets, spaces and an operator between name and value.
const LONGEST_OPERATOR: usize = 24;
/// Of a line before and behind the keyword that is searched for explanations.
const NEAR: usize = 100;

/// The automata for keywords and explanations.
pub(super) struct Keywords {
    keywords: AhoCorasick,
    explanations: AhoCorasick,
}

impl Keywords {
    /// Builds the automata.
    pub(super) fn new() -> Result<Self, ScannerError> {
        let build = |words: &[&str]| {
            small_automaton().ascii_case_insensitive(true).build(words).map_err(|_| ScannerError::TooLarge)
        };
        Ok(Self { keywords: build(&KEYWORDS)?, explanations: build(&EXPLANATIONS)? })
    }

    /// The random values behind keywords in a text.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut done = 0;
        for hit in self.keywords.find_iter(text).map(|hit| hit.range()) {
            let Some(value) = (hit.end >= done).then(|| value_behind(text, hit.end)).flatten() else { continue };
            done = value.end;
            if self.looks_secret(&text[value.clone()]) && !self.is_explained(text, hit.start) {
                found.push(Found { span: value, kind: Kind::RandomValue });
            }
        }
        found
    }

    /// Whether a value was drawn at random, behind the last word in it that names a secret: `session_token_` is no part.
    fn looks_secret(&self, value: &[u8]) -> bool {
        let named = self.keywords.find_iter(value).last().map_or(0, |hit| hit.end());
        let drawn = &value[named..];
        drawn.len() >= SHORTEST && looks_random(drawn)
    }

    fn is_explained(&self, text: &[u8], at: usize) -> bool {
        let near = &text[at.saturating_sub(NEAR)..text.len().min(at + NEAR)];
        let start = near[..at.min(NEAR)].iter().rposition(|byte| *byte == b'\n').map_or(0, |found| found + 1);
        let end =
            near[at.min(NEAR)..].iter().position(|byte| *byte == b'\n').map_or(near.len(), |end| at.min(NEAR) + end);
        self.explanations.is_match(&near[start..end])
    }
}

/// The value that is assigned to the name in which a keyword ends at `at`.
fn value_behind(text: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let after_name = at + text[at..].iter().take(LONGEST_NAME).take_while(|byte| is_name(byte)).count();
    let is_operator = |byte: &u8| {
        byte.is_ascii_whitespace()
            || matches!(byte, b'=' | b':' | b'>' | b'"' | b'\'' | b'`' | b',' | b'(' | b')' | b']' | b'\\' | b'?')
    };
    let operator = text[after_name..].iter().take(LONGEST_OPERATOR).take_while(|byte| is_operator(byte)).count();
    let start = after_name + operator;
    let between = &text[after_name..start];
    let assigns = between.iter().any(|byte| matches!(byte, b'=' | b':' | b',' | b'('));
    if !assigns || between.iter().filter(|byte| **byte == b'\n').count() > 1 {
        return None;
    }
    let rest = &text[start..text.len().min(start + LONGEST + 1)];
    let ends = |byte: &u8| {
        byte.is_ascii_whitespace()
            || matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b')' | b']' | b'}' | b'\\')
    };
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    (SHORTEST..=LONGEST).contains(&length).then_some(start..start + length)
}

/// Whether a value was drawn at random: no name, path, address, or placeholder.
fn looks_random(value: &[u8]) -> bool {
    const LEAST_ENTROPY: f64 = 3.3;
    const LEAST_ENTROPY_OF_HEX: f64 = 2.8;
    const FEWEST_DIGITS: usize = 2;
    let is_code = |byte: &u8| matches!(byte, b'(' | b'[' | b'{' | b'|') || !byte.is_ascii_graphic();
    if value.iter().any(is_code)
        || value.windows(3).any(|part| part == b"://")
        || value.windows(2).any(|part| part == b"::")
    {
        return false;
    }
    let is_hex = value.iter().all(u8::is_ascii_hexdigit);
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let least = if is_hex { LEAST_ENTROPY_OF_HEX } else { LEAST_ENTROPY };
    digits >= FEWEST_DIGITS
        && letters >= FEWEST_DIGITS
        && entropy(value) >= least
        && is_mixed(value)
        && !is_identifier(value)
        && !is_uuid(value)
        && !is_common_password(value)
}

/// A name of code, in parts between underscores: each is of capitals, or of a word or several, with digits only before or
/// behind. `D3D10_SHIFT`, `XXH3_hashLong64_f`; what is drawn at random has digits within.
fn is_identifier(value: &[u8]) -> bool {
    let is_part = |part: &[u8]| {
        let inner = part.trim_ascii();
        let start = inner.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = inner.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let within = inner.get(start..inner.len().saturating_sub(end)).unwrap_or_default();
        let is_capitals =
            inner.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) && inner.len() <= 12;
        is_capitals || within.iter().all(u8::is_ascii_alphabetic)
    };
    value.contains(&b'_') && value.split(|byte| *byte == b'_').all(is_part)
}

/// Random texts change between small letters, capitals and digits at every other character; names, paths and dates at
/// the beginnings of words.
fn is_mixed(value: &[u8]) -> bool {
    const SHORTEST_WORD: usize = 4;
    let kind = |byte: &u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let changes = value.windows(2).filter(|pair| kind(&pair[0]) != kind(&pair[1])).count();
    let separators = value.iter().filter(|byte| matches!(byte, b'.' | b'/' | b'-' | b'_')).count();
    let runs = value.chunk_by(|left, right| kind(left) == 0 && kind(right) == 0);
    let in_words: usize = runs.map(<[u8]>::len).filter(|length| *length >= SHORTEST_WORD).sum();
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_name = in_words * 2 >= value.len() && digits * 6 < value.len();
    changes * 5 >= value.len() + 5 * separators && !is_name
}
