//! Keeping the conversation within the model's window. Pure.
//!
//! Between two requests the history only grows, so that the server finds the last request in its cache as a prefix of
//! the next one. When there is no more room, much of it goes at once, so that this happens rarely:
//!
//! 1. old observations, the oldest and biggest first, become one line that says what they were and how to get them again;
//! 2. if that is not enough, the older turns go, and a summary of them stands below the task: written by the model, or
//!    made from the calls ([`digest`]);
//! 3. an observation that is too big by itself keeps its head and tail.
//!
//! The system prompt and the task stay as they are, and the plan is part of each summary.

use super::history::History;
use super::text::clip;
use super::tokens::weigh;
use crate::model::{Call, Message};

/// What is left of the room after it was made, in hundredths: the rest is for what comes.
const TARGET: u64 = 50;
/// Above this, in hundredths of the room, leaving observations out has not been enough.
const TOO_MUCH: u64 = 70;
/// Observations at the end of the history that stay.
const RECENT: usize = 4;
/// An observation with less weight is not worth a step.
const SMALLEST: u64 = 90;
/// What one line in place of an observation weighs, about.
const LINE: u64 = 40;
/// The first two messages: the system prompt and the task.
const PINNED: usize = 2;
/// The room for a summary, in hundredths.
const SUMMARY: u64 = 12;
/// The weight that the head and tail of an observation keep in the last resort.
const SHORT: u64 = 300;
/// The most lines of a digest; the oldest ones go first.
const MOST_DIGEST_LINES: usize = 60;

/// How to make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The observations that become one line.
    pub(super) elided: Vec<usize>,
    /// The messages from the third to before this one go, and are summarised.
    pub(super) summarised: Option<usize>,
}

/// What is to be done for the history to weigh less than `room`; `None`: nothing.
pub(super) fn plan(history: &History, room: u64) -> Option<Plan> {
    let messages = history.messages();
    let mut weights = history.weights().to_vec();
    let mut total: u64 = weights.iter().sum();
    if total <= room {
        return None;
    }
    let target = room * TARGET / 100;
    let older = messages.len().saturating_sub(RECENT);
    let mut candidates: Vec<usize> =
        (PINNED..older).filter(|at| is_observation(&messages[*at]) && weights[*at] > SMALLEST).collect();
    let end = messages.len() as u64;
    candidates.sort_by_key(|at| std::cmp::Reverse(weights[*at] * (end - *at as u64)));
    let mut elided = Vec::new();
    for at in candidates {
        if total <= target {
            break;
        }
        total -= weights[at] - LINE;
        weights[at] = LINE;
        elided.push(at);
    }
    elided.sort_unstable();
    if total <= room * TOO_MUCH / 100 {
        return Some(Plan { elided, summarised: None });
    }
    let cut = cut(messages, &weights, target.saturating_sub(room * SUMMARY / 100));
    if let Some(cut) = cut {
        elided.retain(|at| *at >= cut);
    }
    Some(Plan { elided, summarised: cut })
}

/// Where the turns begin that are kept: as many of the last ones as weigh no more than `most`, and at least one.
fn cut(messages: &[Message], weights: &[u64], most: u64) -> Option<usize> {
    let pinned: u64 = weights.iter().take(PINNED).sum();
    let mut kept = pinned;
    let mut cut = None;
    for at in (PINNED + 1..messages.len()).rev() {
        kept += weights[at];
        if matches!(messages[at], Message::Assistant { .. }) {
            if cut.is_some() && kept > most {
                break;
            }
            cut = Some(at);
        }
    }
    cut
}

/// Carries a plan out. `summary`: the first message with what was done so far, and that alone.
pub(super) fn make_room(history: &mut History, plan: &Plan, summary: Option<(String, String)>, room: u64) {
    for at in &plan.elided {
        let line = instead_of(history.messages(), *at);
        history.replace(*at, line);
    }
    if let (Some(cut), Some((first, done))) = (plan.summarised, summary) {
        history.summarise(PINNED..cut, first, done);
    }
    // What is still too much lies in the last turns.
    for at in PINNED..history.messages().len() {
        let weight: u64 = history.weights().iter().sum();
        if weight <= room {
            break;
        }
        if is_observation(&history.messages()[at]) && history.weights()[at] > 2 * SHORT {
            let shorter = shorten(content(&history.messages()[at]), SHORT);
            history.replace(at, shorter);
        }
    }
}

/// What the model gets to see of a call's answer, or of a message between.
fn is_observation(message: &Message) -> bool {
    match message {
        Message::Tool { .. } | Message::User { .. } => true,
        Message::System { .. } | Message::Assistant { .. } => false,
    }
}

fn content(message: &Message) -> &str {
    match message {
        Message::System { content }
        | Message::User { content }
        | Message::Assistant { content, .. }
        | Message::Tool { content, .. } => content,
    }
}

/// The line that stands for an observation.
fn instead_of(messages: &[Message], at: usize) -> String {
    let text = content(&messages[at]);
    let lines = text.lines().count();
    let what = match &messages[at] {
        Message::Tool { call_id, .. } => match call_of(messages, at, call_id) {
            Some(call) => format!("What {} answered", described(call)),
            None => "An answer".into(),
        },
        Message::User { .. } | Message::System { .. } | Message::Assistant { .. } => {
            // An answer to a call that was written as text begins with its name.
            let first = text.lines().next().unwrap_or_default().trim_end_matches(':');
            match first.strip_prefix("Result of ") {
                Some(name) => format!("Result of {}: what it answered", clip(name, 60)),
                None => "A message".into(),
            }
        }
    };
    format!("[{what} ({lines} lines) is left out here to save room. If it is needed again, make the call again.]")
}

fn call_of<'a>(messages: &'a [Message], at: usize, id: &str) -> Option<&'a Call> {
    messages[..at].iter().rev().find_map(|message| match message {
        Message::Assistant { calls, .. } => calls.iter().find(|call| call.id == id),
        Message::System { .. } | Message::User { .. } | Message::Tool { .. } => None,
    })
}

/// A call in words: its tool and what it was about. No call that could be copied.
fn described(call: &Call) -> String {
    let arguments: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&call.arguments).unwrap_or_default();
    let about = ["path", "command", "text", "pattern"].iter().find_map(|key| arguments.get(*key)?.as_str());
    match about {
        Some(about) => format!("{} of `{}`", call.name, clip(&about.replace('\n', " "), 80)),
        None => call.name.clone(),
    }
}

/// What was done in the first turns, a line for each call: for a summary without a model.
pub(super) fn digest(messages: &[Message], until: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let first = PINNED.min(until);
    for (at, message) in messages.iter().enumerate().take(until).skip(first) {
        let line = match message {
            Message::Tool { call_id, content } => {
                call_of(messages, at, call_id).map(|call| format!("- {}: {}", described(call), ending(content)))
            }
            Message::User { content } => content
                .strip_prefix("Result of ")
                .and_then(|rest| rest.split_once(":\n"))
                .map(|(name, rest)| format!("- {}: {}", clip(name, 60), ending(rest))),
            Message::System { .. } | Message::Assistant { .. } => None,
        };
        let Some(line) = line else { continue };
        match lines.last() {
            Some(last) if *last == line => {}
            Some(_) | None => lines.push(line),
        }
    }
    let start = lines.len().saturating_sub(MOST_DIGEST_LINES);
    lines.split_off(start).join("\n")
}

/// The line of an answer that says how it ended: the first one.
fn ending(answer: &str) -> String {
    clip(answer.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim(), 120)
}

/// The head and tail of a text within about this weight, by whole lines where there are such.
pub(super) fn shorten(text: &str, most: u64) -> String {
    let weight = weigh(text);
    if weight <= most {
        return text.to_owned();
    }
    let lines: Vec<&str> = text.lines().collect();
    let (mut head, mut tail) = (0, 0);
    let mut left = most.saturating_sub(LINE);
    // In turns, so that a long line at one end does not take the other's part.
    while head + tail < lines.len() {
        let from_head = head <= tail;
        let line = if from_head { lines[head] } else { lines[lines.len() - 1 - tail] };
        let Some(rest) = left.checked_sub(weigh(line) + 1) else { break };
        left = rest;
        if from_head { head += 1 } else { tail += 1 }
    }
    if head + tail < 2 {
        // Lines without an end: by bytes, which hold a third of a token at least.
        let bytes = usize::try_from(most * text.len() as u64 / weight).unwrap_or(usize::MAX);
        return super::text::elide(text, bytes);
    }
    let left_out = lines.len() - head - tail;
    format!(
        "{}\n[... {left_out} lines left out: ask for a part of it, or search in it ...]\n{}",
        lines[..head].join("\n"),
        lines[lines.len() - tail..].join("\n")
    )
}
