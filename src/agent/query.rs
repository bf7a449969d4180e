//! One request to the model, within all budgets and the window.

use std::time::Instant;

use super::budget::context_full;
use super::context;
use super::perform::milliseconds_since;
use super::purse::Reserved;
use super::repair::Repairing;
use super::tokens::weigh;
use super::whole_file::WholeFile;
use super::{Agent, AgentError};
use crate::event::Event;
use crate::model::{Message, ModelError, Reply, Request};
use crate::outcome::{Budget, StopReason};

/// How often one request is made shorter because the server refused it as too long.
const MOST_REFUSALS: u32 = 3;
/// The longest summary, in tokens.
const MOST_SUMMARY_TOKENS: u32 = 700;
/// The temperature of a model that calls tools.
const STEADY: f32 = 0.1;
/// A shorter one says nothing.
const SHORTEST_SUMMARY_BYTES: usize = 40;
const MOST_SUMMARY_BYTES: usize = 4_000;

/// A reply, when it was asked for, and what was set aside for it.
pub(super) struct Answered {
    reply: Reply,
    begun: Instant,
    reserved: Reserved,
}

impl Agent<'_> {
    /// One request within all budgets. The inner error ends the run.
    pub(super) async fn query(&mut self) -> Result<Result<Reply, StopReason>, AgentError> {
        for refusals in 0.. {
            if let Err(stop) = self.make_room().await? {
                return Ok(Err(stop));
            }
            let window = self.window();
            let weight = self.history.weight() + self.tool_weight;
            let (repairing, whole_file) = (self.repairing.as_ref(), self.whole_file.as_ref());
            let most_tokens = repairing
                .map(Repairing::answer_tokens)
                .or(whole_file.map(WholeFile::answer_tokens))
                .map_or(u32::MAX, |tokens| tokens.saturating_add(self.thoughts));
            let reserved = match self.spent.reserve(&self.budgets, window, weight, most_tokens) {
                Ok(reserved) => reserved,
                Err(stop) => return Ok(Err(stop)),
            };
            let max_tokens = reserved.answer_tokens();
            let protocol = self.protocol;
            let is_enough = |content: &str| match (repairing, whole_file) {
                (Some(repairing), _) => repairing.is_enough(content),
                (None, Some(whole_file)) => whole_file.is_enough(content),
                (None, None) => protocol.is_enough(content),
            };
            let request = Request {
                tools: &self.tools,
                temperature: self.budgets.temperature(self.own_temperature()),
                seed: self.budgets.seed(),
                attempt: self.budgets.attempt,
                schema: self.schema.as_ref(),
                enough: Some(&is_enough),
                ..Request::new(self.history.messages(), max_tokens)
            };
            match self.complete(&request, reserved).await {
                Ok(Ok(reply)) => return Ok(Ok(self.count(reply, weight))),
                Ok(Err(ModelError::ContextOverflow(reason))) => {
                    if refusals >= MOST_REFUSALS {
                        return Ok(Err(context_full(self.model.card().window)));
                    }
                    self.spent.refuse(weight, max_tokens, &reason);
                    if self.spent.steps == 0 {
                        self.open_smaller()?;
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(stop) => return Ok(Err(stop)),
            }
        }
        Ok(Err(context_full(self.window())))
    }

    pub(super) fn window(&self) -> Option<u64> {
        self.spent.window(self.model.card().window)
    }

    /// The temperature where the operator wants none: calls are to be right at the first try, and whole files are tried
    /// again. A model that thinks goes round in circles when it is cold, so it has what its server gives it.
    fn own_temperature(&self) -> Option<f32> {
        match (&self.repairing, &self.whole_file) {
            (Some(repairing), _) => Some(repairing.temperature()),
            (None, Some(whole_file)) => Some(whole_file.temperature()),
            (None, None) => (self.thoughts == 0).then_some(STEADY),
        }
    }

    /// Sends one request and waits for its answer, until the run's time is over.
    pub(super) async fn complete(
        &self,
        request: &Request<'_>,
        reserved: Reserved,
    ) -> Result<Result<Answered, ModelError>, StopReason> {
        let begun = Instant::now();
        let completed = tokio::time::timeout_at(self.budgets.deadline, self.model.complete(request)).await;
        match completed {
            Err(_) => Err(StopReason::BudgetRanOut { budget: Budget::Time }),
            Ok(Ok(reply)) => Ok(Ok(Answered { reply, begun, reserved })),
            Ok(Err(error)) => {
                reserved.release();
                Ok(Err(error))
            }
        }
    }

    /// Takes a reply into the books.
    pub(super) fn count(&mut self, Answered { reply, begun, reserved }: Answered, weight: u64) -> Reply {
        self.answered_by.insert(reply.model.clone().unwrap_or_else(|| self.model.card().name.clone()));
        let answer = weigh(&reply.content)
            + weigh(&reply.reasoning)
            + reply.calls.iter().map(|call| weigh(&call.name) + weigh(&call.arguments)).sum::<u64>();
        if let Some(warning) = self.spent.count(reserved, reply.usage, weight, answer) {
            self.events.note(warning);
        }
        if let Ok(value) = serde_json::to_value(&reply) {
            let milliseconds = milliseconds_since(begun);
            self.events.emit(Event::Reply { step: self.spent.steps, reply: value, usage: reply.usage, milliseconds });
        }
        reply
    }

    /// Shortens the history where the next request would not fit into the window. The inner error ends the run.
    async fn make_room(&mut self) -> Result<Result<(), StopReason>, AgentError> {
        let Some(window) = self.window() else { return Ok(Ok(())) };
        let room = self.spent.room(&self.budgets, window).saturating_sub(self.tool_weight);
        let Some(plan) = context::plan(&self.history, room) else { return Ok(Ok(())) };
        let summary = match plan.summarised {
            Some(until) => match self.summary_until(until).await? {
                Ok(summary) => Some(summary),
                Err(stop) => return Ok(Err(stop)),
            },
            None => None,
        };
        let before = self.history.weight();
        context::make_room(&mut self.history, &plan, summary, room);
        if self.history.weight() == before {
            return Ok(Ok(()));
        }
        self.spent.estimator.forget();
        let (before, after) = (self.spent.estimator.tokens(before), self.spent.estimator.tokens(self.history.weight()));
        let how = match plan.summarised {
            Some(_) => "older steps were summarised",
            None => "old results were left out",
        };
        self.events.note(format!("the conversation was cut from about {before} tokens to {after} tokens: {how}"));
        Ok(Ok(()))
    }

    /// The first message with what was done up to `until`, and that alone.
    async fn summary_until(&mut self, until: usize) -> Result<Result<(String, String), StopReason>, AgentError> {
        let mut done = context::digest(self.history.messages(), until);
        if self.profile.summarises() && self.whole_file.is_none() && self.repairing.is_none() {
            match self.ask_for_summary().await? {
                Ok(Some(said)) => done = said,
                // Whatever the model said instead, the calls tell what was done.
                Ok(None) => {}
                Err(stop) => return Ok(Err(stop)),
            }
        }
        if let Some(before) = self.history.done() {
            done = format!("{before}\n{done}");
        }
        let done = super::text::keep_tail(done.trim(), MOST_SUMMARY_BYTES);
        let files: Vec<&str> = self.written.iter().map(String::as_str).collect();
        let text = self.prompts.summarised(self.history.task(), &self.brief, self.plan.as_deref(), &files, &done)?;
        Ok(Ok((text, done)))
    }

    /// Asks the model itself for a summary: one bounded request that the whole history is a prefix of.
    async fn ask_for_summary(&mut self) -> Result<Result<Option<String>, StopReason>, AgentError> {
        let window = self.window();
        let question = self.prompts.summarise()?;
        let weight = self.history.weight() + self.tool_weight + weigh(&question);
        let most = MOST_SUMMARY_TOKENS.saturating_add(self.thoughts);
        let Ok(reserved) = self.spent.reserve(&self.budgets, window, weight, most) else {
            return Ok(Ok(None));
        };
        let mut messages = self.history.messages().to_vec();
        match messages.last_mut() {
            // Some templates refuse two messages of the user in a row.
            Some(Message::User { content }) => *content = format!("{content}\n\n{question}"),
            Some(Message::System { .. } | Message::Assistant { .. } | Message::Tool { .. }) | None => {
                messages.push(Message::User { content: question });
            }
        }
        let request = Request {
            tools: &self.tools,
            temperature: self.budgets.temperature(self.own_temperature()),
            seed: self.budgets.seed(),
            attempt: self.budgets.attempt,
            ..Request::new(&messages, reserved.answer_tokens())
        };
        match self.complete(&request, reserved).await {
            Err(stop) => Ok(Err(stop)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no summary from the model");
                Ok(Ok(None))
            }
            Ok(Ok(answer)) => {
                let reply = self.count(answer, weight);
                let said = super::protocol::without_thinking(&reply.content).trim();
                let is_summary = reply.calls.is_empty() && said.len() >= SHORTEST_SUMMARY_BYTES;
                Ok(Ok(is_summary.then(|| said.to_owned())))
            }
        }
    }
}
