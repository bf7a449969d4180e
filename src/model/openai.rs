//! Any OpenAI-compatible endpoint, through async-openai with wire types of our own.
//!
//! The way of one request:
//!
//! 1. async-openai builds it; our own HTTP service sends it (`docs/decisions/0003-model-transport.md`), so that an
//!    HTTP status, a `Retry-After` and a broken connection keep their meaning whatever the server prints;
//! 2. the answer is streamed within bounds of memory, connection time and silence;
//! 3. an answer without a finish reason was cut off, and is an error;
//! 4. what the server refuses of the request ([`habits`](super::habits)) is left out from then on;
//! 5. what may pass by itself is asked again by [`RETRIES`]: a completion changes nothing at the server.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use super::discover::{self, ModelInfo};
use super::exchange::exchange;
use super::habits::Habits;
use super::link::{Failure, Link, Retry};
use super::provider::Provider;
use super::{Message, Model, ModelCard, ModelError, Reply, Request, wire};
use crate::outcome::Price;

/// How often and after what pause a request is sent again. The server's `Retry-After` lengthens a pause.
const RETRIES: ExponentialBuilder =
    ExponentialBuilder::new().with_jitter().with_factor(2.0).with_max_delay(Duration::from_secs(20)).with_max_times(4);
/// A server that wants us to wait longer than this is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What is needed to reach a model; all of it from the operator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The base address, with or without `/v1`. `None`: the first local server that answers.
    pub endpoint: Option<Url>,
    /// `None`: found by the address, or by what the server tells.
    pub provider: Option<Provider>,
    pub key: Option<SecretString>,
    /// Sent besides, with every request.
    pub headers: Vec<(String, SecretString)>,
    /// Fields of each request's body besides, or instead of ours.
    pub body: Map<String, Value>,
    /// `None`: the server's only model, else its first.
    pub model: Option<String>,
    /// The context window in tokens. `None`: what the server tells.
    pub window: Option<u64>,
    /// `None`: unknown.
    pub price: Option<Price>,
    /// A folder for what was found of models. `None`: nothing is kept.
    pub cache: Option<PathBuf>,
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
            provider: None,
            key: None,
            headers: Vec::new(),
            body: Map::new(),
            model: None,
            window: None,
            price: None,
            cache: None,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(600),
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// A model behind an OpenAI-compatible endpoint.
#[derive(Debug)]
pub struct OpenAi {
    pub(super) link: Link,
    pub(super) provider: Provider,
    /// As the server tells it.
    pub(super) version: Option<String>,
    pub(super) card: ModelCard,
    pub(super) cache: Option<PathBuf>,
    price: Option<Price>,
    /// Of the provider, then of the operator.
    fields: [Map<String, Value>; 2],
    retries: ExponentialBuilder,
    habits: Habits,
}

/// Finds the server and the model that `settings` mean, and what the server tells of it.
///
/// 1. without an endpoint, the first local server that answers is taken;
/// 2. without a model, its only or its first one is;
/// 3. a model that the server does not list is tried with one token, since some servers take any name;
/// 4. the context window is read where the server tells, unless the operator does; of Ollama it is asked for.
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
    // Keys and headers are for the server that the operator named, not for whoever listens on this machine.
    let own = match settings.endpoint {
        Some(_) => settings.clone(),
        None => Settings { key: None, headers: Vec::new(), ..settings.clone() },
    };
    let provider = settings.provider.or_else(|| Provider::of_address(&endpoint));
    let link = Link::new(&endpoint, provider.unwrap_or_default(), &own)?;
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
    let told = discover::ask(&link, provider, &info).await;
    info.window = told.window.or(info.window);
    if let Some(window) = settings.window {
        match told.provider {
            Provider::Ollama => notes.extend(discover::run_with_window(&link, &known, &mut info, window).await),
            Provider::Other
            | Provider::Vllm
            | Provider::LlamaCpp
            | Provider::LmStudio
            | Provider::OpenAi
            | Provider::Azure
            | Provider::OpenRouter
            | Provider::Anthropic => info.window = Some(window),
        }
    }
    let model = OpenAi {
        link,
        provider: told.provider,
        version: told.version,
        habits: Habits::of(told.provider, &info.id),
        fields: [told.provider.fields(), settings.body.clone()],
        cache: settings.cache.clone(),
        price: settings.price,
        retries: RETRIES.with_min_delay(settings.retry_delay),
        card: ModelCard { name: info.id, window: info.window, parameters: info.parameters, abilities: None },
    };
    if !listed {
        model.try_out(&known).await?;
        if !known.is_empty() {
            notes.push(format!("the server does not list the model `{}`, but answers for it", model.card.name));
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
        let info = listed.cloned().unwrap_or_else(|| ModelInfo { id: wanted.to_owned(), ..ModelInfo::default() });
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
    fn card(&self) -> &ModelCard {
        &self.card
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
            Ok(reply) => Ok(self.priced(reply)),
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

    /// Which kind of server it is.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Asks for one token, to learn whether the server has the model at all.
    async fn try_out(&self, known: &[ModelInfo]) -> Result<(), ModelError> {
        let messages = [Message::User { content: "Say yes.".into() }];
        match self.attempt(&Request::new(&messages, 1)).await.map_err(|failure| failure.error) {
            Err(ModelError::UnknownModel { model, .. }) => {
                Err(ModelError::UnknownModel { model, known: discover::name_all(known) })
            }
            Err(ModelError::Unauthorized { status }) => Err(ModelError::Unauthorized { status }),
            // Anything else is for the real request to meet, with its retries.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Sends the request once; again without each part that the server refuses.
    pub(super) async fn attempt(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        loop {
            let failure = match self.once(request).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let refused = match &failure.error {
                ModelError::Server { status: Some(400 | 422), message } => self.habits.learn(message),
                _ => None,
            };
            let Some(part) = refused else { return Err(failure) };
            tracing::debug!(?part, "the model server refuses a part of the request");
        }
    }

    /// The longest silence of its server.
    pub(super) fn silence(&self) -> Duration {
        self.link.silence
    }

    pub(super) fn was_refused_a_schema(&self) -> bool {
        !self.habits.shape().schema
    }

    /// Sends the request once, as the server's habits let it.
    async fn once(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        let fields: Vec<&Map<String, Value>> = self.fields.iter().collect();
        let body = wire::body(&self.card.name, request, self.habits.shape(), &fields);
        exchange(&self.link, &self.card.name, request, body).await
    }

    /// The operator's price; without one, what the server said that the answer costs.
    fn priced(&self, reply: Reply) -> Reply {
        let usage = reply.usage.map(|mut usage| {
            if let Some(price) = self.price {
                usage.micros = price.of_usage(&usage);
            }
            usage
        });
        Reply { usage, ..reply }
    }
}
