//! Tokens, as servers count them.
//!
//! - `usage` as OpenAI has it, with `prompt_tokens_details.cached_tokens`; DeepSeek calls these `prompt_cache_hit_tokens`;
//! - `usage.cost` of OpenRouter, in dollars;
//! - `timings` of llama.cpp, in each piece of a stream where it was asked for: `prompt_n` without `cache_n` of them.

use serde::Deserialize;

use super::lenient;
use crate::outcome::Usage;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireUsage {
    #[serde(deserialize_with = "lenient")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    completion_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    prompt_tokens_details: Option<PromptTokens>,
    #[serde(deserialize_with = "lenient")]
    prompt_cache_hit_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    cost: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PromptTokens {
    #[serde(deserialize_with = "lenient")]
    cached_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Timings {
    #[serde(deserialize_with = "lenient")]
    cache_n: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    prompt_n: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    predicted_n: Option<u64>,
}

/// What was told so far; what comes later corrects what came before.
#[derive(Debug, Default)]
pub(super) struct Told {
    usage: Option<Usage>,
    timings: Option<Timings>,
}

impl Told {
    pub(super) fn take(&mut self, usage: Option<WireUsage>, timings: Option<Timings>) {
        if let Some(usage) = usage {
            let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
            self.usage = Some(Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
                cached_tokens: cached.or(usage.prompt_cache_hit_tokens),
                micros: usage.cost.filter(|cost| (0.0..1e9).contains(cost)).map(|cost| (cost * 1e6).round() as u64),
                estimated: false,
            });
        }
        self.timings = timings.or(self.timings.take());
    }

    /// Everything together; `None`: nothing was told.
    pub(super) fn usage(&self) -> Option<Usage> {
        let of_timings = self.timings.as_ref().and_then(|timings| {
            Some(Usage {
                prompt_tokens: Some(timings.prompt_n?.saturating_add(timings.cache_n.unwrap_or(0))),
                completion_tokens: timings.predicted_n,
                cached_tokens: timings.cache_n,
                ..Usage::default()
            })
        });
        match (self.usage, of_timings) {
            (Some(usage), timings) => {
                let cached_tokens = usage.cached_tokens.or(timings.and_then(|timings| timings.cached_tokens));
                Some(Usage { cached_tokens, ..usage })
            }
            (None, timings) => timings,
        }
    }
}
