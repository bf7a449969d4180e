//! The one way to the forge: every request of octocrab's and of our own is sent here.
//!
//! A request gets its credential, waits for the [`Manners`], goes out, is read to its end, is learned from, and is
//! logged. A limit is waited for and the request sent again, since it had no effect; nothing else is repeated here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use octocrab::OctoBody;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::identity::{App, Identity, Minted, WireToken};
use super::manners::{Manners, TooLong, forge_time};
use super::{ForgeError, Settings};
use crate::task::RepositoryName;

/// How often one request may meet a limit.
const MOST_LIMITS: u32 = 3;
/// Where questions in GraphQL go; we ask there, and change nothing.
pub(super) const GRAPHQL: &str = "/graphql";
/// What an answer may hold: 100 issues of 65,536 characters of up to four bytes, and room.
const LONGEST_ANSWER: usize = 40 << 20;

/// A connection as one identity. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    /// Without a slash at its end.
    base: Arc<str>,
    reads: reqwest::Client,
    writes: reqwest::Client,
    longest_wait: Duration,
    pub(super) identity: Identity,
    pub(super) manners: Arc<Manners>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("the rate limit lifts in {} s", .0.as_secs())]
    Limited(Duration),
    #[error("{0}")]
    Lost(String),
    #[error(transparent)]
    Credential(ForgeError),
}

impl Wire {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let tls = crate::tls::configuration()?;
        let client = |redirects| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(settings.timeout)
                .read_timeout(settings.timeout)
                .redirect(redirects)
                .build()
        };
        Ok(Self {
            base: settings.api_url.as_str().trim_end_matches('/').into(),
            // A renamed repository answers reads with a redirect; a redirected POST would silently become a GET.
            reads: client(reqwest::redirect::Policy::limited(5))?,
            writes: client(reqwest::redirect::Policy::none())?,
            longest_wait: settings.longest_wait,
            identity: Identity::new(&settings.credentials)?,
            manners: Arc::new(Manners::new(settings.write_spacing)),
        })
    }

    /// The same connection for a task on `repository`.
    pub(super) fn for_repository(&self, repository: &RepositoryName) -> Self {
        Self { identity: self.identity.for_repository(repository), ..self.clone() }
    }

    /// The same connection without credentials.
    pub(super) fn as_nobody(&self) -> Self {
        Self { identity: Identity::Nobody, ..self.clone() }
    }

    /// The credential for requests about `repository`; an App's is minted if need be.
    pub(super) async fn token_for(&self, repository: &RepositoryName) -> Result<Option<SecretString>, ForgeError> {
        match &self.identity {
            Identity::Nobody => Ok(None),
            Identity::Token(token) => Ok(Some(token.clone())),
            Identity::App(app) => Ok(Some(self.installation_token(app, repository).await?)),
        }
    }

    /// Sends a request of our own; the body of an answer that is no refusal.
    pub(super) async fn ask(&self, request: Request<OctoBody>, what: &str) -> Result<Vec<u8>, ForgeError> {
        let answer = self.send(request).await.map_err(|no| no.into_forge_error(what))?;
        let status = answer.status();
        let bytes = reqwest::Response::from(answer).bytes().await;
        let lost = |error| ForgeError::Transient { what: what.to_owned(), message: root_cause(&error) };
        let bytes = bytes.map_err(lost)?.to_vec();
        match status.is_success() {
            true => Ok(bytes),
            false => Err(refusal(status, what.to_owned(), message_of(&bytes))),
        }
    }

    async fn send(&self, request: Request<OctoBody>) -> Result<Response<reqwest::Body>, NoAnswer> {
        let (parts, body) = request.into_parts();
        let mut spare = body.try_clone();
        let answer = self.send_as_ourselves(&parts, body).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.forget_token(&parts).await {
            return Ok(answer);
        }
        // An installation's token may end early, as when its permissions change. The refused request had no effect.
        self.send_as_ourselves(&parts, spare.take().unwrap_or_else(OctoBody::empty)).await
    }

    async fn send_as_ourselves(&self, parts: &Parts, body: OctoBody) -> Result<Response<reqwest::Body>, NoAnswer> {
        let (bearer, primary) = match (&self.identity, repository_of(parts)) {
            (Identity::Nobody, _) => (None, true),
            (Identity::Token(token), _) => (Some(token.clone()), true),
            (Identity::App(app), None) => (Some(own_proof(app)?), false),
            (Identity::App(app), Some(repository)) => {
                let token = self.installation_token(app, &repository).await.map_err(NoAnswer::Credential)?;
                (Some(token), true)
            }
        };
        self.send_as(bearer.as_ref(), primary, parts, body).await
    }

    /// `primary`: the primary limit of the answer is the one that our requests count against.
    async fn send_as(
        &self,
        bearer: Option<&SecretString>,
        primary: bool,
        parts: &Parts,
        body: OctoBody,
    ) -> Result<Response<reqwest::Body>, NoAnswer> {
        let mut patience = self.longest_wait;
        let mut body = Some(body);
        let mut met = 0;
        loop {
            let now = body.take().unwrap_or_else(OctoBody::empty);
            body = now.try_clone();
            let write = has_body(parts) && parts.uri.path() != GRAPHQL;
            let pass = self.manners.admit(write, &mut patience).await.map_err(|TooLong(wait)| NoAnswer::Limited(wait));
            let pass = pass?;
            let begun = Instant::now();
            let exchanged = self.exchange(bearer, parts, now).await;
            let took = begun.elapsed();
            let (head, bytes) = match exchanged {
                Ok(answer) => answer,
                Err(message) => {
                    self.manners.lost();
                    log(parts, None, took, &self.manners, &message);
                    return Err(NoAnswer::Lost(message));
                }
            };
            let wait = self.manners.learn(head.status.as_u16(), &head.headers, &bytes, primary);
            log(parts, Some(head.status.as_u16()), took, &self.manners, "");
            drop(pass);
            met += 1;
            match wait {
                None => return Ok(Response::from_parts(head, reqwest::Body::from(bytes))),
                Some(wait) if wait > patience || met >= MOST_LIMITS => return Err(NoAnswer::Limited(wait)),
                Some(_) => {}
            }
        }
    }

    async fn exchange(
        &self,
        bearer: Option<&SecretString>,
        parts: &Parts,
        body: OctoBody,
    ) -> Result<(http::response::Parts, Vec<u8>), String> {
        let route = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // An Enterprise server has `/api/v3` and `/api/graphql` side by side.
        let base = match route == GRAPHQL {
            true => self.base.strip_suffix("/v3").unwrap_or(&self.base),
            false => &self.base,
        };
        let mut headers = parts.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        if let Some(bearer) = bearer {
            let value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose_secret()));
            let mut value = value.map_err(|_| "the credential holds characters that no token has".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = if has_body(parts) { &self.writes } else { &self.reads };
        let request = client.request(parts.method.clone(), format!("{base}{route}")).headers(headers);
        let request = if has_body(parts) { request.body(reqwest::Body::wrap(body)) } else { request };
        let answer = request.send().await.map_err(|error| root_cause(&error))?;
        let (head, mut body) = {
            let (head, body) = Response::<reqwest::Body>::from(answer).into_parts();
            (head, reqwest::Response::from(Response::new(body)))
        };
        let mut bytes = Vec::new();
        while let Some(piece) = body.chunk().await.map_err(|error| root_cause(&error))? {
            if bytes.len() + piece.len() > LONGEST_ANSWER {
                return Err(format!("the answer is longer than {LONGEST_ANSWER} bytes"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((head, bytes))
    }

    /// The installation's token for one repository, minted when there is none or it nears its end.
    async fn installation_token(&self, app: &App, repository: &RepositoryName) -> Result<SecretString, ForgeError> {
        let slot = app.slot(repository);
        let mut kept = slot.lock().await;
        if let Some(minted) = kept.as_ref().filter(|minted| minted.renew_at > tokio::time::Instant::now()) {
            return Ok(minted.token.clone());
        }
        let minted = super::retry::repeat(|| self.mint(app, repository)).await?;
        let token = minted.token.clone();
        *kept = Some(minted);
        Ok(token)
    }

    /// A token with what a task needs, and with the permission for workflows where the installation grants it.
    async fn mint(&self, app: &App, repository: &RepositoryName) -> Result<Minted, ForgeError> {
        if app.may_have_workflows.load(Ordering::Relaxed) {
            match self.mint_with(app, repository, true).await {
                Err(ForgeError::Unprocessable { .. }) => {}
                minted => return minted,
            }
        }
        let minted = self.mint_with(app, repository, false).await?;
        app.may_have_workflows.store(false, Ordering::Relaxed);
        Ok(minted)
    }

    async fn mint_with(&self, app: &App, repository: &RepositoryName, workflows: bool) -> Result<Minted, ForgeError> {
        let what = format!("a token of the GitHub App for {repository} (is the App installed there?)");
        let mut wanted = serde_json::json!({
            "repositories": [repository.name],
            "permissions": {
                "contents": "write", "issues": "write", "pull_requests": "write", "statuses": "write",
                "metadata": "read",
            },
        });
        if workflows {
            wanted["permissions"]["workflows"] = "write".into();
        }
        let request = Request::post(format!("/app/installations/{}/access_tokens", app.installation))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(OctoBody::from(wanted.to_string()));
        let request =
            request.map_err(|error| ForgeError::Unexpected { what: what.clone(), message: error.to_string() });
        let (parts, body) = request?.into_parts();
        let bearer = own_proof(app).map_err(|no| no.into_forge_error(&what))?;
        let answer = self.send_as(Some(&bearer), false, &parts, body).await.map_err(|no| no.into_forge_error(&what))?;
        let now = forge_time(answer.headers());
        let status = answer.status();
        let bytes = reqwest::Response::from(answer).bytes().await;
        let bytes = bytes.map_err(|error| ForgeError::Transient { what: what.clone(), message: root_cause(&error) })?;
        if !status.is_success() {
            return Err(refusal(status, what, message_of(&bytes)));
        }
        let token: Result<WireToken, _> = serde_json::from_slice(&bytes);
        // The cause is left out: it could quote the token.
        let minted = token.ok().and_then(|token| token.into_minted(now).ok());
        minted.ok_or_else(|| ForgeError::Unexpected { what, message: "it is no token with an end".into() })
    }

    /// Forgets the installation's token that a request was made with; whether there was one.
    async fn forget_token(&self, parts: &Parts) -> bool {
        match (&self.identity, repository_of(parts)) {
            (Identity::App(app), Some(repository)) => app.slot(&repository).lock().await.take().is_some(),
            (Identity::Nobody | Identity::Token(_) | Identity::App(_), _) => false,
        }
    }
}

impl tower::Service<Request<OctoBody>> for Wire {
    type Response = Response<reqwest::Body>;
    type Error = NoAnswer;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<OctoBody>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move { wire.send(request).await })
    }
}

impl NoAnswer {
    /// `what` was asked for.
    pub(super) fn into_forge_error(self, what: &str) -> ForgeError {
        match self {
            NoAnswer::Limited(wait) => ForgeError::RateLimited { wait },
            NoAnswer::Lost(message) => ForgeError::Transient { what: what.to_owned(), message },
            NoAnswer::Credential(error) => error,
        }
    }
}

/// What a refusing status means; limits have been dealt with.
pub(super) fn refusal(status: StatusCode, what: String, message: String) -> ForgeError {
    match status.as_u16() {
        401 => ForgeError::Unauthorized,
        403 | 429 => ForgeError::Forbidden { what, message },
        404 | 410 => ForgeError::NotFound { what },
        422 => ForgeError::Unprocessable { what, message },
        status @ 500..=599 => ForgeError::Transient { what, message: format!("HTTP {status}: {message}") },
        status => ForgeError::Unexpected { what, message: format!("HTTP {status}: {message}") },
    }
}

/// The innermost cause, in one line: the outer ones quote addresses.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}

fn own_proof(app: &App) -> Result<SecretString, NoAnswer> {
    app.bearer().map_err(|_| NoAnswer::Lost("the App's key cannot sign".into()))
}

fn has_body(parts: &Parts) -> bool {
    parts.method != Method::GET && parts.method != Method::HEAD
}

/// The repository that a request is about: it says so, or its path does.
fn repository_of(parts: &Parts) -> Option<RepositoryName> {
    if let Some(repository) = parts.extensions.get::<RepositoryName>() {
        return Some(repository.clone());
    }
    let mut segments = parts.uri.path().strip_prefix("/repos/")?.split('/');
    RepositoryName::parse(&format!("{}/{}", segments.next()?, segments.next()?))
}

fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.message).unwrap_or_default()
}

/// One line for each request; neither its query, its headers nor its body is in it.
fn log(parts: &Parts, status: Option<u16>, took: Duration, manners: &Manners, trouble: &str) {
    tracing::debug!(
        method = %parts.method,
        path = parts.uri.path(),
        status,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        remaining = manners.limits().remaining,
        trouble,
        "forge request"
    );
}
