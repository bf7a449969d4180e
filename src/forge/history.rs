//! Who set an issue's labels, and when its text was changed, in one look.
//!
//! GitHub's REST interface does not tell when a text was edited (`updated_at` is the time of any change), so this is the
//! one question that is asked by GraphQL. Source: GitHub's GraphQL reference, `Issue.lastEditedAt`, `LabeledEvent`,
//! `RenamedTitleEvent`.

use http::Request;
use octocrab::OctoBody;
use serde::Deserialize;

use super::watch::milliseconds;
use super::{Forge, ForgeError, Label};
use crate::task::IssueReference;

/// The newest 100 settings of labels and titles; a label of before those counts as not set.
const QUERY: &str = "query($owner: String!, $name: String!, $number: Int!) { \
repository(owner: $owner, name: $name) { issue(number: $number) { title body lastEditedAt \
timelineItems(last: 100, itemTypes: [LABELED_EVENT, RENAMED_TITLE_EVENT]) { nodes { __typename \
... on LabeledEvent { createdAt actor { __typename login } label { name } } \
... on RenamedTitleEvent { createdAt } } } } } }";

/// How long to wait where GraphQL's own limit is reached; its answer does not say.
const LIMIT_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

/// An issue's text and what became of it, as of one moment.
#[derive(Debug, Clone)]
pub struct History {
    pub title: String,
    pub body: String,
    /// When title or body were changed last, in milliseconds since 1970; `None`: never.
    pub changed_at: Option<i64>,
    /// The newest settings of labels, oldest first.
    pub labelled: Vec<Labelled>,
}

/// A label that was set on an issue.
#[derive(Debug, Clone)]
pub struct Labelled {
    pub label: String,
    /// Empty if the account is gone.
    pub actor: String,
    /// Milliseconds since 1970.
    pub at: i64,
}

impl Forge {
    /// Reads an issue's text with its history.
    pub async fn history(&self, issue: &IssueReference) -> Result<History, ForgeError> {
        let what = format!("the history of {issue}");
        super::retry::repeat(|| async {
            let repository = &issue.repository;
            let variables =
                serde_json::json!({ "owner": repository.owner, "name": repository.name, "number": issue.number });
            let body = serde_json::json!({ "query": QUERY, "variables": variables });
            let unexpected = |message: String| ForgeError::Unexpected { what: what.clone(), message };
            let request = Request::post(super::wire::GRAPHQL)
                .header(http::header::CONTENT_TYPE, "application/json")
                .extension(repository.clone())
                .body(OctoBody::from(body.to_string()))
                .map_err(|error| unexpected(error.to_string()))?;
            let bytes = self.wire.ask(request, &what).await?;
            let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| unexpected(error.to_string()))?;
            let found = answer.data.and_then(|data| data.repository).and_then(|repository| repository.issue);
            match (found, answer.errors.into_iter().next()) {
                (Some(found), None) => found.read().ok_or_else(|| unexpected("a time in it cannot be read".to_owned())),
                (_, Some(trouble)) => Err(trouble.into_forge_error(&what)),
                (None, None) => Err(ForgeError::NotFound { what: what.clone() }),
            }
        })
        .await
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    #[serde(default)]
    errors: Vec<Trouble>,
}

#[derive(Deserialize)]
struct Data {
    repository: Option<WireRepository>,
}

#[derive(Deserialize)]
struct WireRepository {
    issue: Option<WireHistory>,
}

/// GraphQL tells of its errors with status 200.
#[derive(Deserialize)]
struct Trouble {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

impl Trouble {
    fn into_forge_error(self, what: &str) -> ForgeError {
        let what = what.to_owned();
        match self.kind.as_str() {
            "NOT_FOUND" => ForgeError::NotFound { what },
            "FORBIDDEN" | "INSUFFICIENT_SCOPES" => ForgeError::Forbidden { what, message: self.message },
            "RATE_LIMITED" => ForgeError::RateLimited { wait: LIMIT_PAUSE },
            "" => ForgeError::Transient { what, message: self.message },
            _ => ForgeError::Unexpected { what, message: self.message },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHistory {
    title: String,
    body: String,
    last_edited_at: Option<String>,
    timeline_items: WireItems,
}

#[derive(Deserialize)]
struct WireItems {
    nodes: Vec<Option<WireItem>>,
}

#[derive(Deserialize)]
#[serde(tag = "__typename", rename_all_fields = "camelCase")]
enum WireItem {
    LabeledEvent {
        created_at: String,
        actor: Option<WireActor>,
        label: Label,
    },
    RenamedTitleEvent {
        created_at: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct WireActor {
    #[serde(rename = "__typename")]
    kind: String,
    login: String,
}

impl WireActor {
    /// As the REST interface has it: GraphQL leaves the end of a bot's login out.
    fn login(self) -> String {
        match self.kind == "Bot" && !self.login.ends_with("[bot]") {
            true => format!("{}[bot]", self.login),
            false => self.login,
        }
    }
}

impl WireHistory {
    fn read(self) -> Option<History> {
        let mut changed_at = match self.last_edited_at {
            Some(time) => Some(milliseconds(&time)?),
            None => None,
        };
        let mut labelled = Vec::new();
        for item in self.timeline_items.nodes.into_iter().flatten() {
            match item {
                WireItem::LabeledEvent { created_at, actor, label } => {
                    let actor = actor.map(WireActor::login).unwrap_or_default();
                    labelled.push(Labelled { label: label.name, actor, at: milliseconds(&created_at)? });
                }
                WireItem::RenamedTitleEvent { created_at } => changed_at = changed_at.max(milliseconds(&created_at)),
                WireItem::Other => {}
            }
        }
        Some(History { title: self.title, body: self.body, changed_at, labelled })
    }
}
