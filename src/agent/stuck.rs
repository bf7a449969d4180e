//! Noticing that a run runs away, and what to do about it. Pure.
//!
//! | habit | seen |
//! |---|---|
//! | same call | the same call with the same answer, [`SAME`] times in a row |
//! | calls in turns | two to [`LONGEST_TURN`] calls that came before in the same order, with the same answers |
//! | endless commands | [`ENDLESS`] commands that did not end by themselves, without a new state of the files |
//! | done without a change | "done", though no file differs, although the model was told |
//! | only looking, no change | [`PATIENCE`] replies without a new state of the files |
//! | no action, unreadable | [`UNUSABLE`] replies in a row that held nothing to act on |
//! | same answer | such a reply twice in a row, letter for letter |
//!
//! What follows is a ladder: a nudge that says what was seen, then a fresh start with a summary, then the end. A reply that
//! holds nothing to act on is answered at once with what is wanted, so there the fresh start, in another protocol, is the
//! first thing. Each kind of fresh start comes once in a run.
//!
//! Progress is a state of the files that was never there before, unless the very same call made it. It takes the run back
//! to the foot of the ladder. So a run without progress ends, whatever it does, and one that makes some goes on.

use std::collections::{HashSet, VecDeque};

use crate::outcome::Habit;

pub const SAME: usize = 3;
pub const LONGEST_TURN: usize = 4;
pub const ENDLESS: u32 = 2;
pub const PATIENCE: u32 = 15;
pub const UNUSABLE: u32 = 3;
/// What is remembered: enough for the longest turn, twice.
const REMEMBERED: usize = 2 * LONGEST_TURN;

/// What one reply came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The calls that were carried out, in order.
    pub deeds: Vec<Deed>,
    /// There was nothing to act on.
    pub nothing: Option<Nothing>,
    /// The state of the files behind it, as a hash.
    pub files: u64,
}

/// A call that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    /// A hash of the call's name and arguments.
    pub call: u64,
    /// A hash of its answer.
    pub answer: u64,
    pub kind: Kind,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Looks,
    Talks,
    Edits,
    Runs,
    /// A command that did not end by itself.
    RunsForEver,
    /// "Done", though no file differs.
    DoneForNothing,
}

/// A reply that held nothing to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nothing {
    /// A hash of the reply.
    pub reply: u64,
    /// It meant to be a call.
    pub means_a_call: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    GoOn,
    /// Tell the model what was seen.
    Nudge(Habit),
    /// Begin again with a summary; where a protocol failed, in another one.
    BeginAgain(Habit),
    End(Habit),
}

/// What was seen of a run so far.
#[derive(Debug)]
pub struct Watch {
    last: VecDeque<(u64, u64)>,
    /// The very last call, also where the ones before were seen and forgotten.
    latest: Option<(u64, u64)>,
    /// The states that the files have been in.
    states: HashSet<u64>,
    rung: Rung,
    fresh_starts: u32,
    other_protocols: u32,
    /// Replies since the last new state, or since that was told.
    idle: u32,
    /// They did nothing but look.
    only_looked: bool,
    endless: u32,
    done_for_nothing: u32,
    unusable: u32,
    meant_a_call: bool,
    last_nothing: Option<u64>,
}

/// How far up the ladder a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Foot,
    Nudged,
    BegunAgain,
}

impl Watch {
    /// `files`: their state at the beginning. `has_other_protocol`: there is one to switch to.
    pub fn new(files: u64, has_other_protocol: bool) -> Self {
        Self {
            last: VecDeque::new(),
            latest: None,
            states: HashSet::from([files]),
            rung: Rung::Foot,
            fresh_starts: 1,
            other_protocols: u32::from(has_other_protocol),
            idle: 0,
            only_looked: true,
            endless: 0,
            done_for_nothing: 0,
            unusable: 0,
            meant_a_call: false,
            last_nothing: None,
        }
    }

    /// Takes a reply in.
    pub fn observe(&mut self, step: &Step) -> Advice {
        self.idle = self.idle.saturating_add(1);
        let repeats =
            !step.deeds.is_empty() && step.deeds.iter().all(|deed| self.latest == Some((deed.call, deed.answer)));
        if !repeats {
            self.reach(step.files);
        }
        self.states.insert(step.files);
        if let Some(nothing) = step.nothing {
            return self.nothing(nothing);
        }
        (self.unusable, self.meant_a_call, self.last_nothing) = (0, false, None);
        let mut habit = None;
        for deed in &step.deeds {
            habit = self.deed(*deed).or(habit);
        }
        if habit.is_none() && self.idle >= PATIENCE {
            self.idle = 0;
            habit = Some(if self.only_looked { Habit::OnlyLooking } else { Habit::NoChange });
        }
        habit.map_or(Advice::GoOn, |habit| self.climb(habit))
    }

    /// Takes a state of the files in, which is progress if it was never there before.
    pub fn reach(&mut self, files: u64) {
        if self.states.insert(files) {
            self.rung = Rung::Foot;
            self.forget();
        }
    }

    fn deed(&mut self, deed: Deed) -> Option<Habit> {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back((deed.call, deed.answer));
        self.latest = Some((deed.call, deed.answer));
        self.only_looked &= matches!(deed.kind, Kind::Looks | Kind::Talks);
        let circle = self.circle();
        match deed.kind {
            Kind::RunsForEver => {
                self.endless += 1;
                if self.endless >= ENDLESS {
                    return Some(Habit::EndlessCommands);
                }
            }
            Kind::DoneForNothing => {
                self.done_for_nothing += 1;
                // Its answer said so, which is the nudge.
                let was_told = self.done_for_nothing > 1 || self.rung == Rung::BegunAgain;
                if self.rung == Rung::Foot {
                    self.rung = Rung::Nudged;
                }
                if was_told {
                    return Some(Habit::DoneWithoutChange);
                }
            }
            Kind::Looks | Kind::Talks | Kind::Edits | Kind::Runs => {}
        }
        circle
    }

    fn circle(&mut self) -> Option<Habit> {
        let newest: Vec<(u64, u64)> = self.last.iter().rev().copied().collect();
        let comes_again = |length: usize, entries: usize| {
            newest.len() >= entries
                && newest[..entries].iter().zip(&newest[length..entries]).all(|(left, right)| left == right)
        };
        let habit = if comes_again(1, SAME) {
            Habit::SameCall
        } else if (2..=LONGEST_TURN).any(|length| comes_again(length, 2 * length)) {
            Habit::CallsInTurns
        } else {
            return None;
        };
        self.last.clear();
        Some(habit)
    }

    fn nothing(&mut self, nothing: Nothing) -> Advice {
        let is_same = self.last_nothing.replace(nothing.reply) == Some(nothing.reply);
        self.unusable += 1;
        self.meant_a_call |= nothing.means_a_call;
        if self.unusable < UNUSABLE && !is_same {
            return Advice::GoOn;
        }
        let habit = match (is_same, self.meant_a_call) {
            (true, _) => Habit::SameAnswer,
            (false, true) => Habit::Unreadable,
            (false, false) => Habit::NoAction,
        };
        match self.other_protocols.checked_sub(1) {
            Some(left) => {
                self.other_protocols = left;
                self.forget();
                Advice::BeginAgain(habit)
            }
            None => Advice::End(habit),
        }
    }

    fn climb(&mut self, habit: Habit) -> Advice {
        match (self.rung, self.fresh_starts) {
            (Rung::Foot, _) => {
                self.rung = Rung::Nudged;
                Advice::Nudge(habit)
            }
            (Rung::Nudged, 1..) => {
                self.rung = Rung::BegunAgain;
                self.fresh_starts -= 1;
                self.forget();
                Advice::BeginAgain(habit)
            }
            (Rung::Nudged, 0) | (Rung::BegunAgain, _) => Advice::End(habit),
        }
    }

    /// What was counted since the last progress or fresh start.
    fn forget(&mut self) {
        self.last.clear();
        (self.idle, self.only_looked, self.endless, self.done_for_nothing) = (0, true, 0, 0);
        (self.unusable, self.meant_a_call, self.last_nothing) = (0, false, None);
    }
}
