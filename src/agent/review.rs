//! A second look at a change whose tests pass: one request of its own, with the task and the diff, beside the
//! conversation.

use super::protocol::without_thinking;
use super::text::{clip, elide};
use super::tokens::weigh;
use super::{Agent, AgentError};
use crate::model::{Message, Request};

/// The longest answer, thoughts included.
const MOST_TOKENS: u32 = 2_000;
const MOST_FINDINGS: usize = 5;
const LONGEST_FINDING: usize = 400;
/// The most of a diff that is shown, in bytes, and in bytes for each token of the window.
const MOST_DIFF_BYTES: usize = 32_000;
const DIFF_BYTES_OF_A_TOKEN: u64 = 2;
/// The likeliest answer.
const TEMPERATURE: f32 = 0.1;

impl Agent<'_> {
    /// What the model finds wrong with a change; `None`: no answer is to be had.
    pub async fn review(&mut self, diff: &str) -> Result<Option<Vec<String>>, AgentError> {
        let window = self.window();
        let room = window.map_or(u64::MAX, |window| window * DIFF_BYTES_OF_A_TOKEN);
        let diff = elide(diff, usize::try_from(room).unwrap_or(usize::MAX).min(MOST_DIFF_BYTES));
        let (system, question) = (self.prompts.review_system()?, self.prompts.review(&self.brief, &diff)?);
        let weight = weigh(&system) + weigh(&question);
        let messages = [Message::System { content: system }, Message::User { content: question }];
        let Ok(reserved) = self.spent.reserve(&self.budgets, window, weight, MOST_TOKENS) else { return Ok(None) };
        let request = Request {
            temperature: self.budgets.temperature(Some(TEMPERATURE)),
            seed: self.budgets.seed(),
            attempt: self.budgets.attempt,
            ..Request::new(&messages, reserved.answer_tokens())
        };
        match self.complete(&request, reserved).await {
            Ok(Ok(answer)) => Ok(findings(&self.count(answer, weight).content)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no second look");
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    /// Answers the `finish` that paused the run with what a second look has found.
    pub fn hand_back(&mut self, findings: &[String]) -> Result<(), AgentError> {
        let list: Vec<String> = findings.iter().map(|finding| format!("- {finding}")).collect();
        let text = self.prompts.reviewed(&list.join("\n"))?;
        match &self.whole_file {
            Some(_) => self.begin_anew(&text),
            None => {
                self.observe(text);
                Ok(())
            }
        }
    }
}

/// What an answer names as wrong: each line that begins with a dash, a star or a number. `None`: it is no answer.
///
/// ```text
/// answer := "OK" | { text } finding { finding | text }
/// ```
pub fn findings(answer: &str) -> Option<Vec<String>> {
    let lines = || without_thinking(answer).lines().map(str::trim).filter(|line| !line.is_empty());
    let first: String = lines().next()?.chars().filter(|letter| letter.is_alphanumeric()).collect();
    if first.eq_ignore_ascii_case("ok") {
        return Some(Vec::new());
    }
    let found: Vec<String> = lines().filter_map(listed).map(|text| clip(text, LONGEST_FINDING)).collect();
    (!found.is_empty()).then(|| found.into_iter().take(MOST_FINDINGS).collect())
}

/// The text of a line of a list.
fn listed(line: &str) -> Option<&str> {
    let behind_number = || {
        let rest = line.trim_start_matches(|letter: char| letter.is_ascii_digit());
        rest.strip_prefix(". ").or_else(|| rest.strip_prefix(") ")).filter(|_| rest.len() < line.len())
    };
    let text = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).or_else(behind_number)?.trim();
    (!text.is_empty()).then_some(text)
}
