//! What is known of a model and its server.

use serde::{Deserialize, Serialize};

/// What is known of a model before it is asked; what is unknown is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// As it stands in the pull request.
    pub name: String,
    /// How many tokens prompt and answer may have together: from the operator, else as the server tells.
    pub window: Option<u64>,
    /// As the server tells.
    pub parameters: Option<u64>,
    /// `None`: it was not probed.
    pub abilities: Option<Abilities>,
}

impl ModelCard {
    /// A card with nothing but a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// Whether model and server can do something, as it was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    Yes,
    No,
    /// It was not tried, or trying failed.
    #[default]
    Unknown,
}

impl Ability {
    /// What was seen.
    pub fn seen(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }

    /// It was seen to work.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }

    /// It was seen to fail.
    pub fn is_no(self) -> bool {
        self == Self::No
    }
}

/// What model and server do, each found by trying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// A tool is called in the server's form, with arguments that fit.
    pub native_calls: Ability,
    /// A call comes as text instead.
    pub text_calls: Ability,
    /// Several calls come in one reply.
    pub parallel_calls: Ability,
    /// Content fits a schema that the prompt does not tell of.
    pub schema: Ability,
    /// A system message is taken.
    pub system_role: Ability,
    /// An answer that reached its bound says `length`.
    pub stop_reasons: Ability,
    /// Tokens are counted in the stream.
    pub usage: Ability,
    /// Thinking comes apart from the answer.
    pub reasoning: Ability,
}

impl Abilities {
    /// Each with its name, in words.
    pub fn named(&self) -> [(&'static str, Ability); 8] {
        [
            ("native calls", self.native_calls),
            ("calls as text", self.text_calls),
            ("several calls at once", self.parallel_calls),
            ("schema", self.schema),
            ("system role", self.system_role),
            ("stop reasons", self.stop_reasons),
            ("usage", self.usage),
            ("reasoning apart", self.reasoning),
        ]
    }
}

impl std::fmt::Display for Abilities {
    /// On one line.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self.named().map(|(name, ability)| format!("{name}: {}", ability.word())).into();
        formatter.write_str(&words.join(", "))
    }
}
