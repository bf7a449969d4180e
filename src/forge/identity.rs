//! Who we are at the forge: nobody, a token, or a GitHub App with a token for each repository.
//!
//! Source: GitHub's documentation, "Generating a JSON Web Token (JWT) for a GitHub App" and "Generating an installation
//! access token for a GitHub App".

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use octocrab::EncodingKey;
use octocrab::models::AppId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use crate::task::RepositoryName;

/// An installation's token is renewed this long before it ends, or a twelfth of its life if that is shorter.
const RENEWAL: Duration = Duration::from_secs(300);

/// What we prove ourselves with.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Public repositories can be read.
    None,
    /// A personal token, classic or fine-grained, or that of a workflow.
    Token(SecretString),
    App {
        id: u64,
        /// The private key, in PEM form.
        key: SecretString,
        installation: u64,
    },
}

impl Credentials {
    /// Whether we can write at all.
    pub fn can_write(&self) -> bool {
        !matches!(self, Credentials::None)
    }

    /// Whether they can be used; the error names the remedy, and no part of a secret.
    pub fn check(&self) -> anyhow::Result<()> {
        Identity::new(self).map(drop)
    }
}

/// Credentials in use.
#[derive(Debug, Clone)]
pub(super) enum Identity {
    Nobody,
    Token(SecretString),
    App(App),
}

/// An App's installation, whose tokens are good for one repository each.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) id: u64,
    pub(super) installation: u64,
    key: EncodingKey,
    /// The repository of the task that this client is for, and its token.
    own: Option<(RepositoryName, Slot)>,
    /// By `owner/name` in lower case; of all clients together.
    others: Arc<Mutex<BTreeMap<String, Slot>>>,
    /// Changes of workflows need a permission that most installations do not grant; as long as it is not known, tokens
    /// are asked for with it first.
    pub(super) may_have_workflows: Arc<AtomicBool>,
}

/// A token, or room for one; whoever holds the lock mints.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Minted>>>;

/// An installation's token.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) token: SecretString,
    pub(super) renew_at: Instant,
}

/// What the forge says of a new token.
#[derive(Deserialize)]
pub(super) struct WireToken {
    token: String,
    /// RFC 3339.
    expires_at: String,
}

impl WireToken {
    /// `now`: seconds since 1970 by the forge's clock, since ours may be wrong.
    pub(super) fn into_minted(self, now: u64) -> anyhow::Result<Minted> {
        let end: jiff::Timestamp = self.expires_at.parse().context("the end of a token's life is no time")?;
        let life = u64::try_from(end.as_second()).unwrap_or_default().saturating_sub(now);
        let life = Duration::from_secs(life);
        crate::logging::keep_passing_secret("the App's token", &self.token);
        Ok(Minted { token: SecretString::from(self.token), renew_at: Instant::now() + (life - RENEWAL.min(life / 12)) })
    }
}

impl Identity {
    pub(super) fn new(credentials: &Credentials) -> anyhow::Result<Self> {
        Ok(match credentials {
            Credentials::None => Identity::Nobody,
            Credentials::Token(token) => {
                // A token that is no header could not be sent.
                if !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
                    anyhow::bail!(
                        "the token (GITHUB_TOKEN or github.token_file) holds characters that no token has. Copy it anew"
                    );
                }
                Identity::Token(token.clone())
            }
            Credentials::App { id, key, installation } => {
                let app = App::new(*id, key, *installation).and_then(|app| app.bearer().map(|_| app));
                // The cause is left out: it could quote the key.
                Identity::App(app.map_err(|_| {
                    anyhow::anyhow!(
                        "the App's private key (GITHUB_APP_PRIVATE_KEY_PATH or github.app_key_file) is no RSA key in \
                         PEM form. Make a new one in the App's settings and give the file as it was downloaded"
                    )
                })?)
            }
        })
    }

    /// The same identity, for a task on one repository: an App then has a token of its own for it.
    pub(super) fn for_repository(&self, repository: &RepositoryName) -> Self {
        match self {
            Identity::App(app) => {
                let own = Some((repository.clone(), Slot::default()));
                Identity::App(App { own, ..app.clone() })
            }
            Identity::Nobody | Identity::Token(_) => self.clone(),
        }
    }
}

impl App {
    fn new(id: u64, key: &SecretString, installation: u64) -> anyhow::Result<Self> {
        let key = EncodingKey::from_rsa_pem(key.expose_secret().as_bytes())?;
        Ok(Self {
            id,
            installation,
            key,
            own: None,
            others: Arc::default(),
            may_have_workflows: Arc::new(AtomicBool::new(true)),
        })
    }

    /// The App's own proof, good for nine minutes.
    pub(super) fn bearer(&self) -> anyhow::Result<SecretString> {
        Ok(SecretString::from(octocrab::auth::create_jwt(AppId(self.id), &self.key)?))
    }

    /// The repository that this client is for.
    pub(super) fn repository(&self) -> Option<&RepositoryName> {
        self.own.as_ref().map(|(name, _)| name)
    }

    /// Where the token for `repository` is kept.
    pub(super) fn slot(&self, repository: &RepositoryName) -> Slot {
        if let Some((name, slot)) = &self.own
            && name == repository
        {
            return Arc::clone(slot);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(others.entry(repository.to_string().to_ascii_lowercase()).or_default())
    }
}
