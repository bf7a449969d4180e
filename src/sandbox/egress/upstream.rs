//! The company's proxy, where there is no other way out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::address::Network;
use super::dial::{Stream, joined};
use super::host::{Host, Target};

/// An HTTP proxy that everything but the exceptions goes through.
///
/// Names are resolved there, not here: behind such a proxy the outside's names often have no address. What its clients
/// may reach at private addresses is its operator's rule.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it listens.
    pub target: Target,
    /// Marked as sensitive: it never appears in `Debug`.
    authorization: Option<HeaderValue>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    /// The host and all below it, with any port or with one.
    Hosts(Host, Option<u16>),
    Network(Network),
}

/// Why the company's proxy cannot be used. Never shows its address, which can hold a login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    #[error("the address of the company's proxy (HTTPS_PROXY) is not of the form http://USER:PASSWORD@HOST:PORT")]
    Address,
    #[error("the company's proxy (HTTPS_PROXY) is to be reached by {0}, but only http:// is known")]
    Scheme(String),
}

impl Upstream {
    /// Reads `http://user:password@proxy:3128` (the port is 80 if none is named; the login may be percent-encoded) and
    /// the exceptions of `NO_PROXY`: `*`, `corp.example` and `.corp.example` (both with all below), `host:port`,
    /// addresses and networks, with commas between them. Exceptions of any other form are passed over, as by everyone.
    ///
    /// # Errors
    /// The address has another form or scheme.
    pub fn parse(address: &SecretString, no_proxy: &str) -> Result<Self, UpstreamError> {
        let text = address.expose_secret().trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|_| UpstreamError::Address)?;
        if url.scheme() != "http" {
            return Err(UpstreamError::Scheme(url.scheme().to_owned()));
        }
        let host = url.host_str().and_then(|host| Host::parse(host).ok()).ok_or(UpstreamError::Address)?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(UpstreamError::Address)?;
        Ok(Self {
            target: Target { host, port },
            authorization: authorization(&url)?,
            exceptions: no_proxy.split(',').filter_map(|text| exception(text.trim())).collect(),
        })
    }

    /// Whether the target is reached through it.
    pub fn serves(&self, target: &Target) -> bool {
        !self.exceptions.iter().any(|exception| match (exception, &target.host) {
            (Exception::Everything, _) => true,
            (Exception::Hosts(_, Some(port)), _) if *port != target.port => false,
            (Exception::Hosts(Host::Name(own), _), Host::Name(name)) => {
                name.strip_suffix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Exception::Hosts(own, _), host) => own == host,
            (Exception::Network(network), Host::Address(address)) => network.contains(*address),
            (Exception::Network(_), Host::Name(_)) => false,
        })
    }

    /// The login, for requests that it is to pass on.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Asks for a tunnel on a connection to it. The error is in words, without the login.
    pub async fn tunnel(&self, stream: Stream, target: &Target) -> Result<Stream, String> {
        let authority = target.to_string();
        let mut request = Request::new(Empty::<bytes::Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = authority.parse::<Uri>().map_err(|error| error.to_string())?;
        let host = HeaderValue::try_from(authority).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, host);
        if let Some(login) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
        }
        let failed = |error: hyper::Error| format!("the company's proxy did not answer as a proxy: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let response = sender.send_request(request).await.map_err(failed)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err("the company's proxy wants a login (407): write it into HTTPS_PROXY".to_owned());
            }
            status => return Err(format!("the company's proxy answered {}", status.as_u16())),
        }
        let (read, write) = tokio::io::split(TokioIo::new(hyper::upgrade::on(response).await.map_err(failed)?));
        Ok(joined(read, write))
    }
}

fn authorization(url: &Url) -> Result<Option<HeaderValue>, UpstreamError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut login = decoded(url.username());
    login.push(b':');
    login.extend(decoded(url.password().unwrap_or_default()));
    let value = format!("Basic {}", STANDARD.encode(login));
    let mut value = HeaderValue::try_from(value).map_err(|_| UpstreamError::Address)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Percent-decoding, RFC 3986: what is not `%` and two hexadecimal digits stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes
}

fn exception(text: &str) -> Option<Exception> {
    if text == "*" {
        return Some(Exception::Everything);
    }
    if let Ok(network) = text.parse::<Network>() {
        return Some(Exception::Network(network));
    }
    let text = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    match Host::parse(text) {
        Ok(host) => Some(Exception::Hosts(host, None)),
        Err(_) => {
            let target = Target::parse(text, None).ok()?;
            Some(Exception::Hosts(target.host, Some(target.port)))
        }
    }
}
