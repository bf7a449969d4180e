//! Plain HTTP: each request is checked for itself, and travels on a connection of its own to what was checked.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::decision::{Entry, Reason, Verdict};
use super::gate::{Admitted, Body, Gate, refuse, settle};
use super::host::Target;
use super::meter::Meter;
use super::upstream::Upstream;

/// Headers that are for one hop alone (RFC 9110, 7.6.1), and those that both ends of a hop write anew.
const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT];
const HOP_BY_HOP_OF_OLD: &str = "keep-alive";
/// Whatever begins so is said to a proxy; what `Proxy` alone says is taken for a setting by old programs.
const FOR_PROXIES: &str = "proxy";

/// Answers a request whose address is whole: `GET http://host/path`.
pub async fn forward(request: Request<Incoming>, gate: &Gate, meter: &Arc<Meter>) -> Response<Body> {
    let Admitted { target, grant, entry } = match admit(&request, gate, meter) {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    let opened = match gate.dialer.open(&target, &grant).await {
        Ok(opened) => opened,
        Err(verdict) => return settle(&entry, verdict),
    };
    let entry = Arc::new(entry);
    let sent = match onward(request, &target, opened.upstream, &entry) {
        Ok(request) => send(request, opened.stream, gate, &entry).await,
        Err(cause) => Err(cause),
    };
    sent.unwrap_or_else(|cause| settle(&entry, Verdict::Unreachable { cause }))
}

fn admit(request: &Request<Incoming>, gate: &Gate, meter: &Arc<Meter>) -> Result<Admitted, Box<Response<Body>>> {
    let (uri, headers) = (request.uri(), request.headers());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let form = if authority.is_empty() {
        Some("this is a proxy: ask it with the whole address")
    } else if uri.scheme() == Some(&Scheme::HTTPS) {
        Some("ask for https addresses through a tunnel (CONNECT)")
    } else if uri.scheme() != Some(&Scheme::HTTP) {
        Some("only http and https addresses are known here")
    } else if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        Some("the request has two lengths")
    } else {
        None
    };
    if let Some(reason) = form {
        let entry = Entry::unnamed(&gate.ledger, meter, authority);
        return Err(Box::new(refuse(&entry, Reason::BadRequest(reason))));
    }
    let admitted = gate.admit(authority, Some(80), headers, meter)?;
    if admitted.target.port == 443 {
        let reason = Reason::BadRequest("port 443 is for TLS, not for plain HTTP");
        return Err(Box::new(refuse(&admitted.entry, reason)));
    }
    Ok(admitted)
}

/// The request as the host (or the company's proxy) gets it. hyper frames its body anew.
fn onward(
    request: Request<Incoming>,
    target: &Target,
    upstream: Option<&Upstream>,
    entry: &Arc<Entry>,
) -> Result<Request<Body>, String> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    let host = target.host_header();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = if upstream.is_some() { format!("http://{host}{path}") } else { path.to_owned() };
    parts.uri = uri.parse::<Uri>().map_err(|_| "the path cannot be passed on".to_owned())?;
    let host = HeaderValue::try_from(host).map_err(|_| "the host cannot be passed on".to_owned())?;
    parts.headers.insert(header::HOST, host);
    if let Some(login) = upstream.and_then(Upstream::authorization) {
        parts.headers.insert(header::PROXY_AUTHORIZATION, login.clone());
    }
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Ok(Request::from_parts(parts, counted(body, entry.clone(), ())))
}

async fn send(
    request: Request<Body>,
    stream: super::dial::Stream,
    gate: &Gate,
    entry: &Arc<Entry>,
) -> Result<Response<Body>, String> {
    let failed = |error: hyper::Error| format!("the host did not answer: {error}");
    let mut builder = http1::Builder::new();
    builder.max_buf_size(gate.limits.header_bytes.max(super::SMALLEST_HEADER_BYTES));
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err("the host switched to another protocol unasked".to_owned());
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Ok(Response::from_parts(parts, counted(body, entry.clone(), connection)))
}

/// A body whose bytes count for `entry`, and which keeps `held` as long as it lasts.
fn counted(body: Incoming, entry: Arc<Entry>, held: impl Send + 'static) -> Body {
    let count = move |frame: hyper::body::Frame<Bytes>| {
        let _ = &held;
        entry.count(frame.data_ref().map_or(0, Bytes::len));
        frame
    };
    body.map_frame(count).boxed_unsync()
}

/// Removes what is for one hop alone. Of two lengths it is the body's own framing that counts.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .chain(headers.keys().map(HeaderName::to_string).filter(|name| name.starts_with(FOR_PROXIES)))
        .collect();
    for name in named.iter().map(String::as_str).chain([HOP_BY_HOP_OF_OLD]) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
