//! Which servers answer, which models they have, and how large the context window is.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::ModelError;
use super::link::{Link, read_bounded};
use super::openai::Settings;
use super::provider::Provider;
use super::refusal;

/// For a probe of what may not be there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the list of models, which the run cannot begin without.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);
/// A gateway's list of models can be long; a list beyond this is no list.
const MOST_LIST_BYTES: usize = 8 << 20;
/// For Ollama to write down a model with another window, which copies nothing.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many models an error names.
const MOST_NAMED: usize = 20;

/// A place where a model server may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub server: &'static str,
    pub endpoint: Url,
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.server, self.endpoint)
    }
}

/// A model that a server lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelInfo {
    pub id: String,
    /// Which server lists it, as some say.
    pub owner: Option<String>,
    /// Prompt and answer together, in tokens; `None`: the server does not tell.
    pub window: Option<u64>,
    /// `None`: the server does not tell.
    pub parameters: Option<u64>,
}

/// The usual local servers at their usual ports, the first one preferred.
pub fn local_candidates() -> Vec<Candidate> {
    [("Ollama", 11434), ("vLLM", 8000), ("llama.cpp", 8080), ("LM Studio", 1234)]
        .into_iter()
        .filter_map(|(server, port)| {
            let endpoint = Url::parse(&format!("http://127.0.0.1:{port}/v1")).ok()?;
            Some(Candidate { server, endpoint })
        })
        .collect()
}

/// The first candidate, in their order, that lists at least one model; all are asked at once.
pub async fn first_local(candidates: &[Candidate]) -> Option<Candidate> {
    let answers = join_all(candidates.iter().map(|candidate| async move {
        let settings = Settings { connect_timeout: PROBE_TIMEOUT, ..Settings::default() };
        let link = Link::new(&candidate.endpoint, Provider::default(), &settings).ok()?;
        let known = tokio::time::timeout(PROBE_TIMEOUT, list(&link)).await.ok()?.ok()?;
        (!known.is_empty()).then(|| candidate.clone())
    }))
    .await;
    answers.into_iter().flatten().next()
}

/// The models that the server lists at `/v1/models`.
pub(super) async fn list(link: &Link) -> Result<Vec<ModelInfo>, ModelError> {
    #[derive(Deserialize)]
    struct Listing {
        #[serde(default)]
        data: Option<Vec<Value>>,
    }
    let answer = get(link, link.below("/models"), LIST_TIMEOUT).await?;
    let listing: Listing = serde_json::from_value(answer).map_err(|error| ModelError::Server {
        status: None,
        message: format!("{} is no list of models ({error}); is it an OpenAI-compatible endpoint?", link.shown),
    })?;
    Ok(listing.data.into_iter().flatten().filter_map(|entry| read_entry(&entry)).collect())
}

/// For the error about an unknown model: `; it knows `a`, `b``, or nothing.
pub(super) fn name_all(known: &[ModelInfo]) -> String {
    let names: Vec<String> = known.iter().take(MOST_NAMED).map(|info| format!("`{}`", info.id)).collect();
    match (names.is_empty(), known.len() > MOST_NAMED) {
        (true, _) => String::new(),
        (false, true) => format!("; it knows {} and {} more", names.join(", "), known.len() - MOST_NAMED),
        (false, false) => format!("; it knows {}", names.join(", ")),
    }
}

/// What a server tells of itself and of a model on the pages that are its own.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) provider: Provider,
    pub(super) version: Option<String>,
    /// The window that the model runs with: servers list the one that it was trained with.
    pub(super) window: Option<u64>,
}

/// Asks a server which one it is, unless `known` says, and for the window of a model.
///
/// - llama.cpp: `/props`;
/// - Ollama: `/api/version`, `/api/ps` for a model that runs, and the `num_ctx` of `/api/show`;
/// - LM Studio: `/api/v0/models`;
/// - vLLM: `owned_by` in the list of models, which has the window, and `/version`.
///
/// Hosted providers are not asked.
pub(super) async fn ask(link: &Link, known: Option<Provider>, info: &ModelInfo) -> Told {
    if let Some(provider) = known.filter(|provider| !provider.is_own_server()) {
        return Told { provider, ..Told::default() };
    }
    let page = |path: &'static str| get(link, link.beside(path), PROBE_TIMEOUT);
    let (properties, ollama, running, shown, studio, version) = tokio::join!(
        page("/props"),
        page("/api/version"),
        page("/api/ps"),
        show(link, &info.id),
        page("/api/v0/models"),
        page("/version"),
    );
    let text = |answer: &Value, field: &str| answer.get(field).and_then(Value::as_str).map(str::to_owned);
    let settings = properties.ok().filter(|answer| answer.get("default_generation_settings").is_some());
    let ollama = ollama.ok().and_then(|answer| text(&answer, "version"));
    let loaded = studio.ok().and_then(|answer| entry_of(&answer, "data", "id", &info.id));
    let found = if settings.is_some() {
        Provider::LlamaCpp
    } else if ollama.is_some() {
        Provider::Ollama
    } else if loaded.is_some() {
        Provider::LmStudio
    } else if info.owner.as_deref() == Some("vllm") {
        Provider::Vllm
    } else {
        Provider::Other
    };
    let of_llama_cpp =
        settings.as_ref().and_then(|answer| answer.pointer("/default_generation_settings/n_ctx")?.as_u64());
    let of_ollama = running.ok().and_then(|answer| window_of_running(&answer, &info.id));
    let of_parameters = shown.ok().and_then(|answer| {
        let parameters = text(&answer, "parameters")?;
        let line = parameters.lines().find(|line| line.starts_with("num_ctx"))?.to_owned();
        line.split_whitespace().nth(1)?.parse().ok()
    });
    let of_studio = loaded.and_then(|entry| entry.get("loaded_context_length")?.as_u64());
    let provider = known.unwrap_or(found);
    let version = match provider {
        Provider::LlamaCpp => settings.and_then(|answer| text(&answer, "build_info")),
        Provider::Ollama => ollama,
        Provider::Vllm | Provider::Other => version.ok().and_then(|answer| text(&answer, "version")),
        Provider::LmStudio | Provider::OpenAi | Provider::Azure | Provider::OpenRouter | Provider::Anthropic => None,
    };
    let window = of_llama_cpp.or(of_ollama).or(of_parameters).or(of_studio).filter(|window| *window > 0);
    Told { provider, version, window }
}

/// The window that Ollama runs a model with, once it is loaded.
pub(super) async fn running_window(link: &Link, model: &str) -> Option<u64> {
    let answer = get(link, link.beside("/api/ps"), PROBE_TIMEOUT).await.ok()?;
    window_of_running(&answer, model)
}

/// Has Ollama load a model, which it would do at the first request; an empty prompt does that.
pub(super) async fn load(link: &Link, model: &str, limit: Duration) -> Result<(), ModelError> {
    let request = link.http.post(link.beside("/api/generate")).json(&json!({ "model": model, "stream": false }));
    read(link, request, limit).await.map(drop)
}

/// Has Ollama run a model with a window of the operator's.
///
/// Its OpenAI-compatible endpoint takes no window, and so the model is written down once more under a name of its own
/// with `num_ctx`, which copies no weights. Where that is refused, what it runs with stays, and the note says what to do.
pub(super) async fn run_with_window(
    link: &Link,
    known: &[ModelInfo],
    info: &mut ModelInfo,
    window: u64,
) -> Option<String> {
    if info.window == Some(window) {
        return None;
    }
    let tagged = if info.id.rsplit('/').next().is_some_and(|name| name.contains(':')) { "-" } else { ":" };
    let derived = format!("{}{tagged}ctx{window}", info.id);
    if !known.iter().any(|known| known.id == derived) {
        let body = json!({
            "model": derived, "from": info.id, "parameters": { "num_ctx": window }, "stream": false,
        });
        let request = link.http.post(link.beside("/api/create")).json(&body);
        if let Err(error) = read(link, request, CREATE_TIMEOUT).await {
            let runs = info.window.map_or_else(|| "its own default".into(), |window| format!("{window} tokens"));
            return Some(format!(
                "Ollama runs `{}` with {runs}, not with the {window} tokens of model.context_window: {error}. Start it \
                 with OLLAMA_CONTEXT_LENGTH={window}",
                info.id
            ));
        }
    }
    let note = format!("Ollama runs `{}` with {window} tokens under the name `{derived}`", info.id);
    info.id = derived;
    info.window = Some(window);
    Some(note)
}

fn window_of_running(answer: &Value, model: &str) -> Option<u64> {
    entry_of(answer, "models", "name", model)?.get("context_length")?.as_u64()
}

/// The entry of a list whose `field` is `wanted`.
fn entry_of(answer: &Value, list: &str, field: &str, wanted: &str) -> Option<Value> {
    let entries = answer.get(list)?.as_array()?;
    entries.iter().find(|entry| entry.get(field).and_then(Value::as_str) == Some(wanted)).cloned()
}

async fn show(link: &Link, model: &str) -> Result<Value, ModelError> {
    let request = link.http.post(link.beside("/api/show")).json(&json!({ "model": model }));
    read(link, request, PROBE_TIMEOUT).await
}

async fn get(link: &Link, address: String, timeout: Duration) -> Result<Value, ModelError> {
    read(link, link.http.get(address), timeout).await
}

async fn read(link: &Link, request: reqwest::RequestBuilder, timeout: Duration) -> Result<Value, ModelError> {
    let request = request.headers(async_openai::config::Config::headers(link));
    let exchange = async {
        let response = request.send().await.map_err(|error| link.failure_of_transport(&error).error)?;
        let status = response.status();
        let body =
            read_bounded(response, MOST_LIST_BYTES).await.map_err(|error| link.failure_of_transport(&error).error)?;
        if !status.is_success() {
            return Err(link.failure_of(refusal::of_answer(status.as_u16(), &body, ""), None).error);
        }
        serde_json::from_slice(&body).map_err(|_| ModelError::Server {
            status: Some(status.as_u16()),
            message: format!("{} does not answer as an OpenAI-compatible endpoint does", link.shown),
        })
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
        Err(ModelError::Unreachable {
            endpoint: link.shown.clone(),
            reason: format!("no answer within {} s", timeout.as_secs()),
        })
    })
}

/// One entry of the list; the window as vLLM, OpenRouter, LM Studio or llama.cpp call it, the parameters as llama.cpp does.
fn read_entry(entry: &Value) -> Option<ModelInfo> {
    let id = entry.get("id").or_else(|| entry.get("name"))?.as_str()?.to_owned();
    let fields = ["/max_model_len", "/context_length", "/context_window", "/max_context_length", "/meta/n_ctx_train"];
    let window = fields.iter().find_map(|field| entry.pointer(field)?.as_u64()).filter(|window| *window > 0);
    let parameters = entry.pointer("/meta/n_params").and_then(Value::as_u64).filter(|parameters| *parameters > 0);
    let owner = entry.get("owned_by").and_then(Value::as_str).map(str::to_owned);
    Some(ModelInfo { id, owner, window, parameters })
}
