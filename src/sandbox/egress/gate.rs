//! The gate: what all connections of a task share, and the first question of each request.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::ext::ReasonPhrase;

use super::Limits;
use super::allow::{Allowlist, Grant};
use super::decision::{Entry, Ledger, Reason, Verdict};
use super::dial::Dialer;
use super::host::Target;
use super::meter::{Budget, Meter};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What all connections of a task share.
pub struct Gate {
    pub allow: Allowlist,
    pub dialer: Dialer,
    pub ledger: Arc<Ledger>,
    pub budget: Arc<Budget>,
    pub limits: Limits,
}

/// A target that a rule names, on its way.
pub struct Admitted {
    pub target: Target,
    pub grant: Grant,
    pub entry: Entry,
}

impl Gate {
    /// Asks whether a rule names what the client wants. `authority` is `host:port`; if there is a `Host` header, it is
    /// one, and means the same.
    pub fn admit(
        &self,
        authority: &str,
        default_port: Option<u16>,
        headers: &HeaderMap,
        meter: &Arc<Meter>,
    ) -> Result<Admitted, Box<Response<Body>>> {
        let target = match Target::parse(authority, default_port) {
            Ok(target) => target,
            Err(malformed) => {
                // A login before the host is nobody's business.
                let host = authority.rsplit('@').next().unwrap_or_default();
                let entry = Entry::unnamed(&self.ledger, meter, host);
                return Err(Box::new(refuse(&entry, Reason::Malformed(malformed))));
            }
        };
        let entry = Entry::new(&self.ledger, meter, &target);
        if let Err(reason) = check_host(headers, &target) {
            return Err(Box::new(refuse(&entry, reason)));
        }
        if meter.is_spent() {
            return Err(Box::new(refuse(&entry, Reason::Spent)));
        }
        match self.allow.find(&target) {
            Some(grant) => Ok(Admitted { target, grant, entry }),
            None => Err(Box::new(refuse(&entry, Reason::NotListed))),
        }
    }
}

fn check_host(headers: &HeaderMap, target: &Target) -> Result<(), Reason> {
    let mut values = headers.get_all(HOST).iter();
    match (values.next(), values.next()) {
        // Python asks for tunnels without one, in HTTP/1.0.
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Reason::BadRequest("the request has more than one Host header")),
        (Some(value), None) => {
            let named = value.to_str().ok().and_then(|text| Target::parse(text, Some(target.port)).ok());
            let same = named.is_some_and(|named| named == *target);
            if same { Ok(()) } else { Err(Reason::BadRequest("the Host header names another host than the address")) }
        }
    }
}

/// Settles an entry with a refusal, and says so to the client.
pub fn refuse(entry: &Entry, reason: Reason) -> Response<Body> {
    settle(entry, Verdict::Refused { reason })
}

/// Settles an entry, and tells the client why in words.
pub fn settle(entry: &Entry, verdict: Verdict) -> Response<Body> {
    let answer = match &verdict {
        Verdict::Allowed => (StatusCode::OK, String::new()),
        Verdict::Refused { reason } => {
            let status = match reason {
                Reason::Malformed(_) | Reason::BadRequest(_) => StatusCode::BAD_REQUEST,
                Reason::NotListed
                | Reason::Forbidden { .. }
                | Reason::NotTls
                | Reason::ServerName(_)
                | Reason::Spent => StatusCode::FORBIDDEN,
            };
            (status, format!("patchwright refused: {reason}"))
        }
        Verdict::Unreachable { cause } => (StatusCode::BAD_GATEWAY, format!("not reached by patchwright: {cause}")),
    };
    entry.settle(verdict);
    say(answer.0, answer.1)
}

fn say(status: StatusCode, text: String) -> Response<Body> {
    // Of the answer to a CONNECT, most clients show the status line alone.
    let phrase = ReasonPhrase::try_from(text.as_bytes());
    let mut response = Response::new(Full::from(text + "\n").map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    if let Ok(phrase) = phrase {
        response.extensions_mut().insert(phrase);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What follows on this connection was sent in the hope of another answer.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
