//! What GitHub delivers: its signature, and what of a payload is read.

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::forge::{Issue, Label, User};

/// Whether `signature` (`sha256=` and 64 hexadecimal digits) is the HMAC of the body's bytes; compared in constant time.
///
/// Source: GitHub's "Validating webhook deliveries".
pub fn is_signed(secret: &[u8], body: &[u8], signature: &str) -> bool {
    let Some(claimed) = signature.strip_prefix("sha256=").and_then(|digits| hex::decode(digits).ok()) else {
        return false;
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    mac.update(body);
    mac.verify_slice(&claimed).is_ok()
}

/// The events that are kept; others are answered and forgotten.
pub const EVENTS: [&str; 2] = ["issues", "issue_comment"];

/// A payload of [`EVENTS`], as far as we read it. GitHub's own are far larger.
#[derive(Debug, Deserialize)]
pub struct Payload {
    pub action: String,
    pub repository: Repository,
    pub issue: Issue,
    #[serde(default)]
    pub sender: Option<User>,
    /// The label that was set or removed.
    #[serde(default)]
    pub label: Option<Label>,
    #[serde(default)]
    pub comment: Option<Comment>,
}

#[derive(Debug, Deserialize)]
pub struct Repository {
    pub full_name: String,
}

#[derive(Debug, Deserialize)]
pub struct Comment {
    pub id: u64,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub user: Option<User>,
}
