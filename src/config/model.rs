//! `[model]`: the endpoint, those behind it, what is sent besides, and what tokens cost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::environment::Environment;
use super::file::{ConfigFile, FallbackSection, FromEnvironment, HeaderSetting};
use super::flags::{ProbeFlag, WorkFlags};
use crate::model::ProbeMode;
use crate::model::openai::Settings;
use crate::outcome::Price;

/// Fields of a request that the loop lives by.
const OURS: [&str; 6] = ["model", "messages", "tools", "stream", "max_tokens", "max_completion_tokens"];

/// In the operator's currency, of a million tokens.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceSection {
    #[serde(rename = "in")]
    pub input: f64,
    #[serde(rename = "out")]
    pub output: f64,
    /// Of prompt tokens that the server has cached. Default: as `in`.
    pub cached: Option<f64>,
}

/// The model, as far as the operator named it.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The first one, and those that stand in for it.
    pub endpoints: Vec<Settings>,
    pub probe: ProbeMode,
    pub max_output_tokens: u32,
    pub temperature: Option<f32>,
}

impl ModelConfig {
    /// The operator named an endpoint.
    pub fn is_named(&self) -> bool {
        self.endpoints.first().is_some_and(|first| first.endpoint.is_some())
    }
}

pub(super) fn resolve(file: &ConfigFile, work: &WorkFlags, environment: &Environment) -> anyhow::Result<ModelConfig> {
    let section = &file.model;
    let named = work.endpoint.as_deref().or(environment.get("LLM_API_ENDPOINT")).or(section.endpoint.as_deref());
    let endpoint = match named {
        Some(endpoint) => Some(endpoint),
        None => endpoint_of_provider(environment.get("LLM_PROVIDER"))?,
    };
    let key = match (environment.secret("LLM_API_KEY"), &section.key_env) {
        (Some(key), _) => Some(key),
        (None, Some(name)) => Some(secret_of("model.key_env", name, environment)?),
        (None, None) => super::read_secret("model.key_file", section.key_file.as_deref())?,
    };
    let usual = Settings {
        silence_timeout: Duration::from_secs(section.silence_seconds.unwrap_or(300)),
        cache: cache_folder(file, environment),
        ..Settings::default()
    };
    let first = Settings {
        endpoint: endpoint.map(|text| parse_endpoint(text, "the model endpoint")).transpose()?,
        provider: section.provider,
        key,
        headers: resolve_headers("model.headers", &section.headers, environment)?,
        body: resolve_body("model.body", &section.body)?,
        model: work.model.clone().or(environment.get("LLM_MODEL").map(str::to_owned)).or(section.name.clone()),
        window: section.context_window,
        price: resolve_price(file)?,
        ..usual.clone()
    };
    if first.endpoint.is_none() && !section.fallback.is_empty() {
        bail!("model.fallback stands in for an endpoint, and none is named. Set model.endpoint");
    }
    let mut endpoints = vec![first];
    for (at, fallback) in section.fallback.iter().enumerate() {
        endpoints.push(resolve_fallback(&format!("model.fallback number {}", at + 1), fallback, &usual, environment)?);
    }
    Ok(ModelConfig {
        endpoints,
        probe: match work.probe {
            Some(ProbeFlag::Auto) => ProbeMode::Auto,
            Some(ProbeFlag::Off) => ProbeMode::Off,
            Some(ProbeFlag::Always) => ProbeMode::Always,
            None => section.probe.unwrap_or_default(),
        },
        max_output_tokens: section.max_output_tokens.unwrap_or(4096),
        temperature: section.temperature,
    })
}

/// What the tokens of the first endpoint cost.
pub(super) fn resolve_price(file: &ConfigFile) -> anyhow::Result<Option<Price>> {
    file.model.price.map(|section| price("model.price", section)).transpose()
}

fn resolve_fallback(
    what: &str,
    section: &FallbackSection,
    usual: &Settings,
    environment: &Environment,
) -> anyhow::Result<Settings> {
    if section.endpoint.is_empty() {
        bail!("{what} has no endpoint");
    }
    let key = match &section.key_env {
        Some(name) => Some(secret_of(what, name, environment)?),
        None => super::read_secret(what, section.key_file.as_deref())?,
    };
    Ok(Settings {
        endpoint: Some(parse_endpoint(&section.endpoint, what)?),
        provider: section.provider,
        key,
        headers: resolve_headers(&format!("{what}: headers"), &section.headers, environment)?,
        body: resolve_body(&format!("{what}: body"), &section.body)?,
        model: section.name.clone(),
        window: section.context_window,
        price: section.price.map(|section| price(what, section)).transpose()?,
        ..usual.clone()
    })
}

fn parse_endpoint(text: &str, what: &str) -> anyhow::Result<Url> {
    let endpoint = super::parse_http_url(text).with_context(|| format!("{what} cannot be used"))?;
    for (name, value) in endpoint.query_pairs() {
        keep_if_secret(what, &name, &value);
    }
    Ok(endpoint)
}

/// Parts of the names that gateways take secrets by, in lower case.
const NAMES_OF_SECRETS: [&str; 10] = ["key", "token", "secret", "pass", "pwd", "auth", "sig", "cred", "cookie", "code"];
/// A value without spaces that is as long and has letters and digits is a secret by any name.
const LONG: usize = 20;

/// A secret that stands plainly in the configuration is one all the same; a team's name or a version is none, and must not
/// be kept out of what is published.
pub(super) fn keep_if_secret(what: &str, name: &str, value: &str) {
    let lower = name.to_ascii_lowercase();
    // Behind `Bearer` and the like.
    let value = value.split_whitespace().next_back().unwrap_or_default();
    let has = |is: fn(&char) -> bool| value.chars().any(|character| is(&character));
    let is_drawn =
        value.len() >= LONG && !value.contains("://") && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic);
    if is_drawn || NAMES_OF_SECRETS.iter().any(|part| lower.contains(part)) {
        crate::logging::keep_secret(&format!("{what}: {name}"), value);
    }
}

fn resolve_headers(
    what: &str,
    section: &BTreeMap<String, HeaderSetting>,
    environment: &Environment,
) -> anyhow::Result<Vec<(String, SecretString)>> {
    let value = |(name, setting): (&String, &HeaderSetting)| {
        let value = match setting {
            HeaderSetting::Plain(text) => {
                keep_if_secret(what, name, text);
                SecretString::from(text.clone())
            }
            HeaderSetting::Secret(FromEnvironment { env }) => secret_of(what, env, environment)?,
        };
        Ok((name.clone(), value))
    };
    section.iter().map(value).collect()
}

fn secret_of(what: &str, name: &str, environment: &Environment) -> anyhow::Result<SecretString> {
    environment.secret(name).with_context(|| format!("{what} is to come from the variable {name}, which is not set"))
}

fn resolve_body(what: &str, table: &toml::Table) -> anyhow::Result<Map<String, Value>> {
    if let Some(name) = OURS.into_iter().find(|name| table.contains_key(*name)) {
        bail!("{what}: `{name}` is set by Patchwright itself. Take it out");
    }
    let body = serde_json::to_value(table).with_context(|| format!("{what} cannot be sent as JSON"))?;
    match body {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Ok(Map::new()),
    }
}

fn price(what: &str, section: PriceSection) -> anyhow::Result<Price> {
    let micros = |name: &str, amount: f64| super::serve::micros(&format!("{what}.{name}"), amount);
    Ok(Price {
        input: micros("in", section.input)?,
        output: micros("out", section.output)?,
        cached: section.cached.map(|cached| micros("cached", cached)).transpose()?,
    })
}

/// Where it is kept what probes have found: beside the mirrors.
fn cache_folder(file: &ConfigFile, environment: &Environment) -> Option<PathBuf> {
    let workspace = environment.get("WORKSPACE_DIR").map(PathBuf::from).or(file.workspace.clone());
    let folder = workspace.and_then(|folder| std::path::absolute(folder).ok()).or_else(|| environment.cache_folder());
    folder.as_deref().map(|folder: &Path| folder.join("models"))
}

/// The address that a provider's name stands for.
pub(super) fn endpoint_of_provider(provider: Option<&str>) -> anyhow::Result<Option<&'static str>> {
    let Some(provider) = provider else { return Ok(None) };
    match provider.to_ascii_lowercase().as_str() {
        "openai" => Ok(Some("https://api.openai.com/v1")),
        "anthropic" => Ok(Some("https://api.anthropic.com/v1")),
        "openrouter" => Ok(Some("https://openrouter.ai/api/v1")),
        "ollama" => Ok(Some("http://127.0.0.1:11434/v1")),
        "vllm" => Ok(Some("http://127.0.0.1:8000/v1")),
        "llamacpp" | "llama.cpp" => Ok(Some("http://127.0.0.1:8080/v1")),
        "lmstudio" => Ok(Some("http://127.0.0.1:1234/v1")),
        "local" | "custom" | "openai-compatible" | "openai_compatible" => Ok(None),
        _ => bail!(
            "LLM_PROVIDER=`{provider}` is not known. Use openai, anthropic, openrouter, ollama, vllm, llamacpp, \
             lmstudio or custom, and give any OpenAI-compatible address as LLM_API_ENDPOINT"
        ),
    }
}
