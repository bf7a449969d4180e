//! How the model says what is to be done: a closed set of protocols, which one a run takes, and what a reply says in it.
//!
//! Whatever the protocol, a reply is read into calls of tools ([`Said`]); what comes in the server's own form is taken in
//! each. A server's `tool_choice` is not used: those that have it do not keep it.

pub mod fenced;
pub mod fences;
pub mod json_call;
pub(in crate::agent) mod naming;
mod python_call;
pub mod schema;
mod tagged_call;
pub mod text_call;
mod thinking;
pub mod whole_file;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{Ability, ModelCard};

pub use text_call::read_text;
pub use thinking::{without_repeated, without_thinking};

/// A model with fewer parameters than this writes whole files better than it calls tools. (`docs/local-models.md`)
const FEWEST_FOR_TOOLS: u64 = 5_000_000_000;

/// How the model says what is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Calls in the server's own form, or written as text ([`text_call`]).
    Native,
    /// One JSON object a reply, which the server holds to a schema ([`schema`]).
    Schema,
    /// Commands and edits in fenced blocks ([`fenced`]); what they hold is never inside of JSON.
    Fenced,
    /// Whole files in fenced blocks ([`whole_file`]).
    WholeFile,
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolChoice {
    /// By what is known of the model: see [`ProtocolChoice::resolve`].
    #[default]
    Auto,
    /// `tools` is its old name.
    #[serde(alias = "tools")]
    Native,
    Schema,
    Fenced,
    WholeFile,
}

/// What a reply without calls in the server's form says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// In the order of the reply.
    pub calls: Vec<TextCall>,
    /// Behind the calls stands something that means to be one and is none; the reason is for the model.
    pub broken: Option<String>,
    /// What stands around the calls, without thoughts.
    pub prose: String,
    /// The reply without thoughts, up to where it goes on in another's name.
    pub own: String,
}

/// One call written as text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextCall {
    pub name: String,
    pub arguments: Map<String, Value>,
    /// It was not what the grammar wants before it was bent.
    pub repaired: bool,
    /// It stands in a form that is for calls and nothing else.
    pub in_tags: bool,
}

impl Protocol {
    pub const ALL: [Protocol; 4] = [Protocol::Native, Protocol::Schema, Protocol::Fenced, Protocol::WholeFile];

    /// As the config writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Native => "native",
            Protocol::Schema => "schema",
            Protocol::Fenced => "fenced",
            Protocol::WholeFile => "whole-file",
        }
    }

    /// What is tried where the model does not manage this one; `None`: there is nothing else.
    pub fn instead(self, card: &ModelCard) -> Option<Self> {
        let schema = card.abilities.unwrap_or_default().schema;
        match self {
            Protocol::Native | Protocol::Schema => Some(Protocol::Fenced),
            Protocol::Fenced if schema == Ability::No => Some(Protocol::Native),
            Protocol::Fenced => Some(Protocol::Schema),
            Protocol::WholeFile => None,
        }
    }

    /// Reads a reply. `was_cut`: the server ended it at a limit.
    pub fn read(self, content: &str, was_cut: bool) -> Said {
        match self {
            Protocol::Native | Protocol::Schema | Protocol::WholeFile => read_text(content),
            Protocol::Fenced => {
                let said = fenced::read(content, was_cut);
                if !said.calls.is_empty() || said.broken.is_some() {
                    return said;
                }
                // Trained on calls, some write them whatever they are told.
                let calls = read_text(content);
                if calls.calls.is_empty() { said } else { calls }
            }
        }
    }

    /// Whether a reply that is still coming needs no more: what would follow is said in another's name, or without having
    /// seen a command's output.
    pub fn is_enough(self, content: &str) -> bool {
        // The whole is read only where the last line may end something.
        let line = content.trim_end().rsplit('\n').next().unwrap_or_default().trim();
        match self {
            Protocol::Native => text_call::may_be_foreign(line) && read_text(content).is_shorter_than(content),
            Protocol::Schema => line.ends_with('}') && serde_json::from_str::<Value>(content).is_ok(),
            Protocol::Fenced => {
                let said = || fenced::read(content, true);
                let has_run = |said: Said| said.calls.last().is_some_and(|call| call.name == "run");
                fenced::is_close(line) && content.ends_with('\n') && has_run(said())
                    || text_call::may_be_foreign(line) && said().is_shorter_than(content)
            }
            Protocol::WholeFile => false,
        }
    }
}

impl Said {
    /// Whether reading ended before the content did.
    fn is_shorter_than(&self, content: &str) -> bool {
        !self.calls.is_empty() && !content.trim_end().ends_with(self.own.as_str())
    }
}

impl From<Protocol> for ProtocolChoice {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Native => Self::Native,
            Protocol::Schema => Self::Schema,
            Protocol::Fenced => Self::Fenced,
            Protocol::WholeFile => Self::WholeFile,
        }
    }
}

impl ProtocolChoice {
    /// As it stands in the config.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolChoice::Auto => "auto",
            ProtocolChoice::Native => "native",
            ProtocolChoice::Schema => "schema",
            ProtocolChoice::Fenced => "fenced",
            ProtocolChoice::WholeFile => "whole-file",
        }
    }

    /// The protocol for this model, where the operator does not say:
    ///
    /// 1. whole files for one with few parameters, as the server tells or the name holds;
    /// 2. the server's own calls, unless it was tried and they do not come;
    /// 3. actions held to a schema, where it was tried and the server does so;
    /// 4. fenced text.
    pub fn resolve(self, card: &ModelCard) -> Protocol {
        match self {
            ProtocolChoice::Native => Protocol::Native,
            ProtocolChoice::Schema => Protocol::Schema,
            ProtocolChoice::Fenced => Protocol::Fenced,
            ProtocolChoice::WholeFile => Protocol::WholeFile,
            ProtocolChoice::Auto => {
                let parameters = card.parameters.or_else(|| parameters_in(&card.name));
                if parameters.is_some_and(|parameters| parameters < FEWEST_FOR_TOOLS) {
                    return Protocol::WholeFile;
                }
                let abilities = card.abilities.unwrap_or_default();
                match (abilities.native_calls, abilities.schema) {
                    (Ability::Yes | Ability::Unknown, _) => Protocol::Native,
                    (Ability::No, Ability::Yes) => Protocol::Schema,
                    (Ability::No, Ability::No | Ability::Unknown) => Protocol::Fenced,
                }
            }
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
