//! GitHub Apps and tokens of fine grain: who may do what, by permission and by repository.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Call;
use super::reply::Reply;
use super::state::{State, Token};
use super::{GitHub, Shared};
use crate::clock::{iso, now};

/// An App with one installation.
#[derive(Debug, Clone)]
pub struct App {
    pub id: u64,
    /// Its comments are by `slug[bot]`.
    pub slug: String,
    /// The public half of its key, in PEM form.
    pub public_key: String,
    pub installation: u64,
    /// The account that it is installed for; its repositories, `owner/name`, or all of them if empty.
    pub account: String,
    pub repositories: Vec<String>,
    /// `contents` = `write` and so on; `metadata` = `read` goes without saying.
    pub permissions: BTreeMap<String, String>,
    /// Seconds that a token lives; an hour at GitHub's.
    pub lifetime: u64,
}

/// The grain of a token.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    pub permissions: BTreeMap<String, String>,
    /// `owner/name` in lower case.
    pub repositories: BTreeSet<String>,
    /// It acts for an installation, not for a person.
    pub installation: bool,
}

impl GitHub {
    /// Registers an App.
    pub fn add_app(&self, app: App) {
        let mut state = self.shared.state();
        state.user(&format!("{}[bot]", app.slug), "Bot");
        state.apps.push(app);
    }

    /// Makes a fine-grained token of `login`, good for these repositories with these permissions (`issues` = `write`).
    pub fn add_fine_token(&self, login: &str, repositories: &[&str], permissions: &[(&str, &str)]) -> String {
        let token = self.add_token(login, &[]);
        let grant = Grant {
            permissions: permissions.iter().map(|(name, level)| ((*name).to_owned(), (*level).to_owned())).collect(),
            repositories: repositories.iter().map(|name| name.to_ascii_lowercase()).collect(),
            installation: login.ends_with("[bot]"),
        };
        if let Some(held) = self.shared.state().tokens.get_mut(&token) {
            held.grant = Some(grant);
        }
        token
    }
}

/// Carries out a call below `/app`, which is made with the App's own proof.
pub(super) fn dispatch(shared: &Shared, method: &str, segments: &[&str], body: &Value, given: Option<&str>) -> Reply {
    let app = match given.map(|given| proven(&shared.state(), given)) {
        None => return Reply::error(401, "A JSON web token could not be decoded"),
        Some(Err(message)) => return Reply::error(401, message),
        Some(Ok(app)) => app,
    };
    match (method, segments) {
        ("GET", ["app"]) => {
            Reply::ok(json!({ "id": app.id, "slug": app.slug, "name": app.slug, "permissions": app.permissions }))
        }
        ("POST", ["app", "installations", number, "access_tokens"]) => {
            if number.parse() != Ok(app.installation) {
                return Reply::not_found();
            }
            mint(shared, &app, body)
        }
        _ => Reply::not_found(),
    }
}

/// The App whose key signed the proof, if the proof is as GitHub wants it.
fn proven(state: &State, given: &str) -> Result<App, &'static str> {
    #[derive(Deserialize)]
    struct Claims {
        iss: Value,
        iat: u64,
        exp: u64,
    }
    let claims = given.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let Some(claims) = claims.and_then(|bytes| serde_json::from_slice::<Claims>(&bytes).ok()) else {
        return Err("A JSON web token could not be decoded");
    };
    let issuer = claims.iss.as_u64().or_else(|| claims.iss.as_str()?.parse().ok());
    let Some(app) = state.apps.iter().find(|app| Some(app.id) == issuer) else {
        return Err("Integration not found");
    };
    let key = DecodingKey::from_rsa_pem(app.public_key.as_bytes());
    let mut rules = Validation::new(Algorithm::RS256);
    rules.leeway = 0;
    if key.map_or(true, |key| jsonwebtoken::decode::<Value>(given, &key, &rules).is_err()) {
        return Err("A JSON web token could not be decoded");
    }
    if claims.iat > now() {
        return Err("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued");
    }
    if claims.exp > now() + 600 {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    Ok(app.clone())
}

fn mint(shared: &Shared, app: &App, body: &Value) -> Reply {
    let mut permissions = app.permissions.clone();
    if let Some(wanted) = body["permissions"].as_object() {
        permissions = wanted.iter().map(|(name, level)| (name.clone(), level.as_str().unwrap_or("").into())).collect();
        let held = |name: &str, level: &str| {
            let level_held =
                if name == "metadata" { Some("read") } else { app.permissions.get(name).map(String::as_str) };
            level_held == Some(level) || (level_held == Some("write") && level == "read")
        };
        if !permissions.iter().all(|(name, level)| held(name, level)) {
            return Reply::error(422, "The permissions requested are not granted to this installation.");
        }
    }
    let state = shared.state();
    let installed: BTreeSet<String> = state
        .repositories
        .iter()
        .filter(|(_, repository)| repository.owner.eq_ignore_ascii_case(&app.account))
        .map(|(name, _)| name.clone())
        .filter(|name| app.repositories.is_empty() || app.repositories.iter().any(|at| at.eq_ignore_ascii_case(name)))
        .collect();
    drop(state);
    let repositories = match body["repositories"].as_array() {
        None => installed,
        Some(names) => {
            let full = |name: &Value| format!("{}/{}", app.account, name.as_str().unwrap_or("")).to_ascii_lowercase();
            let wanted: BTreeSet<String> = names.iter().map(full).collect();
            if !wanted.is_subset(&installed) {
                return Reply::error(
                    422,
                    "There is at least one repository that does not exist or is not accessible to the parent installation.",
                );
            }
            wanted
        }
    };
    let expires = now() + app.lifetime;
    let grant = Grant { permissions: permissions.clone(), repositories, installation: true };
    let token = shared.new_token("ghs_", Token { expires: Some(expires), ..Token::new(&format!("{}[bot]", app.slug)) });
    if let Some(held) = shared.state().tokens.get_mut(&token) {
        held.grant = Some(grant);
    }
    shared.book().secrets.insert(token.clone());
    Reply::new(
        201,
        json!({
            "token": token, "expires_at": iso(expires), "permissions": permissions, "repository_selection": "selected",
        }),
    )
}

/// The refusal of a call that the token's grain does not cover. `rest`: the path below the repository.
pub(super) fn lacking(call: &Call<'_>, private: bool, rest: &[&str]) -> Option<Reply> {
    let grant = call.token.as_ref()?.grant.as_ref()?;
    let permission = match rest {
        [] | ["collaborators", ..] => return None,
        ["pulls", ..] => "pull_requests",
        ["branches" | "git", ..] => "contents",
        ["statuses", ..] | ["commits", _, "statuses"] => "statuses",
        _ => "issues",
    };
    let covered = match call.method {
        // What is public can be read with any token.
        "GET" => !private || grant.permissions.contains_key(permission),
        _ => grant.permissions.get(permission).is_some_and(|level| level == "write"),
    };
    (!covered).then(|| not_accessible(grant.installation))
}

/// Whether the token's grain does not cover reading issues.
pub(super) fn lacks_issues(call: &Call<'_>, private: bool) -> bool {
    let grant = call.token.as_ref().and_then(|token| token.grant.as_ref());
    grant.is_some_and(|grant| private && !grant.permissions.contains_key("issues"))
}

/// 403 for a token without the permission.
pub(super) fn not_accessible(installation: bool) -> Reply {
    if installation { Reply::error(403, "Resource not accessible by integration") } else { Reply::forbidden() }
}
