//! Faults on demand: what goes wrong, for which requests, how often.

use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// 403 with `retry-after`, in seconds; nothing takes effect.
    SecondaryLimit { retry_after: u64 },
    /// 403 with no requests left until `seconds` from now; nothing takes effect.
    PrimaryLimit { seconds: u64 },
    /// This status with GitHub's error body; nothing takes effect.
    Status(u16),
    /// The answer comes this much later; everything takes effect.
    Slow(Duration),
    /// The connection ends before anything takes effect.
    Hangup,
    /// Everything takes effect, then the connection ends without an answer.
    AnswerLost,
    /// Everything takes effect, then the connection ends in the middle of the answer's body.
    CutBody,
}

/// A fault, for the next `times` requests of this method and path.
#[derive(Debug, Clone)]
pub struct FaultRule {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) fault: Fault,
    pub(super) times: u32,
    pub(super) skip: u32,
}

impl FaultRule {
    /// `path` as in `/repos/*/*/pulls` or `/*/*.git/git-receive-pack`, without the API prefix: `*` stands for any text
    /// within one segment. Once, unless told otherwise.
    pub fn new(method: &str, path: &str, fault: Fault) -> Self {
        Self { method: method.to_ascii_uppercase(), path: path.to_owned(), fault, times: 1, skip: 0 }
    }

    /// How many matching requests it hits.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// How many matching requests it lets pass first.
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let patterns: Vec<&str> = self.path.split('/').collect();
        let segments: Vec<&str> = path.split('/').collect();
        (self.method == "*" || self.method == method)
            && patterns.len() == segments.len()
            && patterns.iter().zip(segments).all(|(pattern, segment)| segment_matches(pattern, segment))
    }
}

/// The fault for this request, if one is due; counts it.
pub(super) fn take(rules: &mut [FaultRule], method: &str, path: &str) -> Option<Fault> {
    for rule in rules.iter_mut().filter(|rule| rule.times > 0 && rule.matches(method, path)) {
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        rule.times -= 1;
        return Some(rule.fault.clone());
    }
    None
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == segment,
        Some((before, after)) => {
            segment.len() >= before.len() + after.len() && segment.starts_with(before) && segment.ends_with(after)
        }
    }
}
