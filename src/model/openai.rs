//! Any OpenAI-compatible endpoint, through async-openai with wire types of our own.
//!
//! The way of one request:
//!
//! 1. async-openai builds it; our own HTTP service sends it (`docs/decisions/0003-model-transport.md`), so that an
//!    HTTP status, a `Retry-After` and a broken connection keep their meaning whatever the server prints;
//! 2. the answer is streamed within bounds of memory, connection time and silence;
//! 3. an answer without a finish reason was cut off, and is an error;
//! 4. what may pass by itself is asked again by [`RETRIES`]: a completion changes nothing at the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use futures_util::StreamExt;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use super::discover::{self, ModelInfo};
use super::link::{Failure, Fault, Link, Retry, transport};
use super::wire::{Assembly, Chunk, OutputLimit, WireRequest};
use super::{Model, ModelError, Reply, Request, refusal};

/// How often and after what pause a request is sent again. The server's `Retry-After` lengthens a pause.
const RETRIES: ExponentialBuilder =
    ExponentialBuilder::new().with_jitter().with_factor(2.0).with_max_delay(Duration::from_secs(20)).with_max_times(4);
/// A server that wants us to wait longer than this is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long to wait for usage figures once the answer is complete.
const TAIL_GRACE: Duration = Duration::from_secs(2);

/// What is needed to reach a model; all of it from the operator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The base address, with or without `/v1`. `None`: the first local server that answers.
    pub endpoint: Option<Url>,
    pub key: Option<SecretString>,
    /// `None`: the server's only model, else its first.
    pub model: Option<String>,
    /// The context window in tokens. `None`: what the server tells.
    pub window: Option<u64>,
    /// For a connection to stand. Default: 10 s.
    pub connect_timeout: Duration,
    /// The longest time without one byte from the server, which includes reading the prompt. Default: 600 s.
    pub silence_timeout: Duration,
    /// The first pause before a request is sent again; later ones double. Default: 0.5 s.
    pub retry_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            key: None,
            model: None,
            window: None,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(600),
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// A model behind an OpenAI-compatible endpoint.
#[derive(Debug)]
pub struct OpenAi {
    link: Link,
    info: ModelInfo,
    retries: ExponentialBuilder,
    /// The server refused `max_tokens`: send `max_completion_tokens`.
    newer_limit: AtomicBool,
}

/// Finds the server and the model that `settings` mean, and what the server tells of it.
///
/// 1. without an endpoint, the first local server that answers is taken;
/// 2. without a model, its only or its first one is;
/// 3. a model that the server does not list is tried with one token, since some servers take any name;
/// 4. the context window is read where the server tells, unless the operator does.
///
/// Besides the model, lines for the user: what was picked, and what is amiss.
pub async fn connect(settings: &Settings) -> Result<(OpenAi, Vec<String>), ModelError> {
    let mut notes = Vec::new();
    let endpoint = match &settings.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => {
            let candidate = discover::first_local(&discover::local_candidates()).await.ok_or_else(no_local_server)?;
            notes.push(format!("{} answers at {}", candidate.server, candidate.endpoint));
            candidate.endpoint
        }
    };
    // A key is for the server that the operator named, not for whoever listens on this machine.
    let key = settings.key.clone().filter(|_| settings.endpoint.is_some());
    let link = Link::new(&endpoint, &Settings { key, ..settings.clone() })?;
    let known = match discover::list(&link).await {
        Ok(known) => known,
        // Some gateways have no list; with a model's name there is no need for one.
        Err(ModelError::Server { status: Some(400..=599), .. }) if settings.model.is_some() => Vec::new(),
        Err(ModelError::Server { status, message }) => {
            let message = format!("{message} (at {}; is it an OpenAI-compatible endpoint?)", link.shown);
            return Err(ModelError::Server { status, message });
        }
        Err(error) => return Err(error),
    };
    let (mut info, listed) = pick(settings.model.as_deref(), &known, &link, &mut notes)?;
    match settings.window {
        Some(window) => info.window = Some(window),
        None => discover::read_window(&link, &mut info).await,
    }
    let retries = RETRIES.with_min_delay(settings.retry_delay);
    let model = OpenAi { link, info, retries, newer_limit: AtomicBool::new(false) };
    if !listed {
        model.try_out(&known).await?;
        if !known.is_empty() {
            notes.push(format!("the server does not list the model `{}`, but answers for it", model.info.id));
        }
    }
    Ok((model, notes))
}

fn no_local_server() -> ModelError {
    let tried: Vec<String> = discover::local_candidates().iter().map(ToString::to_string).collect();
    ModelError::Unreachable {
        endpoint: "127.0.0.1".into(),
        reason: format!("no local server answers (tried {}); start one or give its address", tried.join(", ")),
    }
}

/// The model to use, and whether the server lists it.
fn pick(
    wanted: Option<&str>,
    known: &[ModelInfo],
    link: &Link,
    notes: &mut Vec<String>,
) -> Result<(ModelInfo, bool), ModelError> {
    if let Some(wanted) = wanted {
        // Ollama lists `name:latest` for what users call `name`.
        let tagged = format!("{wanted}:latest");
        let listed = known.iter().find(|info| info.id == wanted || info.id == tagged);
        let info =
            listed.cloned().unwrap_or_else(|| ModelInfo { id: wanted.to_owned(), window: None, parameters: None });
        return Ok((info, listed.is_some()));
    }
    let Some(first) = known.first() else {
        return Err(ModelError::Server {
            status: None,
            message: format!("{} serves no model; load one, or name one", link.shown),
        });
    };
    if known.len() > 1 {
        notes.push(format!("no model was named: taking `{}`, the first of {}", first.id, known.len()));
    } else {
        notes.push(format!("the model is `{}`", first.id));
    }
    Ok((first.clone(), true))
}

#[async_trait]
impl Model for OpenAi {
    fn name(&self) -> &str {
        &self.info.id
    }

    fn window(&self) -> Option<u64> {
        self.info.window
    }

    fn parameters(&self) -> Option<u64> {
        self.info.parameters
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let result = (|| self.attempt(request))
            .retry(self.retries)
            .sleep(tokio::time::sleep)
            .when(|failure: &Failure| failure.retry != Retry::Never)
            .adjust(|failure, pause| match failure.retry {
                Retry::After(wanted) if wanted > LONGEST_RETRY_AFTER => None,
                Retry::After(wanted) => pause.map(|pause| pause.max(wanted)),
                Retry::Soon | Retry::Never => pause,
            })
            .notify(|failure, pause| tracing::debug!(?pause, error = %failure.error, "asking the model again"))
            .await;
        match result {
            Ok(reply) => Ok(reply),
            Err(Failure { error: ModelError::UnknownModel { model, .. }, .. }) => {
                let known = discover::list(&self.link).await.unwrap_or_default();
                Err(ModelError::UnknownModel { model, known: discover::name_all(&known) })
            }
            Err(failure) => Err(failure.error),
        }
    }
}

impl OpenAi {
    /// The address, without credentials.
    pub fn endpoint(&self) -> &str {
        &self.link.shown
    }

    /// Asks for one token, to learn whether the server has the model at all.
    async fn try_out(&self, known: &[ModelInfo]) -> Result<(), ModelError> {
        let messages = [super::Message::User { content: "Say yes.".into() }];
        let request = Request { messages: &messages, tools: &[], max_tokens: 1, temperature: None };
        match self.attempt(&request).await.map_err(|failure| failure.error) {
            Err(ModelError::UnknownModel { model, .. }) => {
                Err(ModelError::UnknownModel { model, known: discover::name_all(known) })
            }
            Err(ModelError::Unauthorized { status }) => Err(ModelError::Unauthorized { status }),
            // Anything else is for the real request to meet, with its retries.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Sends the request once; once more if all that is wrong is the name of the limit.
    async fn attempt(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        if self.newer_limit.load(Ordering::Relaxed) {
            return self.send(request, OutputLimit::MaxCompletionTokens).await;
        }
        match self.send(request, OutputLimit::MaxTokens).await {
            Err(Failure { error: ModelError::Server { status: Some(400), message }, .. })
                if message.contains("max_completion_tokens") =>
            {
                self.newer_limit.store(true, Ordering::Relaxed);
                self.send(request, OutputLimit::MaxCompletionTokens).await
            }
            other => other,
        }
    }

    async fn send(&self, request: &Request<'_>, limit: OutputLimit) -> Result<Reply, Failure> {
        let fault = Fault::default();
        let link = self.link.clone();
        let model = self.info.id.clone();
        let service = {
            let (link, fault, model) = (link.clone(), fault.clone(), model.clone());
            tower::service_fn(move |factory: HttpRequestFactory| {
                transport(link.clone(), fault.clone(), model.clone(), factory)
            })
        };
        let client = Client::build(link.http.clone(), link.clone()).with_http_service(service);
        let wire = WireRequest::new(&model, request, limit);
        let cut = |assembly: &Assembly| {
            Failure::soon(ModelError::Cut(format!("the stream ended after {} bytes", assembly.received_bytes())))
        };
        // Tokens of more than 32 bytes on average do not exist: a server beyond that does not keep the limit.
        let most_bytes = (request.max_tokens as usize).saturating_mul(32).max(64 << 10);
        let mut assembly = Assembly::new(request.messages.len(), most_bytes);

        let mut stream = match client.chat().create_stream_byot::<_, Value>(wire).await {
            Ok(stream) => stream,
            Err(error) => return Err(fault.take().unwrap_or_else(|| link.server_failure(None, &error.to_string()))),
        };
        loop {
            let next = if assembly.is_complete() {
                tokio::time::timeout(TAIL_GRACE, stream.next()).await.unwrap_or(None)
            } else {
                stream.next().await
            };
            match next {
                Some(Ok(value)) => {
                    let chunk: Chunk = serde_json::from_value(value)
                        .map_err(|error| link.server_failure(None, &format!("an unreadable chunk: {error}")))?;
                    if let Some(error) = &chunk.error {
                        return Err(link.failure_of(refusal::of_stream_error(error, &model), None));
                    }
                    if !assembly.take(chunk) {
                        break;
                    }
                }
                Some(Err(_)) if assembly.is_complete() => break,
                Some(Err(OpenAIError::JSONDeserialize(error, _))) => {
                    return Err(link.server_failure(None, &format!("an unreadable chunk: {error}")));
                }
                Some(Err(_)) => return Err(fault.take().unwrap_or_else(|| cut(&assembly))),
                None => break,
            }
        }
        let failure = cut(&assembly);
        assembly.finish().ok_or(failure)
    }
}
