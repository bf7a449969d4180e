//! How the model says what is to be done: a closed set of protocols, and which one a run takes.

pub mod text_call;
pub mod whole_file;

use serde::Deserialize;

use crate::model::ModelCard;

pub use text_call::{Said, TextCall, read_text, without_thinking};

/// A model with fewer parameters than this writes whole files better than it calls tools. (`docs/local-models.md`)
const FEWEST_FOR_TOOLS: u64 = 5_000_000_000;

/// How the model says what is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Calls in the server's own form, or one call written as text ([`text_call`]).
    Tools,
    /// Whole files in fenced blocks ([`whole_file`]); what they hold is never inside of JSON.
    WholeFile,
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolChoice {
    /// Whole files for a model that is known to be small, else tools.
    #[default]
    Auto,
    Tools,
    WholeFile,
}

impl ProtocolChoice {
    /// As it stands in the config.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolChoice::Auto => "auto",
            ProtocolChoice::Tools => "tools",
            ProtocolChoice::WholeFile => "whole-file",
        }
    }

    /// The protocol for this model, by the number of parameters that the server tells or the name holds.
    pub fn resolve(self, card: &ModelCard) -> Protocol {
        match self {
            ProtocolChoice::Tools => Protocol::Tools,
            ProtocolChoice::WholeFile => Protocol::WholeFile,
            ProtocolChoice::Auto => match card.parameters.or_else(|| parameters_in(&card.name)) {
                Some(parameters) if parameters < FEWEST_FOR_TOOLS => Protocol::WholeFile,
                Some(_) | None => Protocol::Tools,
            },
        }
    }
}

/// The number of parameters in a model's name: `1.5b` in `qwen2.5-coder:1.5b`, the total in `8x7B`, none in `gpt-4`.
///
/// Only the last part of a path counts, and of several numbers the largest.
pub fn parameters_in(name: &str) -> Option<u64> {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    words.filter_map(parameters_of_word).max()
}

fn parameters_of_word(word: &str) -> Option<u64> {
    let (number, unit) = match (word.strip_suffix('b'), word.strip_suffix('m')) {
        (Some(number), _) => (number, 1e9),
        (None, Some(number)) => (number, 1e6),
        (None, None) => return None,
    };
    let (times, number) = number.split_once('x').unwrap_or(("1", number));
    let is_number = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
    if !is_number(times) || !is_number(number) {
        return None;
    }
    let count = times.parse::<u32>().ok()?;
    let each = number.parse::<f64>().ok()?;
    // At most 4 billion times a few thousand billion: far below what the target type holds.
    Some((f64::from(count) * each * unit) as u64)
}
