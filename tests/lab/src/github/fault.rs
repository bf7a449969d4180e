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

/// Faults by chance, the same ones for the same seed and the same order of requests.
#[derive(Debug, Clone)]
pub struct Chaos {
    pub seed: u64,
    /// The share of all requests that something goes wrong with, from 0 to 1.
    pub share: f64,
    /// How late a slow answer comes.
    pub slow: Duration,
}

impl Chaos {
    /// What goes wrong with the `number`th request.
    pub(super) fn fault(&self, number: u64) -> Option<Fault> {
        let chance = Chance::new(self.seed, number);
        if !chance.happens(self.share) {
            return None;
        }
        Some(match chance.0 % 6 {
            0 => Fault::Status(502),
            1 => Fault::Status(500),
            2 => Fault::Hangup,
            3 => Fault::AnswerLost,
            4 => Fault::CutBody,
            _ => Fault::Slow(self.slow),
        })
    }
}

/// What befalls webhooks by chance.
#[derive(Debug, Clone)]
pub struct Mischief {
    pub seed: u64,
    /// The share that is sent twice, under the same id.
    pub duplicated: f64,
    /// The share that is sent `delay` later, so that others overtake it.
    pub delayed: f64,
    pub delay: Duration,
}

/// A number drawn from a seed and a place. The mixing is that of SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Copy)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64, place: u64) -> Self {
        let mut mixed = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed ^ (mixed >> 31))
    }

    pub(super) fn happens(self, share: f64) -> bool {
        ((self.0 >> 11) as f64) < share * ((1_u64 << 53) as f64)
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
