//! Beginning a conversation again: with a summary of what was done, and where the way of speaking failed, in another
//! protocol. The files stay as they are.

use minijinja::context;

use super::{Agent, AgentError, MOST_COMPARED_FILES, opening};
use crate::model::Message;
use crate::outcome::Habit;

/// The most paths of changed files that a summary names.
const MOST_PATHS: usize = 20;

impl Agent<'_> {
    /// Throws the conversation away and begins a new one.
    pub(super) fn begin_again(&mut self, habit: Habit) -> Result<(), AgentError> {
        let other = habit.is_of_form().then(|| self.protocol.instead(self.model.card())).flatten();
        let mut note = format!("the model {}: it begins again with a summary", habit.describe());
        if let Some(protocol) = other {
            self.protocol = protocol;
            self.prompts.speak(protocol);
            note = format!("{note}, in the protocol {}", protocol.name());
        }
        self.events.note(note);
        let walk = self.files.walk(None, MOST_COMPARED_FILES)?;
        let mut opening =
            opening::begin(&self.prompts, &self.files, &walk, &self.brief, self.model, self.protocol)?;
        let written: Vec<&String> = self.written.iter().take(MOST_PATHS).collect();
        let summary = self.prompts.again(context! {
            habit => habit.name(),
            plan => self.plan.as_deref().unwrap_or_default(),
            done => &self.done,
            written => written,
            feedback => self.feedback.as_deref().unwrap_or_default(),
        })?;
        if let Some(Message::User { content }) = opening.messages.last_mut() {
            *content = format!("{content}\n\n{summary}");
        }
        self.history.clear();
        self.open(opening);
        Ok(())
    }
}
