//! The conversation, append-only until it begins anew: it is exactly what is sent, so a server's prefix cache fits.

use crate::event::{Event, Events};
use crate::model::{Call, Message};

/// The messages so far.
#[derive(Debug)]
pub(super) struct History {
    messages: Vec<Message>,
    bytes: usize,
    events: Events,
}

impl History {
    pub(super) fn new(events: Events) -> Self {
        Self { messages: Vec::new(), bytes: 0, events }
    }

    /// Appends a message and records it.
    pub(super) fn push(&mut self, message: Message) {
        self.bytes += length(&message);
        // A message always serialises: it is texts only.
        if let Ok(value) = serde_json::to_value(&message) {
            self.events.emit(Event::Message { message: value });
        }
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
        self.bytes = self.messages.iter().map(length).sum();
    }

    /// Begins a new conversation with nothing.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The length of all texts together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The bytes of a message's texts, and a few for its frame.
fn length(message: &Message) -> usize {
    let frame = 16;
    frame
        + match message {
            Message::System { content } | Message::User { content } => content.len(),
            Message::Assistant { content, calls } => {
                content.len() + calls.iter().map(|call| call.name.len() + call.arguments.len() + frame).sum::<usize>()
            }
            Message::Tool { call_id, content } => call_id.len() + content.len(),
        }
}
