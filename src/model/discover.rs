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
use super::refusal;

/// For a probe of what may not be there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the list of models, which the run cannot begin without.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);
/// A gateway's list of models can be long; a list beyond this is no list.
const MOST_LIST_BYTES: usize = 8 << 20;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    pub id: String,
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
        let link = Link::new(&candidate.endpoint, &settings).ok()?;
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
    let answer = get(link, async_openai::config::Config::url(link, "/models"), LIST_TIMEOUT).await?;
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

/// Corrects the window by what llama.cpp (`/props`) and Ollama (`/api/ps`, `/api/show`) tell of the running model.
///
/// Both list the window that the model was trained with, and run it with a smaller one.
pub(super) async fn read_window(link: &Link, info: &mut ModelInfo) {
    let (properties, running, shown) = tokio::join!(
        get(link, link.beside("/props"), PROBE_TIMEOUT),
        get(link, link.beside("/api/ps"), PROBE_TIMEOUT),
        show(link, &info.id),
    );
    let of_llama_cpp =
        properties.ok().and_then(|answer| answer.pointer("/default_generation_settings/n_ctx")?.as_u64());
    let of_ollama = running.ok().and_then(|answer| {
        let models = answer.get("models")?.as_array()?.clone();
        let entry = models.into_iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(&info.id))?;
        entry.get("context_length")?.as_u64()
    });
    let of_parameters = shown.ok().and_then(|answer| {
        let parameters = answer.get("parameters")?.as_str()?.to_owned();
        let line = parameters.lines().find(|line| line.starts_with("num_ctx"))?.to_owned();
        line.split_whitespace().nth(1)?.parse().ok()
    });
    let told = of_llama_cpp.or(of_ollama).or(of_parameters).filter(|window| *window > 0);
    info.window = told.or(info.window);
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
    Some(ModelInfo { id, window, parameters })
}
