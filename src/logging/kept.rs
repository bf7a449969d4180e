//! The secrets of this process, kept so that nothing that is written or published holds one.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use super::redact;
use crate::secrets::{Known, Scanner, ScannerError};

/// Tokens that end by themselves are many in a long life; so many of the last are kept, which is more than can be good at
/// a time.
const MOST_PASSING: usize = 200;

static KEPT: RwLock<Kept> = RwLock::new(Kept::new());

struct Kept {
    lasting: Vec<Known>,
    passing: VecDeque<Known>,
    /// All of them by lines, the longest first: a secret may be part of another.
    lines: Vec<String>,
    /// Made when it is first asked for after a change.
    scanner: Option<Arc<Scanner>>,
}

/// Keeps a secret out of everything from now on; of one with several lines, each but a key's first and last, by which
/// other keys are known. `name` is what it may be called.
pub fn keep_secret(name: &str, secret: &str) {
    KEPT.write().unwrap_or_else(PoisonError::into_inner).keep(name, secret, false);
}

/// The same for a token that ends by itself.
pub fn keep_passing_secret(name: &str, secret: &str) {
    KEPT.write().unwrap_or_else(PoisonError::into_inner).keep(name, secret, true);
}

/// `text` without secrets, known or unknown.
pub fn redacted(text: &str) -> String {
    redact::redact_with(text, &KEPT.read().unwrap_or_else(PoisonError::into_inner).lines).into_owned()
}

/// `text` for the public: redacted, and without the lines that hold a secret in whatever form.
pub fn screened(text: &str) -> String {
    let text = redacted(text);
    match scanner() {
        Ok(scanner) => scanner.clean(&text).into_owned(),
        Err(_) => "(left out: it could not be searched for secrets)".into(),
    }
}

/// Searches texts for the secrets that are kept now.
///
/// # Errors
///
/// They are too large together.
pub fn scanner() -> Result<Arc<Scanner>, ScannerError> {
    if let Some(scanner) = &KEPT.read().unwrap_or_else(PoisonError::into_inner).scanner {
        return Ok(Arc::clone(scanner));
    }
    let mut kept = KEPT.write().unwrap_or_else(PoisonError::into_inner);
    let known: Vec<Known> = kept.all().cloned().collect();
    let scanner = Arc::new(Scanner::new(&known)?);
    kept.scanner = Some(Arc::clone(&scanner));
    Ok(scanner)
}

impl Kept {
    const fn new() -> Self {
        Self { lasting: Vec::new(), passing: VecDeque::new(), lines: Vec::new(), scanner: None }
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        self.lasting.iter().chain(&self.passing)
    }

    fn keep(&mut self, name: &str, secret: &str, passes: bool) {
        if secret.trim().len() < redact::SHORTEST_SECRET || self.all().any(|known| known.secret == secret) {
            return;
        }
        let known = Known { name: name.to_owned(), secret: secret.to_owned() };
        if passes {
            self.passing.push_back(known);
            while self.passing.len() > MOST_PASSING {
                self.passing.pop_front();
            }
        } else {
            self.lasting.push(known);
        }
        let is_secret = |line: &&str| line.len() >= redact::SHORTEST_SECRET && !line.starts_with("-----");
        let lines = self.all().flat_map(|known| known.secret.lines().map(str::trim).filter(is_secret));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
        lines.dedup();
        self.lines = lines;
        self.scanner = None;
    }
}
