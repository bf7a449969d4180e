//! Our own secrets in a text, in whatever form.

use aho_corasick::AhoCorasick;

use super::compact::{Window, compact, for_each_window};
use super::forms::{self, Gaps, Role};
use super::{Form, Found, Kind, Known, SHORTEST_SECRET, ScannerError, small_automaton};

/// Halves that stand further apart, in letters and digits, are no halves.
const APART: usize = 512;

/// The automata for all forms of all secrets.
pub(super) struct Own {
    secrets: Vec<Secret>,
    compacted: AhoCorasick,
    targets: Vec<Target>,
    raw: AhoCorasick,
    raw_targets: Vec<(usize, Form)>,
    /// Of the longest pattern, in letters and digits.
    longest: usize,
}

struct Secret {
    name: String,
    exact: Vec<u8>,
    plain: Vec<u8>,
}

/// What a pattern of the compacted text means.
struct Target {
    secret: usize,
    role: Role,
    gaps: Gaps,
}

/// A half of a secret: where it stands in the window, and how much of the secret is there.
struct Half {
    secret: usize,
    at: usize,
    length: usize,
}

impl Own {
    /// Builds the automata; secrets that are too short are passed over.
    pub(super) fn new(known: &[Known]) -> Result<Self, ScannerError> {
        let (mut secrets, mut patterns, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut raw_patterns, mut raw_targets) = (Vec::new(), Vec::new());
        for known in known.iter().filter(|known| known.secret.trim().len() >= SHORTEST_SECRET) {
            let (secret, text) = (secrets.len(), known.secret.trim());
            for pattern in forms::patterns(text) {
                patterns.push(pattern.text);
                targets.push(Target { secret, role: pattern.role, gaps: pattern.gaps });
            }
            for (form, pattern) in forms::raw_patterns(text) {
                raw_patterns.push(pattern);
                raw_targets.push((secret, form));
            }
            let exact = text.as_bytes().to_vec();
            secrets.push(Secret { name: known.name.clone(), plain: compact(&exact), exact });
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let compacted = small_automaton().build(&patterns).map_err(|_| ScannerError::TooLarge)?;
        let raw = small_automaton().build(&raw_patterns).map_err(|_| ScannerError::TooLarge)?;
        Ok(Self { secrets, compacted, targets, raw, raw_targets, longest })
    }

    /// Every place where one of the secrets stands.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        if self.secrets.is_empty() {
            return found;
        }
        for_each_window(text, self.longest + APART, &mut |window| self.find_in_window(text, window, &mut found));
        for hit in self.raw.find_overlapping_iter(text) {
            if let Some((secret, form)) = self.raw_targets.get(hit.pattern().as_usize()) {
                found.push(Found { span: hit.range(), kind: self.kind(*secret, *form) });
            }
        }
        found
    }

    fn find_in_window(&self, text: &[u8], window: &Window, found: &mut Vec<Found>) {
        let (mut heads, mut tails) = (Vec::new(), Vec::new());
        for hit in self.compacted.find_overlapping_iter(&window.bytes) {
            let Some(target) = self.targets.get(hit.pattern().as_usize()) else { continue };
            let secret = &self.secrets[target.secret];
            match target.role {
                Role::Head => {
                    let rest = window.bytes[hit.start()..].iter();
                    let length = rest.zip(&secret.plain).take_while(|(left, right)| left == right).count();
                    heads.push(Half { secret: target.secret, at: hit.start(), length });
                }
                Role::Tail => {
                    let rest = window.bytes[..hit.end()].iter().rev();
                    let length = rest.zip(secret.plain.iter().rev()).take_while(|(left, right)| left == right).count();
                    tails.push(Half { secret: target.secret, at: hit.end() - length, length });
                }
                Role::Whole(form) => {
                    let offsets = &window.offsets[hit.range()];
                    if target.gaps == Gaps::Any || are_glued(text, offsets, &secret.exact) {
                        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
                        let form = form_found(form, &text[first..=last], &secret.exact);
                        found.push(Found { span: first..last + 1, kind: self.kind(target.secret, form) });
                    }
                }
            }
        }
        heads.sort_by_key(|head: &Half| head.at);
        for tail in tails {
            let from = heads.partition_point(|head| head.at + APART < tail.at);
            let near = heads[from..].iter().take_while(|head| head.at <= tail.at + APART);
            let length = self.secrets[tail.secret].plain.len();
            let fits = |head: &&Half| head.secret == tail.secret && head.length + tail.length >= length;
            if let Some(head) = near.into_iter().find(fits) {
                let ends = [head.at + head.length, tail.at + tail.length].map(|end| window.offsets[end - 1] + 1);
                let span = window.offsets[head.at.min(tail.at)]..ends[0].max(ends[1]);
                found.push(Found { span, kind: self.kind(tail.secret, Form::Split) });
            }
        }
    }

    fn kind(&self, secret: usize, form: Form) -> Kind {
        Kind::Own { name: self.secrets[secret].name.clone(), form }
    }
}

/// A plain match with something between its characters is a split one.
fn form_found(form: Form, matched: &[u8], exact: &[u8]) -> Form {
    let is_within = matched.len() <= exact.len() && exact.windows(matched.len()).any(|part| part == matched);
    if form == Form::Exact && !is_within { Form::Split } else { form }
}

/// Whether what stands between the characters only joins them: nothing, what the secret has there too, or the ends of
/// literals, lines and zero-width characters.
fn are_glued(text: &[u8], offsets: &[usize], exact: &[u8]) -> bool {
    offsets.windows(2).all(|pair| {
        let gap = &text[pair[0] + 1..pair[1]];
        gap.is_empty() || is_glue(gap) || exact.windows(gap.len()).any(|own| own == gap)
    })
}

fn is_glue(gap: &[u8]) -> bool {
    let gap = String::from_utf8_lossy(&gap[..gap.len().min(APART)]);
    let parts = |character: char| matches!(character, '"' | '\'' | '`' | '\n' | '\\' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{ad}' | '\u{feff}');
    let joins = |character: char| {
        parts(character) || character.is_whitespace() || "+,.;&|()[]{}<>#*/-%:=~^!?$@".contains(character)
    };
    gap.chars().all(joins) && gap.chars().any(parts)
}
