//! What a run may spend, what it has spent, and how much the next answer may have. Pure but for the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::Purse;
use super::purse::{Reserved, Spendings};
use super::tokens::Estimator;
use crate::outcome::{Budget, CostLimit, Habit, StopReason, Usage};

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
    /// `None`: the server's default, or what the protocol begins with.
    pub temperature: Option<f32>,
    /// Which of several attempts at the task it is, from 1; `None`: the only one.
    pub attempt: Option<u32>,
    /// What is spent of them; shared by all attempts at the task.
    pub purse: Purse,
}

/// An answer shorter than this is of no use, so no request is made for it.
const SHORTEST_ANSWER: u64 = 128;
/// What may be a window among the numbers of a server's refusal.
const SMALLEST_WINDOW: u64 = 500;
const LARGEST_WINDOW: u64 = 20_000_000;

/// How much warmer each attempt is than the one before it.
const WARMER: f32 = 0.3;
/// What an attempt begins with that is to be warmer than the server's default, which nobody tells.
const USUAL_TEMPERATURE: f32 = 0.2;
const HIGHEST_TEMPERATURE: f32 = 1.2;

impl Budgets {
    /// The temperature of a request: the operator's, else the protocol's; the second attempt and later ones are warmer.
    pub(super) fn temperature(&self, of_protocol: Option<f32>) -> Option<f32> {
        let usual = self.temperature.or(of_protocol);
        match self.attempt {
            None | Some(0 | 1) => usual,
            Some(number) => {
                let warmer = usual.unwrap_or(USUAL_TEMPERATURE) + WARMER * (number - 1) as f32;
                Some((warmer.min(HIGHEST_TEMPERATURE) * 100.0).round() / 100.0)
            }
        }
    }

    /// Tells the attempts apart even where they ask the same; the first one is as it would be alone.
    pub(super) fn seed(&self) -> Option<u64> {
        self.attempt.filter(|number| *number > 1).map(u64::from)
    }
}

/// How far a run is.
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub(super) steps: u32,
    /// As the server reported it; unknown is not zero.
    pub(super) usage: Usage,
    pub(super) estimator: Estimator,
    truncation_told: bool,
    /// What a server without a known window has refused as too long, in tokens.
    refused: Option<u64>,
}

impl Spent {
    /// The window that is reckoned with: the model's, or what is known from a refusal.
    pub(super) fn window(&self, of_model: Option<u64>) -> Option<u64> {
        match (of_model, self.refused) {
            (Some(window), Some(refused)) => Some(window.min(refused)),
            (window, refused) => window.or(refused),
        }
    }

    /// The most that the conversation may weigh, so that a useful answer fits into the window beside it.
    pub(super) fn room(&self, budgets: &Budgets, window: u64) -> u64 {
        let answer = u64::from(budgets.answer_tokens).min(window / 4).max(SHORTEST_ANSWER);
        self.estimator.weight_within(window.saturating_sub(answer))
    }

    /// Takes in that the server refused a prompt of this weight with this answer as too long. Most say what their window
    /// is, and all that say it tell what was asked for, too: the second largest number is the window.
    pub(super) fn refuse(&mut self, weight: u64, answer: u32, reason: &str) {
        let numbers = reason.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok());
        let mut numbers: Vec<u64> =
            numbers.filter(|number| (SMALLEST_WINDOW..LARGEST_WINDOW).contains(number)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let told = numbers.len().checked_sub(2).map(|place| numbers[place]);
        let asked = self.estimator.prompt(weight) + u64::from(answer);
        let less = self.refused.unwrap_or(asked);
        self.refused = Some(told.filter(|window| *window < less).unwrap_or(less - less / 5));
    }

    /// Reserves the next request, with an answer of at most `most` tokens; or why there is none.
    ///
    /// A context window that is full ends the run as [`StopReason::Stuck`] with that reason: it is no budget of the
    /// operator's, and the remedy (a larger window) is another one.
    pub(super) fn reserve(
        &self,
        budgets: &Budgets,
        window: Option<u64>,
        weight: u64,
        most: u32,
    ) -> Result<Reserved, StopReason> {
        let prompt = self.estimator.prompt(weight);
        let room = window.map_or(u64::MAX, |window| window.saturating_sub(self.estimator.at_most(weight)));
        let clip = |spent| clip_answer(budgets, spent, prompt, room);
        budgets.purse.reserve(prompt, |spent| match clip(spent)? {
            None => Err(context_full(window)),
            Some(answer) => Ok(answer.min(most)),
        })
    }

    /// Counts a request. Answers a warning, once, if the server obviously read less than it was sent.
    pub(super) fn count(
        &mut self,
        reserved: Reserved,
        usage: Option<Usage>,
        weight: u64,
        answer: u64,
    ) -> Option<String> {
        let estimate = self.estimator.prompt(weight);
        let usage = usage.unwrap_or_default();
        self.steps += 1;
        self.usage.add(usage);
        let written = usage.completion_tokens.unwrap_or_else(|| self.estimator.tokens(answer));
        reserved.settle(usage, usage.prompt_tokens.unwrap_or(estimate), written);
        let read = usage.prompt_tokens.filter(|tokens| *tokens > 0 && !usage.estimated)?;
        if !self.looks_cut(read, weight) {
            self.estimator.correct(weight, read);
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

    /// A prompt that has far fewer tokens than any tokeniser makes of it was cut; and so was one that grew and yet has
    /// no more tokens than the one before.
    fn looks_cut(&self, read: u64, weight: u64) -> bool {
        let far_too_few = weight > 1_500 && read.saturating_mul(5) < weight.saturating_mul(2);
        let did_not_grow =
            self.estimator.anchor().is_some_and(|(then, tokens)| weight > then + then / 50 + 300 && read <= tokens);
        far_too_few || did_not_grow
    }
}

/// The bound for an answer to a prompt of so many tokens, in view of what is spent; `None`: it has no room.
fn clip_answer(budgets: &Budgets, spent: Spendings, prompt: u64, room: u64) -> Result<Option<u32>, StopReason> {
    let out_of = |budget| StopReason::BudgetRanOut { budget };
    if Instant::now() >= budgets.deadline {
        return Err(out_of(Budget::Time));
    }
    if spent.steps >= budgets.steps {
        return Err(out_of(Budget::Steps));
    }
    let left = budgets.tokens.saturating_sub(spent.read + spent.written).saturating_sub(prompt);
    if left < SHORTEST_ANSWER {
        return Err(out_of(Budget::Tokens));
    }
    let paid = budgets.cost.map_or(u64::MAX, |cost| cost.answer_tokens_left(spent.read + prompt, spent.written));
    if paid < SHORTEST_ANSWER {
        return Err(out_of(Budget::Cost));
    }
    let answer = u64::from(budgets.answer_tokens).min(left).min(paid).min(room);
    Ok((room >= SHORTEST_ANSWER).then(|| u32::try_from(answer).unwrap_or(u32::MAX)))
}

/// Why a run ends whose conversation has no more room.
pub(super) fn context_full(window: Option<u64>) -> StopReason {
    let size = window.map(|window| format!(" of {window} tokens")).unwrap_or_default();
    let reason = format!("the model's context window{size} is full; give the model a larger one");
    StopReason::Stuck { habit: Some(Habit::FullWindow), reason }
}
