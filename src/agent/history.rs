//! The conversation, append-only until room has to be made or it begins anew: it is exactly what is sent, so a server's
//! prefix cache fits.

use std::ops::Range;

use super::context::shorten;
use super::tokens::weigh;
use crate::event::{Event, Events};
use crate::model::{Call, Message};

/// What the frame of a message weighs.
const FRAME: u64 = 5;

/// The messages so far.
#[derive(Debug)]
pub(super) struct History {
    messages: Vec<Message>,
    /// Of each message.
    weights: Vec<u64>,
    /// The most that an observation may weigh; it keeps its head and tail.
    most_observed: Option<u64>,
    summary: Option<Summary>,
    events: Events,
}

/// What became of the turns that are gone.
#[derive(Debug)]
struct Summary {
    /// The first message as it was before any summary.
    task: String,
    done: String,
}

impl History {
    pub(super) fn begin(events: Events, most_observed: Option<u64>, messages: Vec<Message>) -> Self {
        let mut history = Self { messages: Vec::new(), weights: Vec::new(), most_observed, summary: None, events };
        messages.into_iter().for_each(|message| history.push(message));
        history
    }

    /// Appends a message and records it. An observation that is too long for the window is cut to size before, so that
    /// it never has to be changed later.
    pub(super) fn push(&mut self, message: Message) {
        let most = self.most_observed.filter(|_| self.messages.len() >= 2);
        let message = match (message, most) {
            (Message::Tool { call_id, content }, Some(most)) => {
                Message::Tool { call_id, content: shorten(&content, most) }
            }
            (Message::User { content }, Some(most)) => Message::User { content: shorten(&content, most) },
            (message, _) => message,
        };
        self.record(&message);
        self.weights.push(weight(&message));
        self.messages.push(message);
    }

    /// Appends what the model said. Arguments that are no JSON object are wrapped into one, since many servers parse
    /// the arguments of past calls and refuse the whole request otherwise.
    pub(super) fn push_reply(&mut self, content: String, calls: &[Call]) {
        let calls = calls
            .iter()
            .map(|call| match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&call.arguments) {
                Ok(_) => call.clone(),
                Err(_) => {
                    Call { arguments: serde_json::json!({ "unreadable": call.arguments }).to_string(), ..call.clone() }
                }
            })
            .collect();
        self.push(Message::Assistant { content, calls });
    }

    /// Begins a new conversation: only the first message stays.
    pub(super) fn restart(&mut self) {
        self.messages.truncate(1);
        self.weights.truncate(1);
        self.summary = None;
    }

    /// Another text in place of one message's.
    pub(super) fn replace(&mut self, at: usize, text: String) {
        let Some(message) = self.messages.get_mut(at) else { return };
        match message {
            Message::System { content }
            | Message::User { content }
            | Message::Assistant { content, .. }
            | Message::Tool { content, .. } => *content = text,
        }
        self.weights[at] = weight(message);
    }

    /// The first message of the user as it was in the beginning.
    pub(super) fn task(&self) -> &str {
        match (&self.summary, self.messages.get(1)) {
            (Some(summary), _) => &summary.task,
            (None, Some(Message::User { content } | Message::System { content })) => content,
            (None, Some(Message::Assistant { .. } | Message::Tool { .. }) | None) => "",
        }
    }

    /// What was done in the turns that are gone.
    pub(super) fn done(&self) -> Option<&str> {
        self.summary.as_ref().map(|summary| summary.done.as_str())
    }

    /// Takes messages away, and puts `first` into the one before them: the task, with what was `done` so far.
    pub(super) fn summarise(&mut self, gone: Range<usize>, first: String, done: String) {
        let Some(before) = gone.start.checked_sub(1) else { return };
        self.summary = Some(Summary { task: self.task().to_owned(), done });
        self.replace(before, first);
        if let Some(message) = self.messages.get(before).cloned() {
            self.record(&message);
        }
        self.messages.drain(gone.clone());
        self.weights.drain(gone);
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(super) fn weights(&self) -> &[u64] {
        &self.weights
    }

    /// Of all messages together.
    pub(super) fn weight(&self) -> u64 {
        self.weights.iter().sum()
    }

    fn record(&self, message: &Message) {
        // A message always serialises: it is texts only.
        if let Ok(value) = serde_json::to_value(message) {
            self.events.emit(Event::Message { message: value });
        }
    }
}

/// What a message weighs, with its frame.
fn weight(message: &Message) -> u64 {
    FRAME
        + match message {
            Message::System { content } | Message::User { content } => weigh(content),
            Message::Assistant { content, calls } => {
                weigh(content)
                    + calls.iter().map(|call| weigh(&call.name) + weigh(&call.arguments) + 2 * FRAME).sum::<u64>()
            }
            Message::Tool { call_id, content } => weigh(call_id) + weigh(content),
        }
}
