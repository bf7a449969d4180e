//! What a run may spend, what it has spent, and how much the next answer may have. Pure but for the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::Purse;
use crate::outcome::{Budget, CostLimit, StopReason, Usage};

/// The limits of one run.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Requests to the model. Default of the command line: 50.
    pub steps: u32,
    /// Prompt and completion tokens of all requests together.
    pub tokens: u64,
    /// What they may cost; `None`: no limit.
    pub cost: Option<CostLimit>,
    /// When the run ends, whatever it does; a request under way is dropped.
    pub deadline: Instant,
    /// The longest that one command of the model may take.
    pub command: Duration,
    /// The longest answer, in tokens.
    pub answer_tokens: u32,
    /// `None`: the server's default.
    pub temperature: Option<f32>,
    /// What is spent of them; shared by all attempts at the task.
    pub purse: Purse,
}

/// An answer shorter than this is of no use, so no request is made for it.
const SHORTEST_ANSWER: u64 = 128;

/// How far a run is.
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub(super) steps: u32,
    /// As the server reported it; unknown is not zero.
    pub(super) usage: Usage,
    /// The last request whose prompt the server counted: bytes and tokens.
    measured: Option<(usize, u64)>,
    truncation_told: bool,
}

impl Spent {
    /// How many tokens a prompt of `bytes` has: the last one's count, and the new bytes at three and a half each.
    pub(super) fn estimate(&self, bytes: usize) -> u64 {
        match self.measured {
            Some((then, tokens)) => tokens + tokens_of(bytes.saturating_sub(then)),
            None => tokens_of(bytes),
        }
    }

    /// The bound for the next answer, or why there is no next answer.
    ///
    /// A context window that is full ends the run as [`StopReason::Stuck`] with that reason: it is no budget of the
    /// operator's, and the remedy (a larger window) is another one.
    pub(super) fn clip_answer(&self, budgets: &Budgets, window: Option<u64>, bytes: usize) -> Result<u32, StopReason> {
        let out_of = |budget| StopReason::BudgetRanOut { budget };
        if Instant::now() >= budgets.deadline {
            return Err(out_of(Budget::Time));
        }
        let spent = budgets.purse.look();
        if spent.steps >= budgets.steps {
            return Err(out_of(Budget::Steps));
        }
        let prompt = self.estimate(bytes);
        let left = budgets.tokens.saturating_sub(spent.read + spent.written).saturating_sub(prompt);
        if left < SHORTEST_ANSWER {
            return Err(out_of(Budget::Tokens));
        }
        let paid = budgets.cost.map_or(u64::MAX, |cost| cost.answer_tokens_left(spent.read + prompt, spent.written));
        if paid < SHORTEST_ANSWER {
            return Err(out_of(Budget::Cost));
        }
        let room = match window {
            Some(window) => window.saturating_sub(prompt + prompt / 20),
            None => u64::MAX,
        };
        if room < SHORTEST_ANSWER {
            return Err(context_full(window));
        }
        let answer = u64::from(budgets.answer_tokens).min(left).min(paid).min(room);
        Ok(u32::try_from(answer).unwrap_or(u32::MAX))
    }

    /// Counts a request. Answers a warning, once, if the server obviously read less than it was sent.
    pub(super) fn count(
        &mut self,
        purse: &Purse,
        usage: Option<Usage>,
        prompt_bytes: usize,
        answer_bytes: usize,
    ) -> Option<String> {
        let estimate = self.estimate(prompt_bytes);
        let usage = usage.unwrap_or_default();
        self.steps += 1;
        self.usage.add(usage);
        let written = usage.completion_tokens.unwrap_or_else(|| tokens_of(answer_bytes));
        purse.pay(usage, usage.prompt_tokens.unwrap_or(estimate), written);
        let read = usage.prompt_tokens.filter(|tokens| *tokens > 0 && !usage.estimated)?;
        let was_cut = self.looks_cut(read, prompt_bytes);
        if !was_cut {
            self.measured = Some((prompt_bytes, read));
            return None;
        }
        if self.truncation_told {
            return None;
        }
        self.truncation_told = true;
        Some(format!(
            "the model server read {read} tokens of a prompt of about {estimate}: it cuts the conversation. \
             Raise its context size (Ollama: OLLAMA_CONTEXT_LENGTH or num_ctx; llama.cpp: -c)"
        ))
    }

    /// A prompt that has fewer than a token for each 9 bytes was cut; and so was one that grew and yet has no more
    /// tokens than the one before.
    fn looks_cut(&self, read: u64, prompt_bytes: usize) -> bool {
        let far_too_few = prompt_bytes > 6_000 && read.saturating_mul(9) < prompt_bytes as u64;
        let did_not_grow =
            self.measured.is_some_and(|(then, tokens)| prompt_bytes > then + then / 50 + 1_000 && read <= tokens);
        far_too_few || did_not_grow
    }
}

/// Why a run ends whose conversation has no more room.
pub(super) fn context_full(window: Option<u64>) -> StopReason {
    let size = window.map(|window| format!(" of {window} tokens")).unwrap_or_default();
    StopReason::Stuck { reason: format!("the model's context window{size} is full; give the model a larger one") }
}

/// Three and a half bytes are a token, for code and English alike.
fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(2).div_ceil(7)
}
