//! Who the forge takes us for, and what we may do there, as far as it tells: for people.

use http::HeaderName;
use serde::Deserialize;

use super::identity::Identity;
use super::{Forge, ForgeError, classify};

/// GitHub's header with the scopes of a classic token; other tokens have permissions that it does not tell.
const SCOPES: HeaderName = HeaderName::from_static("x-oauth-scopes");

#[derive(Deserialize)]
struct WireUser {
    login: String,
}

#[derive(Deserialize)]
struct WireApp {
    slug: Option<String>,
    name: String,
    #[serde(default)]
    permissions: std::collections::BTreeMap<String, String>,
}

impl Forge {
    /// Our identity in words: `octocat (scopes: repo)`, `the App patchwright (contents: write, ...)`, or nobody.
    pub async fn who(&self) -> Result<String, ForgeError> {
        match &self.wire.identity {
            Identity::Nobody => Ok("nobody: no token is set, so public repositories can be read".into()),
            Identity::App(_) => {
                let app: WireApp =
                    self.client.get("/app", None::<&()>).await.map_err(|error| classify(error, "the App itself"))?;
                let permissions: Vec<String> =
                    app.permissions.iter().map(|(name, right)| format!("{name}: {right}")).collect();
                Ok(format!("the App {} ({})", app.slug.unwrap_or(app.name), permissions.join(", ")))
            }
            Identity::Token(_) => self.who_of_token().await,
        }
    }

    async fn who_of_token(&self) -> Result<String, ForgeError> {
        let what = "who the token belongs to";
        let answer = self.client._get("/user").await.map_err(|error| classify(error, what))?;
        if answer.status().as_u16() == 403 {
            return Ok("a token of a workflow or an App, whose owner cannot be asked for".into());
        }
        let answer = octocrab::map_github_error(answer).await.map_err(|error| classify(error, what))?;
        let scopes = answer.headers().get(SCOPES).and_then(|scopes| scopes.to_str().ok()).map(str::to_owned);
        let body = self.client.body_to_string(answer).await.map_err(|error| classify(error, what))?;
        let user: WireUser = serde_json::from_str(&body)
            .map_err(|error| ForgeError::Unexpected { what: what.to_owned(), message: error.to_string() })?;
        Ok(match scopes.filter(|scopes| !scopes.is_empty()) {
            Some(scopes) => format!("{} (scopes: {scopes})", user.login),
            None => format!("{} (a fine-grained token, which does not tell its permissions)", user.login),
        })
    }
}
