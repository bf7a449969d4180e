//! How much a model is shown and trusted with, by its size and window: three profiles.
//!
//! | profile | for | shows |
//! |---|---|---|
//! | `small` | fewer than 5 billion parameters, or a window below 12,000 tokens | little, and few tools |
//! | `medium` | what lies between, and models of which nothing is known | |
//! | `large` | 50 billion parameters or more and a window of 60,000 tokens, or of unknown size with 100,000 | much |

use serde::{Deserialize, Serialize};

use super::protocol::parameters_in;
use super::tools::Tool;
use crate::model::ModelCard;

/// Below this a model is small.
const SMALL_PARAMETERS: u64 = 5_000_000_000;
const SMALL_WINDOW: u64 = 12_000;
const LARGE_PARAMETERS: u64 = 50_000_000_000;
const LARGE_WINDOW: u64 = 60_000;
/// A window that only large models are served with.
const HUGE_WINDOW: u64 = 100_000;
/// The window that is reckoned with where nobody tells it.
const USUAL_WINDOW: u64 = 16_384;

/// How a model is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    Small,
    Medium,
    Large,
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileChoice {
    /// By parameters and window.
    #[default]
    Auto,
    Small,
    Medium,
    Large,
}

/// What the first message may take, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    pub map: u64,
    pub instructions: u64,
    /// The tests' output before the change.
    pub output: u64,
    /// The code that it names.
    pub code: u64,
    /// Whole files, where the protocol is whole files.
    pub files: u64,
}

impl ProfileChoice {
    /// The profile for this model.
    pub fn of(self, card: &ModelCard) -> Profile {
        self.pick(card.parameters.or_else(|| parameters_in(&card.name)), card.window)
    }

    /// The profile for a model with these parameters and this window, as far as they are known.
    pub fn pick(self, parameters: Option<u64>, window: Option<u64>) -> Profile {
        match self {
            ProfileChoice::Small => Profile::Small,
            ProfileChoice::Medium => Profile::Medium,
            ProfileChoice::Large => Profile::Large,
            ProfileChoice::Auto => {
                let is_small = parameters.is_some_and(|count| count < SMALL_PARAMETERS)
                    || window.is_some_and(|tokens| tokens < SMALL_WINDOW);
                let window = window.unwrap_or(USUAL_WINDOW);
                let is_large = match parameters {
                    Some(count) => count >= LARGE_PARAMETERS && window >= LARGE_WINDOW,
                    None => window >= HUGE_WINDOW,
                };
                match (is_small, is_large) {
                    (true, _) => Profile::Small,
                    (false, true) => Profile::Large,
                    (false, false) => Profile::Medium,
                }
            }
        }
    }
}

impl From<Profile> for ProfileChoice {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Small => Self::Small,
            Profile::Medium => Self::Medium,
            Profile::Large => Self::Large,
        }
    }
}

impl Profile {
    pub const ALL: [Profile; 3] = [Profile::Small, Profile::Medium, Profile::Large];

    /// The name of its folder of prompts.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Small => "small",
            Profile::Medium => "medium",
            Profile::Large => "large",
        }
    }

    /// The profile that is tried where this one has not led to anything.
    pub fn neighbour(self) -> Self {
        match self {
            Profile::Small | Profile::Large => Profile::Medium,
            Profile::Medium => Profile::Small,
        }
    }

    /// What the first message may take: its own bounds, and all together not more than half of the window.
    pub fn allowance(self, window: Option<u64>) -> Allowance {
        let most = match self {
            Profile::Small => Allowance { map: 500, instructions: 300, output: 500, code: 900, files: 6_500 },
            Profile::Medium => Allowance { map: 1_200, instructions: 1_200, output: 900, code: 2_000, files: 6_500 },
            Profile::Large => Allowance { map: 3_000, instructions: 4_000, output: 1_800, code: 5_000, files: 20_000 },
        };
        let half = window.unwrap_or(USUAL_WINDOW) / 2;
        let within = |tokens: u64, share: u64| tokens.min(half * share / 100);
        Allowance {
            map: within(most.map, 20),
            instructions: within(most.instructions, 20),
            output: within(most.output, 20),
            code: within(most.code, 40),
            files: within(most.files, 70),
        }
    }

    /// The most tokens of one observation that go into the history.
    pub fn observation(self, window: Option<u64>) -> u64 {
        let most = match self {
            Profile::Small => 1_500,
            Profile::Medium => 5_000,
            Profile::Large => 8_000,
        };
        window.map_or(most, |window| most.min(window / 5))
    }

    /// What a model that thinks before it answers may have for that, in tokens.
    pub fn thoughts(self) -> u32 {
        match self {
            Profile::Small => 4_000,
            Profile::Medium | Profile::Large => 8_000,
        }
    }

    /// Whether what happened is told again by the model when the window is full, and not by a list made of the history.
    pub fn summarises(self) -> bool {
        match self {
            Profile::Small => false,
            Profile::Medium | Profile::Large => true,
        }
    }

    /// Whether the model gets this tool.
    pub fn offers(self, tool: Tool) -> bool {
        match self {
            // Each tool costs a small model tokens and is one more to take by mistake. A command lists folders too, and
            // a patch inside of JSON is what such a model gets wrong.
            Profile::Small => !matches!(tool, Tool::List | Tool::Patch),
            Profile::Medium | Profile::Large => true,
        }
    }
}
