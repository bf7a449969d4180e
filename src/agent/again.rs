//! Beginning a conversation again: with a summary of what was done, and where the way of speaking failed, in another
//! protocol. The files stay as they are.

use minijinja::context;

use super::context::digest;
use super::history::History;
use super::opening::{self, Beginning, Opening};
use super::prompt::quoted;
use super::repair::Repairing;
use super::whole_file::WholeFile;
use super::{Agent, AgentError, MOST_COMPARED_FILES};
use crate::model::Message;
use crate::outcome::Habit;

/// The most paths of changed files that a summary names.
const MOST_PATHS: usize = 20;

impl Agent<'_> {
    /// Throws the conversation away and begins a new one.
    pub(super) fn begin_again(&mut self, habit: Habit) -> Result<(), AgentError> {
        let other = habit.is_of_form().then(|| self.protocol.instead(self.model.card())).flatten();
        self.protocol = other.unwrap_or(self.protocol);
        let how = other.map(|protocol| format!(", in the protocol {}", protocol.name())).unwrap_or_default();
        self.events.note(format!("the model {}: it begins again with a summary{how}", habit.describe()));
        let walk = self.files.walk(None, MOST_COMPARED_FILES)?;
        let (beginning, window) = (Beginning::Task, self.window());
        let mut opening =
            opening::begin(&self.files, &walk, &self.brief, self.model, self.protocol, beginning, window)?;
        let messages = self.history.messages();
        let summary = context! {
            habit => habit.name(),
            plan => self.plan.as_deref().unwrap_or_default(),
            done => digest(messages, messages.len()),
            written => self.written.iter().take(MOST_PATHS).cloned().collect::<Vec<_>>(),
            feedback => self.feedback.as_deref().map(|feedback| quoted("output", feedback)),
        };
        if let Some(Message::User { content }) = opening.messages.last_mut() {
            *content = opening.prompts.again(content, &self.brief, summary)?;
        }
        self.take_up(opening);
        Ok(())
    }

    /// Begins with less, after a server has refused the very first request as too long and its window is known better.
    pub(super) fn open_smaller(&mut self) -> Result<(), AgentError> {
        let walk = self.files.walk(None, MOST_COMPARED_FILES)?;
        let beginning = if self.repairing.is_some() { Beginning::Repair } else { Beginning::Task };
        let window = self.window();
        let opening = opening::begin(&self.files, &walk, &self.brief, self.model, self.protocol, beginning, window)?;
        self.events.note("the server refused the first request as too long: it is made shorter");
        self.take_up(opening);
        Ok(())
    }

    /// Goes on with another beginning; what was read the model does not know any more.
    pub(super) fn take_up(&mut self, opening: Opening) {
        self.history = History::begin(self.events.clone(), opening.most_observed, opening.messages);
        self.spent.estimator.forget();
        (self.prompts, self.tools, self.schema) = (opening.prompts, opening.tools, opening.schema);
        self.tool_weight = opening.tool_weight;
        self.profile = opening.profile;
        self.seen.clone_from(&self.written);
        self.seen.extend(opening.whole_file.iter().flat_map(WholeFile::shown_paths));
        self.seen.extend(opening.repairing.iter().flat_map(Repairing::paths).cloned());
        (self.whole_file, self.repairing) = (opening.whole_file, opening.repairing);
    }
}
