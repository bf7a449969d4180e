//! Webhooks going out, signed as GitHub signs them.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpStream;

use crate::http::hex;

/// One delivery of one event.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `X-GitHub-Delivery`.
    pub id: String,
    pub event: String,
    pub url: String,
    pub secret: String,
    pub body: String,
    /// What the receiver answered; `None` until it did.
    pub status: Option<u16>,
    /// From the connection to the answer.
    pub answered_in: Option<Duration>,
    /// Why there was no answer.
    pub error: Option<String>,
}

impl Delivery {
    pub fn payload(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// `X-Hub-Signature-256`: HMAC-SHA256 over the body's bytes.
    pub fn signature(&self) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return String::new() };
        mac.update(self.body.as_bytes());
        format!("sha256={}", hex(&mac.finalize().into_bytes()))
    }

    /// Posts it, and returns the receiver's status. Plain HTTP only: receivers stand on loopback.
    pub(super) async fn send(&self) -> anyhow::Result<u16> {
        let address = self.url.strip_prefix("http://").ok_or_else(|| anyhow::anyhow!("webhooks go to http:// only"))?;
        let (authority, path) = address.split_once('/').unwrap_or((address, ""));
        let stream = TcpStream::connect(authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::post(format!("/{path}"))
            .header("host", authority)
            .header("user-agent", "GitHub-Hookshot/1a2b3c4")
            .header("content-type", "application/json")
            .header("x-github-event", &self.event)
            .header("x-github-delivery", &self.id)
            .header("x-github-hook-id", "1")
            .header("x-hub-signature-256", self.signature())
            .body(Full::new(Bytes::from(self.body.clone())))?;
        let answer = tokio::time::timeout(Duration::from_secs(10), sender.send_request(request)).await??;
        let status = answer.status().as_u16();
        let _ = answer.into_body().collect().await;
        connection.abort();
        Ok(status)
    }
}
