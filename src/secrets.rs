//! PURE: finds secrets in what is about to leave the machine, and tells where, never what.
//!
//! Three searches, each linear in the text:
//! 1. our own secrets, in every form of [`Form`] and on every line, whatever the base held;
//! 2. tokens by their maker's shape ([`shapes`]);
//! 3. values that look random and stand behind a word like `password` ([`entropy`]).
//!
//! The latter two are quiet about lines that the base holds already, about placeholders, and where the operator allows.
//! No value of this module holds or prints a matched text.

mod compact;
mod entropy;
mod forms;
mod own;
mod plain;
mod shapes;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::weak::{self, Defence};
use own::Own;
use shapes::Shapes;

/// Shorter texts are no secrets: they would be found everywhere.
pub const SHORTEST_SECRET: usize = 8;
/// Hits of one text; whoever sees that many needs no more.
pub const MOST_HITS: usize = 100;
/// Finds of one text that are looked at, ours first.
const MOST_LOOKED_AT: usize = 10_000;
/// How often a text is searched that is to be cleaned.
const MOST_PASSES: usize = 8;

/// A secret of ours and the name it may be called by.
#[derive(Clone)]
pub struct Known {
    /// What people call it: `GITHUB_TOKEN`.
    pub name: String,
    /// The secret itself.
    pub secret: String,
}

impl fmt::Debug for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Known").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a secret of ours was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it is.
    Exact,
    /// Base64 at any of the three alignments, standard or URL-safe, padded or not, wrapped or not.
    Base64,
    /// Bytes as hexadecimal, octal or decimal numbers, with or without prefixes and separators.
    Numbers,
    /// Percent-encoded where URLs need it.
    UrlEncoded,
    /// Escaped for JSON, HTML or a programming language.
    Escaped,
    /// From the last character to the first.
    Reversed,
    /// In pieces: with separators between, or two halves near each other.
    Split,
    /// Two thirds to three quarters of it in a row, or a long line of it.
    Part,
}

impl Form {
    /// The form in words that follow `our secret X`.
    pub fn describe(self) -> &'static str {
        match self {
            Form::Exact => "as it is",
            Form::Base64 => "in base64",
            Form::Numbers => "as numbers",
            Form::UrlEncoded => "URL-encoded",
            Form::Escaped => "escaped",
            Form::Reversed => "reversed",
            Form::Split => "in pieces",
            Form::Part => "in part",
        }
    }
}

/// What kind of secret was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// One of ours.
    Own {
        /// The name it was given in [`Known`].
        name: String,
        /// How it was written.
        form: Form,
    },
    /// A token with a maker's shape.
    Token {
        /// Whose: `GitHub token`.
        maker: String,
    },
    /// A private key block.
    PrivateKey,
    /// An address with a password in it.
    PasswordInAddress,
    /// A random-looking value behind a word like `password`.
    RandomValue,
}

impl Kind {
    /// What was found, in words that hold nothing of it.
    pub fn describe(&self) -> String {
        match self {
            Kind::Own { name, form } => format!("our secret {name} {}", form.describe()),
            Kind::Token { maker } => format!("what looks like a {maker}"),
            Kind::PrivateKey => "a private key".into(),
            Kind::PasswordInAddress => "a password in an address".into(),
            Kind::RandomValue => "a random value assigned to a name like `password`".into(),
        }
    }
}

/// Where a text is going to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "place", content = "path", rename_all = "snake_case")]
pub enum Place {
    /// A file of the change. The path is lossy UTF-8, for display.
    File(String),
    /// The name of a file, which therefore cannot be shown; also its contents then.
    FileName,
    /// The commit's message.
    CommitMessage,
    /// The branch's name.
    Branch,
    /// The pull request's title.
    Title,
    /// The pull request's body.
    Body,
    /// A comment on an issue or pull request.
    Comment,
}

impl Place {
    /// The place in words: `src/a.rs`, `the commit message`.
    pub fn describe(&self) -> String {
        match self {
            Place::File(path) => path.clone(),
            Place::FileName => "a file whose name holds a secret".into(),
            Place::CommitMessage => "the commit message".into(),
            Place::Branch => "the branch name".into(),
            Place::Title => "the pull request's title".into(),
            Place::Body => "the pull request's body".into(),
            Place::Comment => "the comment".into(),
        }
    }
}

/// A text to be searched.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    /// Where it goes.
    pub place: Place,
    /// All of it.
    pub bytes: &'a [u8],
    /// What stood there before; lines that are in it count only for our own secrets.
    pub base: Option<&'a [u8]>,
}

/// A secret that was found: where and of what kind, never what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hit {
    /// Where it would have gone.
    pub place: Place,
    /// The line it begins on, from 1; 0 for names of files.
    pub line: usize,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

impl Hit {
    /// Whether `next`, on the same line, adds nothing: the same secret in another form, or a random value beside a hit
    /// that is certain.
    fn tells(&self, next: &Hit) -> bool {
        let is_same = match (&self.kind, &next.kind) {
            (Kind::Own { name, .. }, Kind::Own { name: next, .. }) => name == next,
            (_, Kind::RandomValue) => true,
            (_, Kind::Own { .. } | Kind::Token { .. } | Kind::PrivateKey | Kind::PasswordInAddress) => false,
        };
        is_same && self.place == next.place && self.line == next.line
    }
}

impl fmt::Display for Hit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.place.describe())?;
        if self.line > 0 {
            write!(formatter, ", line {}", self.line)?;
        }
        write!(formatter, ": {}", self.kind.describe())
    }
}

/// What the operator lets through, as it stands in the config. Our own secrets pass nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allow {
    /// Globs of files in which token shapes and random values may stand. Default: none.
    pub allow: Vec<String>,
    /// Globs of files in which random values may stand, besides lock files. Default: none.
    pub allow_random_values: Vec<String>,
}

/// The same, ready to be asked.
#[derive(Debug, Default)]
pub struct Allowed {
    all: GlobSet,
    random_values: GlobSet,
}

impl Allowed {
    /// Compiles the globs.
    pub fn new(allow: &Allow) -> Result<Self, ScannerError> {
        Ok(Self { all: globs(&allow.allow)?, random_values: globs(&allow.allow_random_values)? })
    }
}

/// Why a scanner cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ScannerError {
    /// A glob of the allow list.
    #[error("`{glob}` in the allow list for secrets is no valid glob: {cause}. Correct it")]
    Glob {
        /// As it was written.
        glob: String,
        /// What the parser says.
        cause: String,
    },
    /// The secrets together are too large to search for.
    #[error("the secrets cannot be searched for: their forms are too large together. Name fewer or shorter ones")]
    TooLarge,
}

/// Searches texts for secrets. Holds our own ones, and shows them to nobody.
pub struct Scanner {
    own: Own,
    shapes: Shapes,
    keywords: entropy::Keywords,
}

impl fmt::Debug for Scanner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scanner").finish_non_exhaustive()
    }
}

/// What one search found: bytes of the text, and of what kind they are.
struct Found {
    span: Range<usize>,
    kind: Kind,
}

impl Scanner {
    /// Prepares the search. Secrets below [`SHORTEST_SECRET`] bytes are passed over.
    pub fn new(known: &[Known]) -> Result<Self, ScannerError> {
        Ok(Self { own: Own::new(known)?, shapes: Shapes::new()?, keywords: entropy::Keywords::new()? })
    }

    /// The secrets in a text, by line and kind; at most [`MOST_HITS`], our own first.
    ///
    /// A file's name is searched with it.
    pub fn scan(&self, text: &Text<'_>, allowed: &Allowed) -> Vec<Hit> {
        if weak::is_off(Defence::SecretScan) {
            return Vec::new();
        }
        let mut hits = BTreeSet::new();
        let mut place = text.place.clone();
        if let Place::File(path) = &text.place {
            let in_name = self.find(&Place::FileName, path.as_bytes(), None, allowed);
            if !in_name.is_empty() {
                place = Place::FileName;
                hits.extend(in_name.into_iter().map(|found| Hit { place: Place::FileName, line: 0, kind: found.kind }));
            }
        }
        let mut found = self.find(&text.place, text.bytes, text.base, allowed);
        // Our own first, so that a flood of others cannot crowd them out.
        found.sort_by_key(|found| (!matches!(found.kind, Kind::Own { .. }), found.span.start));
        found.truncate(MOST_LOOKED_AT);
        found.sort_by_key(|found| found.span.start);
        let (mut line, mut at) = (1, 0);
        for found in found {
            line += count_lines(&text.bytes[at..found.span.start]);
            at = found.span.start;
            hits.insert(Hit { place: place.clone(), line, kind: found.kind });
        }
        let mut hits: Vec<Hit> = hits.into_iter().collect();
        hits.dedup_by(|next, first| first.tells(next));
        hits.sort_by_key(|hit| !matches!(hit.kind, Kind::Own { .. }));
        hits.truncate(MOST_HITS);
        hits
    }

    /// `text` with a note in place of each line that holds a secret.
    ///
    /// It is searched again after that, since what remains may stand together now; after [`MOST_PASSES`] nothing remains.
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        for _ in 0..MOST_PASSES {
            let found = self.find(&Place::Comment, clean.as_bytes(), None, &Allowed::default());
            if found.is_empty() {
                return clean;
            }
            clean = Cow::Owned(without_lines(&clean, &found));
        }
        Cow::Owned("(left out: it holds secrets)\n".into())
    }

    fn find(&self, place: &Place, bytes: &[u8], base: Option<&[u8]>, allowed: &Allowed) -> Vec<Found> {
        let mut found = self.own.find(bytes);
        let path = if let Place::File(path) = place { Some(path.as_str()) } else { None };
        if path.is_some_and(|path| allowed.all.is_match(path)) {
            return found;
        }
        let mut others = self.shapes.find(bytes);
        if !path.is_some_and(|path| allowed.random_values.is_match(path) || plain::is_lock_file(path)) {
            others.extend(self.keywords.find(bytes));
        }
        if !others.is_empty()
            && let Some(base) = base
        {
            let known: HashSet<&[u8]> = base.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
            others.retain(|found| lines_of(bytes, &found.span).any(|line| !known.contains(line.trim_ascii())));
        }
        found.extend(others);
        found
    }
}

/// Each line that a secret touches gives way to what the first one on it is.
fn without_lines(text: &str, found: &[Found]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let span = at..at + line.len();
        at = span.end;
        match found.iter().find(|found| found.span.start < span.end && span.start < found.span.end) {
            Some(found) => {
                clean.push_str(&format!("(a line was left out: {})", found.kind.describe()));
                clean.push_str(if line.ends_with('\n') { "\n" } else { "" });
            }
            None => clean.push_str(line),
        }
    }
    clean
}

/// The whole lines that a span touches.
fn lines_of<'a>(bytes: &'a [u8], span: &Range<usize>) -> impl Iterator<Item = &'a [u8]> {
    let start = bytes[..span.start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = bytes[span.end..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| span.end + at);
    bytes[start..end].split(|byte| *byte == b'\n')
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Of the kinds there are the one that is soon built and takes little memory: what is searched is small.
fn small_automaton() -> AhoCorasickBuilder {
    let mut builder = AhoCorasick::builder();
    builder.kind(Some(AhoCorasickKind::ContiguousNFA));
    builder
}

fn globs(globs: &[String]) -> Result<GlobSet, ScannerError> {
    let mut set = GlobSetBuilder::new();
    let error = |glob: &str, cause: globset::Error| ScannerError::Glob { glob: glob.into(), cause: cause.to_string() };
    for glob in globs {
        set.add(GlobBuilder::new(glob).literal_separator(true).build().map_err(|cause| error(glob, cause))?);
    }
    set.build().map_err(|cause| error("", cause))
}
