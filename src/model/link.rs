//! The way to one server: address, key, HTTP client; and what a broken way means.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::openai::Settings;
use super::provider::Provider;
use super::{ModelError, refusal};

/// The most bytes that one answer may have on the wire.
const MOST_STREAM_BYTES: usize = 64 << 20;
/// The most bytes of an error's body that are read.
const MOST_ERROR_BYTES: usize = 64 << 10;
/// A shorter value of a header is nothing to hide, and stands in other words too.
const SHORTEST_SECRET: usize = 5;

/// Sends one request and gives async-openai a body that is bounded and always an event stream.
pub(super) async fn transport(
    link: Link,
    fault: Fault,
    model: String,
    alive: Alive,
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
            let _until_dropped = &alive;
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

/// Held by a connection's body as long as it is open.
pub(super) type Alive = tokio::sync::mpsc::Sender<()>;

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
    /// What stands behind the `?` of the address.
    query: Vec<(String, String)>,
    /// The same, as it is written.
    suffix: String,
    headers: HeaderMap,
    key: SecretString,
    /// The key, what other headers hold, and the values behind the `?`, also as they are written there.
    secrets: Vec<SecretString>,
    pub(super) silence: Duration,
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
        self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
    fn api_base(&self) -> &str {
        &self.base
    }
    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

impl Link {
    pub(super) fn new(endpoint: &Url, provider: Provider, settings: &Settings) -> Result<Self, ModelError> {
        let query: Vec<(String, String)> = endpoint.query_pairs().into_owned().collect();
        let suffix = endpoint.query().map(|query| format!("?{query}")).unwrap_or_default();
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
        let key = settings.key.clone().unwrap_or_default();
        let headers = headers(provider, &key, &settings.headers).map_err(refuse)?;
        let tls = crate::tls::configuration().map_err(|error| refuse(error.to_string()))?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.silence_timeout)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| refuse(innermost(&error)))?;
        let base = base.as_str().trim_end_matches('/').to_owned();
        let written = endpoint.query().into_iter().flat_map(|query| query.split('&'));
        let written = written.filter_map(|pair| pair.split_once('=').map(|(_, value)| value));
        let asked = query.iter().map(|(_, value)| value.as_str()).chain(written).map(SecretString::from);
        let headed = settings.headers.iter().map(|(_, value)| value.clone());
        let secrets = headed.chain([key.clone()]).chain(asked).collect();
        Ok(Self { http, base, shown, query, suffix, headers, key, secrets, silence: settings.silence_timeout })
    }

    /// The address of `path` below the base.
    pub(super) fn below(&self, path: &str) -> String {
        format!("{}{path}{}", self.base, self.suffix)
    }

    /// The address of `path` beside the base, for what servers have outside of `/v1`.
    pub(super) fn beside(&self, path: &str) -> String {
        format!("{}{path}{}", self.base.trim_end_matches("/v1"), self.suffix)
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

    pub(super) fn server_failure(&self, status: Option<u16>, message: &str) -> Failure {
        self.failure_of(ModelError::Server { status, message: refusal::one_line(message) }, None)
    }

    fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let is_secret = |secret: &&str| secret.len() >= SHORTEST_SECRET;
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret).filter(is_secret) {
            text = text.replace(secret, "[key]");
        }
        text
    }
}

/// The headers of every request; an error says which value no header can carry, and not the value.
fn headers(provider: Provider, key: &SecretString, extra: &[(String, SecretString)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let key = key.expose_secret();
    let mut add = |name: &str, what: &str, value: &str| {
        let header = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of an HTTP header"))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("{what} holds characters that no HTTP header can carry"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
        Ok::<(), String>(())
    };
    if !key.is_empty() {
        let (name, scheme) = provider.key_header();
        add(name, "the key", &format!("{scheme}{key}"))?;
    }
    for (name, value) in provider.headers(key).into_iter().filter(|(_, value)| !value.is_empty()) {
        add(name, "the key", &value)?;
    }
    for (name, value) in extra {
        add(name, &format!("the header `{name}`"), value.expose_secret())?;
    }
    Ok(headers)
}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: ModelError,
    pub(super) retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Soon,
    After(Duration),
}

impl Failure {
    pub(super) fn soon(error: ModelError) -> Self {
        Self { error, retry: Retry::Soon }
    }
}

/// Carries a typed failure past async-openai, which would turn it into text.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<Failure>>>);

impl Fault {
    fn set(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    pub(super) fn take(&self) -> Option<Failure> {
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
