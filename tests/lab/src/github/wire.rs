//! A request's way through the lab: record, contract, fault, token, limit, operation, answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, USER_AGENT};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::{self, Call};
use super::fault::{self, Fault};
use super::reply::{Page, Reply};
use super::state::Token;
use super::{Exchange, Shared, apps, contract, smart_http};
use crate::clock::now;
use crate::http::{Hangup, Response, cut, full, hex, query_pairs, whole};

/// The path before every operation of the REST interface, as on GitHub Enterprise.
pub(super) const PREFIX: &str = "/api/v3";
/// Where questions in GraphQL go, as there.
const GRAPHQL: &str = "/api/graphql";

/// Serves one request.
pub(super) async fn serve(shared: &Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Response, Hangup> {
    let path = request.uri().path().to_owned();
    match (path.strip_prefix(PREFIX), smart_http::parse(&path)) {
        (Some(rest), _) if rest.starts_with('/') => rest_interface(shared, rest, request).await,
        _ if path == GRAPHQL => rest_interface(shared, "/graphql", request).await,
        (_, Some((name, rest))) => git(shared, &path, &name, &rest, request).await,
        _ => {
            let exchange = shared.record(exchange(&request, &path, &[]));
            shared.violation(format!("{} {path}: neither below {PREFIX} nor a repository", request.method()));
            shared.answered(exchange, 404);
            Ok(plain(404, "Not Found"))
        }
    }
}

async fn git(
    shared: &Shared,
    path: &str,
    name: &str,
    rest: &str,
    request: hyper::Request<Incoming>,
) -> Result<Response, Hangup> {
    let exchange = shared.record(exchange(&request, path, &[]));
    let fault = shared.take_fault(request.method().as_str(), path);
    if let Some(status) = delay_or_refuse(&fault).await? {
        shared.answered(exchange, status);
        return Ok(plain(status, "The lab refuses."));
    }
    let answer = smart_http::serve(shared, name, rest, request).await.unwrap_or_else(|error| {
        shared.violation(format!("the lab's git: {error:#}"));
        plain(500, "The lab's git failed.")
    });
    shared.answered(exchange, answer.status().as_u16());
    match fault {
        Some(Fault::AnswerLost) => Err(Hangup),
        Some(Fault::CutBody) => {
            let (parts, body) = answer.into_parts();
            let bytes = http_body_util::BodyExt::collect(body).await.map_err(|_| Hangup)?.to_bytes();
            Ok(Response::from_parts(parts, cut(bytes)))
        }
        _ => Ok(answer),
    }
}

/// The faults that need no knowledge of what is asked: the status to refuse with, if any.
async fn delay_or_refuse(fault: &Option<Fault>) -> Result<Option<u16>, Hangup> {
    match fault {
        Some(Fault::Status(status)) => Ok(Some(*status)),
        Some(Fault::SecondaryLimit { .. } | Fault::PrimaryLimit { .. }) => Ok(Some(429)),
        Some(Fault::Hangup) => Err(Hangup),
        Some(Fault::Slow(delay)) => {
            tokio::time::sleep(*delay).await;
            Ok(None)
        }
        Some(Fault::AnswerLost | Fault::CutBody) | None => Ok(None),
    }
}

async fn rest_interface(
    shared: &Arc<Shared>,
    path: &str,
    request: hyper::Request<Incoming>,
) -> Result<Response, Hangup> {
    let (parts, body) = request.into_parts();
    let body = whole(body).await.map_err(|_| Hangup)?;
    let method = contract::method(parts.method.as_str(), path);
    let query = query_pairs(parts.uri.query().unwrap_or_default());
    let request = hyper::Request::from_parts(parts.clone(), ());
    let number = shared.record(exchange(&request, path, &body));
    if path != "/graphql" {
        for wrong in contract::check_request(method, path, &query, &body) {
            shared.violation(wrong);
        }
    }
    let fault = shared.take_fault(method, path);
    let given = smart_http::password(&parts.headers);
    let (mut reply, token) = match early(&fault).await? {
        Some(reply) => (reply, None),
        None if !parts.headers.contains_key(USER_AGENT) => (
            Reply::error(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.",
            ),
            None,
        ),
        None => carry_out(shared, method, path, &query, &body, given.as_deref()).await,
    };
    let mut answer = http(shared, &parts.headers, path, &query, &reply, token.as_ref());
    for wrong in contract::check_answer(method, path, reply.status, &reply.body) {
        shared.violation(wrong);
    }
    let unchanged = answer.status() == 304;
    if let (Some(given), Some(_), false) = (&given, &token, unchanged || path == "/rate_limit") {
        shared.count(given);
    }
    limit_headers(shared, &mut answer, given.as_deref(), &fault);
    if path == "/graphql" {
        answer.headers_mut().insert("x-ratelimit-resource", hyper::header::HeaderValue::from_static("graphql"));
    }
    shared.answered(number, answer.status().as_u16());
    for (name, payload) in std::mem::take(&mut reply.events) {
        shared.deliver(name, &payload);
    }
    match fault {
        Some(Fault::AnswerLost) => Err(Hangup),
        // There is no body to cut.
        Some(Fault::CutBody) if matches!(answer.status().as_u16(), 204 | 304) => Err(Hangup),
        Some(Fault::CutBody) => {
            let bytes = serde_json::to_vec(&reply.body).unwrap_or_default();
            let length = bytes.len();
            let mut broken = answer.map(|_| cut(Bytes::from(bytes)));
            broken.headers_mut().insert("content-length", length.into());
            Ok(broken)
        }
        _ => Ok(answer),
    }
}

/// What a fault answers before anything takes effect.
async fn early(fault: &Option<Fault>) -> Result<Option<Reply>, Hangup> {
    Ok(match fault {
        Some(Fault::SecondaryLimit { .. }) => Some(Reply::error(
            403,
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        )),
        Some(Fault::PrimaryLimit { .. }) => Some(Reply::error(403, "API rate limit exceeded for user ID 1.")),
        Some(Fault::Status(404)) => Some(Reply::not_found()),
        Some(Fault::Status(422)) => {
            Some(Reply::invalid(vec![json!({ "code": "custom", "message": "the lab refuses" })]))
        }
        other => delay_or_refuse(other).await?.map(|status| Reply::error(status, "Server Error")),
    })
}

async fn carry_out(
    shared: &Shared,
    method: &str,
    path: &str,
    query: &[(String, String)],
    body: &[u8],
    given: Option<&str>,
) -> (Reply, Option<Token>) {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if segments[0] == "app" {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        return (apps::dispatch(shared, method, &segments, &body, given), None);
    }
    let token = given.and_then(|given| shared.state().token(given).cloned());
    if given.is_some() && token.is_none() {
        return (Reply::error(401, "Bad credentials"), None);
    }
    if token.as_ref().is_some_and(|token| token.used >= token.limit && token.reset > now()) && path != "/rate_limit" {
        return (Reply::error(403, "API rate limit exceeded for user ID 1."), token);
    }
    let body = match body.is_empty() {
        true => Value::Null,
        false => match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(_) => return (Reply::error(400, "Problems parsing JSON"), token),
        },
    };
    let call = Call { shared, method, segments, query, body, token: token.clone() };
    let reply = api::dispatch(&call).await;
    (reply, token)
}

/// The reply as HTTP, with ETag, page links and the token's scopes.
fn http(
    shared: &Shared,
    headers: &hyper::HeaderMap,
    path: &str,
    query: &[(String, String)],
    reply: &Reply,
    token: Option<&Token>,
) -> Response {
    let bytes = if reply.body.is_null() { Vec::new() } else { serde_json::to_vec(&reply.body).unwrap_or_default() };
    let mut answer = hyper::Response::builder()
        .header("server", "github.com")
        .header("x-github-request-id", shared.request_id())
        .header("x-github-media-type", "github.v3; format=json")
        .header("x-github-api-version-selected", "2022-11-28")
        .header("vary", "Accept, Authorization, Cookie, X-GitHub-OTP");
    if let Some(token) = token {
        answer = answer.header("x-oauth-scopes", token.scopes.join(", ")).header("x-accepted-oauth-scopes", "repo");
    }
    if let Some(page) = reply.page {
        answer = answer.header("link", links(&shared.addresses.api, path, query, page));
    }
    let mut status = reply.status;
    if status == 200 {
        // The token is part of it: GitHub's ETags differ between tokens.
        let identity = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let digest = Sha256::new().chain_update(identity).chain_update(&bytes).finalize();
        let tag = format!("W/\"{}\"", hex(&digest));
        if headers.get("if-none-match").is_some_and(|held| held.as_bytes() == tag.as_bytes()) {
            status = 304;
        }
        answer = answer.header("etag", tag).header("cache-control", "private, max-age=60, s-maxage=60");
    }
    let bytes = if status == 304 { Vec::new() } else { bytes };
    if !bytes.is_empty() {
        answer = answer.header("content-type", "application/json; charset=utf-8");
    }
    answer.status(status).body(full(bytes)).unwrap_or_else(|_| plain(500, "The lab cannot answer."))
}

fn limit_headers(shared: &Shared, answer: &mut Response, given: Option<&str>, fault: &Option<Fault>) {
    let token = given.and_then(|given| shared.state().token(given).cloned());
    let (limit, used, reset) = token.map_or((60, 1, now() + 3_600), |token| (token.limit, token.used, token.reset));
    let (mut remaining, mut reset) = (limit.saturating_sub(used), reset);
    if let Some(Fault::PrimaryLimit { seconds }) = fault {
        (remaining, reset) = (0, now() + seconds);
    }
    if let Some(Fault::SecondaryLimit { retry_after }) = fault {
        answer.headers_mut().insert("retry-after", (*retry_after).into());
    }
    let headers = answer.headers_mut();
    headers.insert("x-ratelimit-limit", limit.into());
    headers.insert("x-ratelimit-remaining", remaining.into());
    headers.insert("x-ratelimit-used", (limit - remaining).into());
    headers.insert("x-ratelimit-reset", reset.into());
    headers.insert("x-ratelimit-resource", hyper::header::HeaderValue::from_static("core"));
}

fn links(api: &str, path: &str, query: &[(String, String)], page: Page) -> String {
    let address = |number: usize| {
        let kept = query.iter().filter(|(name, _)| name != "page");
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let mut pairs: Vec<String> = kept.map(|(name, value)| format!("{}={}", name, encode(value))).collect();
        pairs.push(format!("page={number}"));
        format!("{api}{path}?{}", pairs.join("&"))
    };
    let mut links = Vec::new();
    if page.number > 1 {
        links.push(format!("<{}>; rel=\"prev\"", address(page.number - 1)));
    }
    if page.number < page.last {
        links.push(format!("<{}>; rel=\"next\"", address(page.number + 1)));
        links.push(format!("<{}>; rel=\"last\"", address(page.last)));
    }
    if page.number > 1 {
        links.push(format!("<{}>; rel=\"first\"", address(1)));
    }
    links.join(", ")
}

/// What is kept of a request. Credentials are kept as their kind alone.
fn exchange<B>(request: &hyper::Request<B>, path: &str, body: &[u8]) -> Exchange {
    let headers = request.headers().iter().map(|(name, value)| {
        let value = value.to_str().unwrap_or("(bytes)");
        let shown = if name == AUTHORIZATION {
            format!("{} (hidden)", value.split(' ').next().unwrap_or_default())
        } else {
            value.to_owned()
        };
        (name.as_str().to_owned(), shown)
    });
    Exchange {
        method: request.method().to_string(),
        path: path.to_owned(),
        query: query_pairs(request.uri().query().unwrap_or_default()),
        headers: headers.collect(),
        body: String::from_utf8_lossy(body).into_owned(),
        status: None,
    }
}

fn plain(status: u16, text: &str) -> Response {
    let mut answer = Response::new(full(text.to_owned()));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

impl Shared {
    fn take_fault(&self, method: &str, path: &str) -> Option<Fault> {
        let mut book = self.book();
        let ordered = fault::take(&mut book.faults, method, path);
        ordered.or_else(|| {
            let (chaos, number) = book.chaos.as_mut()?;
            *number += 1;
            chaos.fault(*number)
        })
    }

    /// Counts one request against the token's limit.
    fn count(&self, token: &str) {
        if let Some(token) = self.state().tokens.get_mut(token) {
            if token.reset <= now() {
                token.used = 0;
                token.reset = now() + Duration::from_secs(3_600).as_secs();
            }
            token.used = (token.used + 1).min(token.limit);
        }
    }
}
