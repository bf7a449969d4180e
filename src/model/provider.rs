//! Which kind of server an endpoint is, and what it wants to be told differently. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Abilities, Ability};

/// The kinds of servers that are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Any OpenAI-compatible endpoint.
    #[default]
    Other,
    Vllm,
    Ollama,
    #[serde(alias = "llama.cpp", alias = "llama-cpp")]
    LlamaCpp,
    #[serde(alias = "lm-studio")]
    LmStudio,
    OpenAi,
    Azure,
    OpenRouter,
    /// Anthropic's OpenAI-compatible endpoint.
    Anthropic,
}

impl Provider {
    /// The provider that an address alone tells.
    pub fn of_address(endpoint: &Url) -> Option<Self> {
        let host = endpoint.host_str()?.to_ascii_lowercase();
        let below = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        let azure = ["openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com"];
        if azure.iter().any(|domain| below(domain)) {
            Some(Self::Azure)
        } else if below("api.openai.com") {
            Some(Self::OpenAi)
        } else if below("openrouter.ai") {
            Some(Self::OpenRouter)
        } else if below("api.anthropic.com") {
            Some(Self::Anthropic)
        } else {
            None
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "an OpenAI-compatible endpoint",
            Self::Vllm => "vLLM",
            Self::Ollama => "Ollama",
            Self::LlamaCpp => "llama.cpp",
            Self::LmStudio => "LM Studio",
            Self::OpenAi => "OpenAI",
            Self::Azure => "Azure",
            Self::OpenRouter => "OpenRouter",
            Self::Anthropic => "Anthropic",
        }
    }

    /// It runs models of the operator's, and has pages that tell of them.
    pub(super) fn is_own_server(self) -> bool {
        match self {
            Self::Other | Self::Vllm | Self::Ollama | Self::LlamaCpp | Self::LmStudio => true,
            Self::OpenAi | Self::Azure | Self::OpenRouter | Self::Anthropic => false,
        }
    }

    /// The header that carries the key, and what stands before it.
    pub(super) fn key_header(self) -> (&'static str, &'static str) {
        match self {
            Self::Azure => ("api-key", ""),
            Self::Other
            | Self::Vllm
            | Self::Ollama
            | Self::LlamaCpp
            | Self::LmStudio
            | Self::OpenAi
            | Self::OpenRouter
            | Self::Anthropic => ("authorization", "Bearer "),
        }
    }

    /// Headers besides, for a request with or without `key`.
    pub(super) fn headers(self, key: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::OpenRouter => {
                vec![("x-title", "Patchwright".into()), ("http-referer", env!("CARGO_PKG_REPOSITORY").into())]
            }
            // Its list of models is no OpenAI-compatible page.
            Self::Anthropic => {
                vec![("anthropic-version", "2023-06-01".into()), ("x-api-key", key.to_owned())]
            }
            Self::Other | Self::Vllm | Self::Ollama | Self::LlamaCpp | Self::LmStudio | Self::OpenAi | Self::Azure => {
                Vec::new()
            }
        }
    }

    /// The answer's bound is `max_completion_tokens`.
    pub(super) fn wants_newer_limit(self) -> bool {
        match self {
            Self::OpenAi | Self::Azure => true,
            Self::Other
            | Self::Vllm
            | Self::Ollama
            | Self::LlamaCpp
            | Self::LmStudio
            | Self::OpenRouter
            | Self::Anthropic => false,
        }
    }

    /// The hosted reasoning models refuse a temperature.
    pub(super) fn takes_temperature(self, model: &str) -> bool {
        let name = model.rsplit('/').next().unwrap_or(model);
        let reasons = ["o1", "o3", "o4", "gpt-5"].iter().any(|family| name.starts_with(family));
        match self {
            Self::OpenAi | Self::Azure | Self::OpenRouter => !reasons,
            Self::Other | Self::Vllm | Self::Ollama | Self::LlamaCpp | Self::LmStudio | Self::Anthropic => true,
        }
    }

    /// Fields of a request that only this provider knows.
    pub(super) fn fields(self) -> Map<String, Value> {
        let fields = match self {
            // Tokens counted in each piece, so that they are known of an answer that is ended early.
            Self::LlamaCpp => json!({ "cache_prompt": true, "timings_per_token": true }),
            Self::Vllm => json!({ "stream_options": { "continuous_usage_stats": true } }),
            Self::Other
            | Self::Ollama
            | Self::LmStudio
            | Self::OpenAi
            | Self::Azure
            | Self::OpenRouter
            | Self::Anthropic => Value::Null,
        };
        match fields {
            Value::Object(fields) => fields,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        }
    }

    /// What is documented of a hosted provider, so that nobody pays for a probe.
    pub(super) fn documented(self) -> Option<Abilities> {
        let all = Abilities {
            native_calls: Ability::Yes,
            text_calls: Ability::No,
            parallel_calls: Ability::Yes,
            schema: Ability::Yes,
            system_role: Ability::Yes,
            stop_reasons: Ability::Yes,
            usage: Ability::Yes,
            reasoning: Ability::Unknown,
        };
        match self {
            Self::OpenAi | Self::Azure => Some(all),
            Self::Anthropic => Some(Abilities { schema: Ability::No, ..all }),
            // It hands on to models of all kinds.
            Self::OpenRouter => None,
            Self::Other | Self::Vllm | Self::Ollama | Self::LlamaCpp | Self::LmStudio => None,
        }
    }
}
