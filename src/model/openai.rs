//! Any OpenAI-compatible endpoint, through async-openai with wire types of our own.
//!
//! The way of one request:
//!
//! 1. async-openai builds it; our own HTTP service sends it (`docs/decisions/0003-model-transport.md`), so that an
//!    HTTP status, a `Retry-After` and a broken connection keep their meaning whatever the server prints;
//! 2. the answer is streamed within bounds of memory, connection time and silence;
//! 3. an answer without a finish reason was cut off, and is an error;
//! 4. what may pass by itself is asked again by [`RETRIES`]: a completion changes nothing at the server.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::discover::{self, ModelInfo};
use super::wire::{Assembly, Chunk, OutputLimit, WireRequest};
use super::{Model, ModelError, Reply, Request, refusal};

/// How often and after what pause a request is sent again. The server's `Retry-After` lengthens a pause.
const RETRIES: ExponentialBuilder =
    ExponentialBuilder::new().with_jitter().with_factor(2.0).with_max_delay(Duration::from_secs(20)).with_max_times(4);
/// A server that wants us to wait longer than this is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The most bytes that one answer may have on the wire.
const MOST_STREAM_BYTES: usize = 64 << 20;
/// The most bytes of an error's body that are read.
const MOST_ERROR_BYTES: usize = 64 << 10;
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
/// 4. the context window is read where the server tells.
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
    let link = Link::new(&endpoint, settings)?;
    let known = match discover::list(&link).await {
        Ok(known) => known,
        // Some gateways have no list; with a model's name there is no need for one.
        Err(ModelError::Server { status: Some(400..=599), .. }) if settings.model.is_some() => Vec::new(),
        Err(error) => return Err(error),
    };
    let (mut info, listed) = pick(settings.model.as_deref(), &known, &link, &mut notes)?;
    discover::read_window(&link, &mut info).await;
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
        let info = listed.cloned().unwrap_or_else(|| ModelInfo { id: wanted.to_owned(), window: None });
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
                Some(Err(_)) => return Err(fault.take().unwrap_or_else(|| cut(&assembly))),
                None => break,
            }
        }
        let failure = cut(&assembly);
        assembly.finish().ok_or(failure)
    }
}

/// Sends one request and gives async-openai a body that is bounded and always an event stream.
async fn transport(
    link: Link,
    fault: Fault,
    model: String,
    factory: HttpRequestFactory,
) -> Result<reqwest::Response, OpenAIError> {
    let reported = || OpenAIError::InvalidArgument("the cause is in the fault".into());
    let response = link.http.execute(factory.build().await?).await.map_err(|error| {
        fault.set(link.failure_of_transport(&error));
        reported()
    })?;
    let status = response.status();
    if !status.is_success() {
        let after = refusal::retry_after(response.headers());
        let body = read_bounded(response, MOST_ERROR_BYTES).await.unwrap_or_default();
        fault.set(link.failure_of(refusal::of_answer(status.as_u16(), &body, &model), after));
        return Err(reported());
    }
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    if is_json {
        // The server does not stream: its one object becomes a stream of one event.
        let body = read_bounded(response, MOST_STREAM_BYTES).await.map_err(|error| {
            fault.set(link.failure_of_transport(&error));
            reported()
        })?;
        let value: Value = serde_json::from_slice(&body).map_err(|error| {
            fault.set(link.server_failure(None, &format!("an unreadable answer: {error}")));
            reported()
        })?;
        let body = reqwest::Body::from(format!("data: {value}\n\ndata: [DONE]\n\n"));
        return Ok(http::Response::new(body).into());
    }
    let mut left = MOST_STREAM_BYTES;
    let pieces = response.bytes_stream().map(move |piece| match piece {
        Ok(piece) if piece.len() <= left => {
            left -= piece.len();
            Ok(piece)
        }
        Ok(_) => {
            fault.set(link.server_failure(None, "the answer has no end"));
            Err(std::io::Error::other("too long"))
        }
        Err(error) => {
            fault.set(link.failure_of_transport(&error));
            Err(std::io::Error::other("broken"))
        }
    });
    Ok(http::Response::new(reqwest::Body::wrap_stream(pieces)).into())
}

/// The body up to `limit` bytes; what is beyond is not read.
pub(super) async fn read_bounded(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = limit - body.len();
        body.extend(piece.iter().take(room));
        if piece.len() >= room {
            break;
        }
    }
    Ok(body)
}

/// The way to one server: address, key and client.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) http: reqwest::Client,
    /// With `/v1`, without a slash at the end.
    base: String,
    /// The base without credentials and query: for people.
    pub(super) shown: String,
    headers: HeaderMap,
    key: SecretString,
    silence: Duration,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("endpoint", &self.shown).finish_non_exhaustive()
    }
}

impl Config for Link {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }
    fn api_base(&self) -> &str {
        &self.base
    }
    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

impl Link {
    pub(super) fn new(endpoint: &Url, settings: &Settings) -> Result<Self, ModelError> {
        let base = with_version(endpoint);
        let shown = {
            let mut shown = base.clone();
            // Both fail only for addresses that cannot hold credentials.
            let _ = shown.set_username("");
            let _ = shown.set_password(None);
            shown.to_string()
        };
        let refuse = |message: String| ModelError::Unreachable { endpoint: shown.clone(), reason: message };
        if !matches!(base.scheme(), "http" | "https") {
            return Err(refuse("the address must begin with http:// or https://".into()));
        }
        let mut headers = HeaderMap::new();
        let key = settings.key.clone().unwrap_or_default();
        if !key.expose_secret().is_empty() {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
                .map_err(|_| refuse("the key holds characters that no HTTP header can carry".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // reqwest panics where no provider is installed; a second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.silence_timeout)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // No roots are needed: a machine without any must still reach its local model.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| refuse(innermost(&error)))?;
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, base, shown, headers, key, silence: settings.silence_timeout })
    }

    /// The address of `path` below the base; or beside it, for what servers have outside `/v1`.
    pub(super) fn beside(&self, path: &str) -> String {
        format!("{}{path}", self.base.trim_end_matches("/v1"))
    }

    /// The error with this link's key scrubbed, and whether it may pass by itself.
    pub(super) fn failure_of(&self, error: ModelError, after: Option<Duration>) -> Failure {
        let retry = match (&error, after) {
            (ModelError::Server { status: Some(408 | 425 | 429 | 500..=599), .. }, Some(after)) => Retry::After(after),
            (ModelError::Server { status: Some(408 | 425 | 429 | 500..=599), .. }, None) => Retry::Soon,
            _ => Retry::Never,
        };
        let error = match error {
            ModelError::Server { status, message } => ModelError::Server { status, message: self.scrub(&message) },
            ModelError::ContextOverflow(message) => ModelError::ContextOverflow(self.scrub(&message)),
            other => other,
        };
        Failure { error, retry }
    }

    pub(super) fn failure_of_transport(&self, error: &reqwest::Error) -> Failure {
        let reason = self.scrub(&innermost(error));
        if error.is_connect() {
            let reason = if error.is_timeout() { "the connection did not stand in time".into() } else { reason };
            Failure::soon(ModelError::Unreachable { endpoint: self.shown.clone(), reason })
        } else if error.is_timeout() || reason.contains("timed out") {
            Failure { error: ModelError::Silent { seconds: self.silence.as_secs() }, retry: Retry::Never }
        } else if error.is_body() || error.is_decode() {
            Failure::soon(ModelError::Cut(reason))
        } else {
            Failure::soon(ModelError::Unreachable { endpoint: self.shown.clone(), reason })
        }
    }

    fn server_failure(&self, status: Option<u16>, message: &str) -> Failure {
        self.failure_of(ModelError::Server { status, message: refusal::one_line(message) }, None)
    }

    fn scrub(&self, text: &str) -> String {
        match self.key.expose_secret() {
            "" => text.to_owned(),
            key => text.replace(key, "[key]"),
        }
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: ModelError,
    retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    Soon,
    After(Duration),
}

impl Failure {
    fn soon(error: ModelError) -> Self {
        Self { error, retry: Retry::Soon }
    }
}

/// Carries a typed failure past async-openai, which would turn it into text.
#[derive(Debug, Clone, Default)]
struct Fault(Arc<Mutex<Option<Failure>>>);

impl Fault {
    fn set(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The address with `/v1` if it has no path at all.
fn with_version(endpoint: &Url) -> Url {
    let mut base = endpoint.clone();
    base.set_query(None);
    base.set_fragment(None);
    if matches!(base.path(), "" | "/") {
        base.set_path("/v1");
    }
    base
}

fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The cause at the bottom of an error: `Connection refused (os error 111)`.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    while let Some(inner) = cause {
        text = Some(inner.to_string());
        cause = inner.source();
    }
    refusal::one_line(&text.unwrap_or_else(|| "the request failed".into()))
}
