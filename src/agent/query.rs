//! One request to the model, within all budgets.

use std::time::Instant;

use super::act::milliseconds_since;
use super::budget::context_full;
use super::whole_file::WholeFile;
use super::{Agent, AgentError};
use crate::event::Event;
use crate::model::{ModelError, Reply, Request};
use crate::outcome::{Budget, StopReason};

impl Agent<'_> {
    /// One request within all budgets. The inner error ends the run.
    pub(super) async fn query(&mut self) -> Result<Result<Reply, StopReason>, AgentError> {
        let window = self.model.card().window;
        let bytes = self.history.bytes() + self.tool_bytes;
        let most_tokens = self.whole_file.as_ref().map_or(u32::MAX, WholeFile::answer_tokens);
        let max_tokens = match self.spent.clip_answer(&self.budgets, window, bytes) {
            Ok(max_tokens) => max_tokens.min(most_tokens),
            Err(stop) => return Ok(Err(stop)),
        };
        let whole_file = self.whole_file.as_ref();
        let is_enough = |content: &str| whole_file.is_some_and(|whole_file| whole_file.is_enough(content));
        let request = Request {
            tools: &self.tools,
            temperature: self.budgets.temperature.or(whole_file.map(WholeFile::temperature)),
            enough: whole_file.is_some().then_some(&is_enough),
            ..Request::new(self.history.messages(), max_tokens)
        };
        let begun = Instant::now();
        let completed = tokio::time::timeout_at(self.budgets.deadline, self.model.complete(&request)).await;
        let reply = match completed {
            Err(_) => return Ok(Err(StopReason::BudgetRanOut { budget: Budget::Time })),
            Ok(Err(ModelError::ContextOverflow(_))) if self.spent.steps > 0 => return Ok(Err(context_full(window))),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(reply)) => reply,
        };
        self.answered_by.insert(reply.model.clone().unwrap_or_else(|| self.model.card().name.clone()));
        let answer_bytes = reply.content.len()
            + reply.reasoning.len()
            + reply.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>();
        if let Some(warning) = self.spent.count(&self.budgets.purse, reply.usage, bytes, answer_bytes) {
            self.events.note(warning);
        }
        if let Ok(value) = serde_json::to_value(&reply) {
            let milliseconds = milliseconds_since(begun);
            self.events.emit(Event::Reply { step: self.spent.steps, reply: value, usage: reply.usage, milliseconds });
        }
        Ok(Ok(reply))
    }
}
