//! What a service reads again and again: conditional reads, which cost nothing while nothing is new.

use std::sync::Arc;

use http::StatusCode;
use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::identity::Identity;
use super::{Author, Forge, ForgeError, Issue, PAGE, User};
use super::{classify, path_segment, repository_route, retry};
use crate::logging::screened;
use crate::task::{IssueReference, RepositoryName};

/// Characters of a commit status's description.
const LONGEST_DESCRIPTION: usize = 140;

/// The answer to a conditional read.
#[derive(Debug, Clone)]
pub enum Fresh<T> {
    /// 304: nothing changed since the given ETag; the read was not counted.
    Unchanged,
    Changed {
        value: T,
        etag: String,
        has_next: bool,
    },
}

/// A comment on an issue.
#[derive(Debug, Clone)]
pub struct IssueComment {
    pub id: u64,
    pub issue: u64,
    /// Empty if the account is gone.
    pub author: String,
    pub body: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// What somebody may do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    None,
    Read,
    Triage,
    Write,
    Maintain,
    Admin,
}

impl Forge {
    /// One page (of 100, oldest first) of the open issues with `label`; pull requests are among them.
    ///
    /// A full page always has a next one, which may be empty: what comes new stands on the last page, and the pages
    /// before it go on being [`Fresh::Unchanged`], without a word of what follows them. ETags belong to a token.
    pub async fn open_issues(
        &self,
        repository: &RepositoryName,
        label: &str,
        page: u32,
        etag: Option<&str>,
    ) -> Result<Fresh<Vec<Issue>>, ForgeError> {
        let route = format!(
            "{}/issues?state=open&labels={}&sort=created&direction=asc&per_page={PAGE}&page={page}",
            repository_route(repository),
            path_segment(label)
        );
        let mut fresh = self.read_fresh(&route, etag, &format!("issues of {repository}")).await?;
        if let Fresh::Changed { value, has_next, .. } = &mut fresh {
            let issues: &Vec<Issue> = value;
            *has_next |= issues.len() >= usize::from(PAGE);
        }
        Ok(fresh)
    }

    /// One page (of 100, newest first) of the comments of all issues of a repository.
    pub async fn recent_comments(
        &self,
        repository: &RepositoryName,
        page: u32,
        etag: Option<&str>,
    ) -> Result<Fresh<Vec<IssueComment>>, ForgeError> {
        let what = format!("comments of {repository}");
        let route = format!(
            "{}/issues/comments?sort=created&direction=desc&per_page={PAGE}&page={page}",
            repository_route(repository)
        );
        match self.read_fresh::<Vec<WireIssueComment>>(&route, etag, &what).await? {
            Fresh::Unchanged => Ok(Fresh::Unchanged),
            Fresh::Changed { value, etag, has_next } => {
                let comments: Option<Vec<IssueComment>> = value.into_iter().map(WireIssueComment::read).collect();
                let value = comments.ok_or_else(|| ForgeError::Unexpected {
                    what,
                    message: "a comment's time or issue cannot be read".into(),
                })?;
                Ok(Fresh::Changed { value, etag, has_next })
            }
        }
    }

    /// The login that our comments carry; for an App `slug[bot]`. Asked once.
    ///
    /// The token of a GitHub Actions workflow may not ask: [`ForgeError::Forbidden`].
    pub async fn login(&self) -> Result<String, ForgeError> {
        match self.author().await? {
            Author::Login(login) => Ok(login),
            Author::Nobody => Err(ForgeError::Unauthorized),
            Author::AnyBot => Err(ForgeError::Forbidden {
                what: "our own login".into(),
                message: "this token may not ask for it".into(),
            }),
        }
    }

    /// What `login` may do in a repository; a user who is unknown there may do nothing.
    pub async fn permission(&self, repository: &RepositoryName, login: &str) -> Result<Permission, ForgeError> {
        let route = format!("{}/collaborators/{}/permission", repository_route(repository), path_segment(login));
        match self.read::<WirePermission>(&route, &format!("what {login} may do in {repository}")).await {
            Ok(found) => Ok(found.read()),
            Err(ForgeError::NotFound { .. }) => Ok(Permission::None),
            Err(other) => Err(other),
        }
    }

    /// Whether the forge answers, and takes our credential; a request that is not counted.
    pub async fn check(&self) -> Result<(), ForgeError> {
        let route = match &self.wire.identity {
            Identity::Nobody | Identity::Token(_) => "/rate_limit",
            Identity::App(_) => "/app",
        };
        let answer: Result<serde_json::Value, _> = self.client.get(route, None::<&()>).await;
        match answer.map_err(|error| classify(error, "a sign of life")) {
            // An Enterprise server without limits has no such page.
            Ok(_) | Err(ForgeError::NotFound { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Edits the comment with `marker`, by us, or makes it. `known`: its id, if it was made before. Answers its id.
    pub async fn put_comment(
        &self,
        issue: &IssueReference,
        marker: &str,
        body: &str,
        known: Option<u64>,
    ) -> Result<u64, ForgeError> {
        if let Some(id) = known {
            match self.edit_comment(issue, id, body).await {
                // Somebody deleted it.
                Err(ForgeError::NotFound { .. }) => {}
                edited => return edited.map(|()| id),
            }
        }
        let (comment, existed) = self.create_comment(issue, marker, body).await?;
        if existed {
            self.edit_comment(issue, comment.id, body).await?;
        }
        Ok(comment.id)
    }

    /// Sets the commit status `context` (idempotent at the forge by context).
    pub async fn set_status(
        &self,
        repository: &RepositoryName,
        commit: &str,
        status: &CommitStatus,
    ) -> Result<(), ForgeError> {
        let route = format!("{}/statuses/{commit}", repository_route(repository));
        let what = format!("the status of {commit} in {repository}");
        let mut body = serde_json::json!({
            "state": status.state.name(),
            "context": status.context,
            "description": screened(&status.description).chars().take(LONGEST_DESCRIPTION).collect::<String>(),
        });
        if let Some(url) = &status.target_url {
            body["target_url"] = url.as_str().into();
        }
        retry::repeat(|| async {
            let _: serde_json::Value =
                self.client.post(&route, Some(&body)).await.map_err(|error| classify(error, &what))?;
            Ok(())
        })
        .await
    }

    /// The client for one task's work on `repository`: an App's own token for that repository alone, else the same identity.
    ///
    /// An App's token is minted here, so that an App that is not installed there is known before anything is cloned.
    /// Requests about other repositories, such as the one with the task's issue, go with those repositories' tokens.
    pub async fn for_repository(&self, repository: &RepositoryName) -> Result<Forge, ForgeError> {
        let wire = self.wire.for_repository(repository);
        wire.token_for(repository).await?;
        Ok(Self::over(wire, self.server_url.clone(), Arc::clone(&self.author)))
    }

    /// The client for a repository that is only read: where the App is not installed, as anybody may.
    pub async fn for_reading(&self, repository: &RepositoryName) -> Result<Forge, ForgeError> {
        match self.for_repository(repository).await {
            Err(
                error @ (ForgeError::NotFound { .. } | ForgeError::Unprocessable { .. } | ForgeError::Forbidden { .. }),
            ) => {
                tracing::info!("{repository} is read without credentials: {error}");
                Ok(Self::over(self.wire.as_nobody(), self.server_url.clone(), Arc::default()))
            }
            found => found,
        }
    }

    /// The token that git uses now; an App's is renewed before it ends.
    ///
    /// An App's client must come from [`Forge::for_repository`], whose repository the token is good for.
    pub async fn git_token(&self) -> Result<Option<secrecy::SecretString>, ForgeError> {
        match &self.wire.identity {
            Identity::Nobody => Ok(None),
            Identity::Token(token) => Ok(Some(token.clone())),
            Identity::App(app) => match app.repository() {
                Some(repository) => self.wire.token_for(repository).await,
                None => Err(ForgeError::Unexpected {
                    what: "a token for git".into(),
                    message: "an App's tokens are for one repository; ask the client for that repository".into(),
                }),
            },
        }
    }

    /// What is known of the forge's limits, for health and metrics; all clones of a client together.
    pub fn limits(&self) -> Limits {
        self.wire.manners.limits()
    }

    /// Whose comments are ours; asked once for all clones of a client.
    pub(super) async fn author(&self) -> Result<Author, ForgeError> {
        let ask = || async {
            let login = match &self.wire.identity {
                Identity::Nobody => return Ok(Author::Nobody),
                Identity::Token(_) => self.read::<User>("/user", "our own login").await.map(|user| user.login),
                Identity::App(_) => {
                    self.read::<WireApp>("/app", "the GitHub App").await.map(|app| format!("{}[bot]", app.slug))
                }
            };
            match login {
                Ok(login) => Ok(Author::Login(login)),
                Err(ForgeError::Forbidden { .. }) => Ok(Author::AnyBot),
                Err(other) => Err(other),
            }
        };
        self.author.get_or_try_init(ask).await.cloned()
    }

    /// A page of a list, and whether there is another.
    pub(super) async fn read_page<T: DeserializeOwned>(
        &self,
        route: &str,
        what: &str,
    ) -> Result<(T, bool), ForgeError> {
        match self.read_fresh(route, None, what).await? {
            Fresh::Changed { value, has_next, .. } => Ok((value, has_next)),
            Fresh::Unchanged => Err(ForgeError::Unexpected {
                what: what.to_owned(),
                message: "304, though nothing was said of an earlier answer".into(),
            }),
        }
    }

    /// A read that costs nothing if nothing changed since the answer with `etag`.
    async fn read_fresh<T: DeserializeOwned>(
        &self,
        route: &str,
        etag: Option<&str>,
        what: &str,
    ) -> Result<Fresh<T>, ForgeError> {
        // A stored ETag that is no header is as good as none.
        let etag = etag.and_then(|etag| HeaderValue::from_str(etag).ok());
        let headers: HeaderMap = etag.into_iter().map(|etag| (IF_NONE_MATCH, etag)).collect();
        retry::repeat(|| async {
            let answer = self.client._get_with_headers(route, Some(headers.clone())).await;
            let answer = answer.map_err(|error| classify(error, what))?;
            if answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(Fresh::Unchanged);
            }
            let answer = octocrab::map_github_error(answer).await.map_err(|error| classify(error, what))?;
            let header = |name: HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let etag = header(ETAG).unwrap_or_default().to_owned();
            let has_next = header(LINK).is_some_and(|links| links.split(',').any(|link| link.contains("rel=\"next\"")));
            let body = self.client.body_to_string(answer).await.map_err(|error| classify(error, what))?;
            let value = serde_json::from_str(&body)
                .map_err(|error| ForgeError::Unexpected { what: what.to_owned(), message: error.to_string() })?;
            Ok(Fresh::Changed { value, etag, has_next })
        })
        .await
    }

    async fn edit_comment(&self, issue: &IssueReference, id: u64, body: &str) -> Result<(), ForgeError> {
        let route = format!("{}/issues/comments/{id}", repository_route(&issue.repository));
        let what = format!("our comment on {issue}");
        let body = screened(body);
        retry::repeat(|| async {
            let _: serde_json::Value = self
                .client
                .patch(&route, Some(&serde_json::json!({ "body": body })))
                .await
                .map_err(|error| classify(error, &what))?;
            Ok(())
        })
        .await
    }
}

#[derive(Deserialize)]
struct WireApp {
    slug: String,
}

#[derive(Deserialize)]
struct WireIssueComment {
    id: u64,
    issue_url: String,
    user: Option<User>,
    body: Option<String>,
    created_at: String,
}

impl WireIssueComment {
    fn read(self) -> Option<IssueComment> {
        Some(IssueComment {
            id: self.id,
            issue: self.issue_url.rsplit('/').next()?.parse().ok()?,
            author: self.user.map(|user| user.login).unwrap_or_default(),
            body: self.body.unwrap_or_default(),
            created_at: milliseconds(&self.created_at)?,
        })
    }
}

#[derive(Deserialize)]
struct WirePermission {
    permission: String,
    #[serde(default)]
    role_name: String,
}

impl WirePermission {
    /// The role, which is finer; an organization's own roles have names of their own, and then the permission counts.
    fn read(&self) -> Permission {
        let named = |name: &str| match name {
            "admin" => Some(Permission::Admin),
            "maintain" => Some(Permission::Maintain),
            "write" | "push" => Some(Permission::Write),
            "triage" => Some(Permission::Triage),
            "read" | "pull" => Some(Permission::Read),
            "none" => Some(Permission::None),
            _ => None,
        };
        named(&self.role_name).or_else(|| named(&self.permission)).unwrap_or(Permission::None)
    }
}

/// Milliseconds since 1970 of an RFC 3339 time.
pub(super) fn milliseconds(time: &str) -> Option<i64> {
    Some(time.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

/// A commit status.
#[derive(Debug, Clone)]
pub struct CommitStatus {
    pub state: CommitState,
    pub context: String,
    pub description: String,
    pub target_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitState {
    Pending,
    Success,
    Failure,
    Error,
}

impl CommitState {
    fn name(self) -> &'static str {
        match self {
            CommitState::Pending => "pending",
            CommitState::Success => "success",
            CommitState::Failure => "failure",
            CommitState::Error => "error",
        }
    }
}

/// The forge's limits, as its answers told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub remaining: Option<u64>,
    /// Seconds since 1970.
    pub reset: Option<u64>,
    /// All requests wait until then.
    pub paused: Option<std::time::Duration>,
    pub requests: u64,
    pub not_modified: u64,
    pub failures: u64,
}
