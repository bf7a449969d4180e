//! Noticing that a run goes round in circles. Pure.

use std::collections::VecDeque;

/// What is remembered: enough for two pairs.
const REMEMBERED: usize = 4;
/// A second circle within this many calls of the first one ends the run.
const PATIENCE: u32 = 12;

/// The last calls and their results.
#[derive(Debug, Default)]
pub(super) struct Circles {
    last: VecDeque<(String, String)>,
    since_nudge: Option<u32>,
}

/// What the last call means, together with the ones before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sign {
    Progress,
    /// The first circle: tell the model. The text says what was seen: `3 times in a row`.
    Nudge(&'static str),
    /// It was told, and goes on.
    Stuck(&'static str),
}

impl Circles {
    /// Takes a call (name and arguments) and its result in.
    ///
    /// Digits in results do not count: times and addresses differ in a loop too.
    pub(super) fn observe(&mut self, call: String, result: &str) -> Sign {
        let result: String = result.chars().filter(|character| !character.is_ascii_digit()).collect();
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back((call, result));
        self.since_nudge = self.since_nudge.map(|calls| calls.saturating_add(1));
        let Some(what) = self.circle() else { return Sign::Progress };
        self.last.clear();
        match self.since_nudge.replace(0) {
            Some(calls) if calls <= PATIENCE => Sign::Stuck(what),
            Some(_) | None => Sign::Nudge(what),
        }
    }

    fn circle(&self) -> Option<&'static str> {
        let newest: Vec<_> = self.last.iter().rev().collect();
        if newest.len() >= 3 && newest[..3].iter().all(|entry| *entry == newest[0]) {
            return Some("3 times in a row");
        }
        let alternates =
            newest.len() == REMEMBERED && newest.iter().zip(&newest[2..]).all(|(left, right)| left == right);
        alternates.then_some("twice, in turns with another one,")
    }
}
