//! The forge: GitHub over octocrab, read into small structs of our own.
//!
//! octocrab sends through a service of our own, the [`wire`], so that all requests keep to the same [`manners`]; its own
//! retries and waits are not there: they would replay a POST whose answer got lost, and wait for a rate limit without a
//! bound. Reads are repeated by [`retry::repeat`]; writes go through [`retry::create_once`], which looks for its own
//! effect first.

mod history;
mod identity;
mod manners;
pub mod render;
mod retry;
mod watch;
mod who;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use url::Url;

pub use history::{History, Labelled};
pub use identity::Credentials;
pub use watch::{CommitState, CommitStatus, Fresh, IssueComment, Limits, Permission};

use crate::logging::screened;
use crate::outcome::PullRequest;
use crate::task::{IssueReference, RepositoryName, TaskId};
use identity::Identity;
use wire::{NoAnswer, Wire};

/// Pages of 100 comments that are read; the oldest come first.
const MOST_PAGES: u32 = 30;
const PAGE: u8 = 100;

/// Where the forge is and who we are there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.github.com`, or `https://host/api/v3`.
    pub api_url: Url,
    /// `https://github.com`, or `https://host`: the base of clone addresses.
    pub server_url: Url,
    pub credentials: Credentials,
    /// For the connection, and for silence within an answer.
    pub timeout: Duration,
    /// How long one request may wait for limits to lift; longer ones are [`ForgeError::RateLimited`] at once.
    /// A service gives up early and lets its queue wait; a command line has nothing else to do.
    pub longest_wait: Duration,
    /// Between writes, after a first few; zero for none.
    pub write_spacing: Duration,
}

/// GitHub, as one identity. Clones, and clients for single repositories, share its limits.
#[derive(Debug, Clone)]
pub struct Forge {
    client: Octocrab,
    wire: Wire,
    server_url: Url,
    author: Arc<OnceCell<Author>>,
}

/// Whose comments are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Author {
    Nobody,
    Login(String),
    /// Our login cannot be asked for, as with the token of a GitHub Actions workflow: any bot's may be ours. People's
    /// are not, so nobody can silence a report by writing its marker.
    AnyBot,
}

/// An issue, as far as we read it.
#[derive(Debug, Clone, Deserialize)]
pub struct Issue {
    pub number: u64,
    pub title: String,
    pub body: Option<String>,
    pub state: String,
    #[serde(default)]
    pub labels: Vec<Label>,
    #[serde(default)]
    pub user: Option<User>,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: String,
    #[serde(default)]
    pub updated_at: String,
    /// Present if the "issue" is a pull request.
    pub pull_request: Option<serde_json::Value>,
}

/// Somebody on the forge; a deleted account is `None` where it stood.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    pub login: String,
}

/// A label of an issue.
#[derive(Debug, Clone, Deserialize)]
pub struct Label {
    pub name: String,
}

/// A repository, as far as we read it.
#[derive(Debug, Clone, Deserialize)]
pub struct Repository {
    pub full_name: String,
    pub default_branch: String,
    #[serde(default)]
    pub archived: bool,
    #[serde(default)]
    pub permissions: Option<Permissions>,
}

/// What our token may do in a repository.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Permissions {
    #[serde(default)]
    pub push: bool,
}

/// What a branch of a repository points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub commit: String,
    pub message: String,
}

/// A pull request to open.
#[derive(Debug, Clone)]
pub struct NewPullRequest {
    pub title: String,
    pub body: String,
    pub head: String,
    pub base: String,
    pub draft: bool,
}

/// Why the forge did not do it. Each text names the remedy.
///
/// None of them says that an issue is closed or gone for good: a 404 may be a missing permission, a repository that is
/// being moved, or a mistake of the forge's. Whoever wants to know whether an issue is still open reads it and looks at
/// its `state`.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    #[error(
        "{what} was not found: it does not exist, or the token may not see it. Check the name and the token's access"
    )]
    NotFound { what: String },
    #[error(
        "the forge refused the credentials. Check that GITHUB_TOKEN is valid and not expired, or the App's id, key and installation"
    )]
    Unauthorized,
    #[error(
        "the forge forbids {what}: {message}. Check the token's permissions (contents, issues and pull requests: read and write)"
    )]
    Forbidden { what: String, message: String },
    #[error("the forge's rate limit is reached. Try again in {} s", wait.as_secs())]
    RateLimited { wait: Duration },
    #[error("the forge refused {what}: {message}")]
    Unprocessable { what: String, message: String },
    #[error("the forge could not be reached for {what}: {message}. Check GITHUB_API_URL and the network")]
    Transient { what: String, message: String },
    #[error("the forge gave an answer that does not fit for {what}: {message}")]
    Unexpected { what: String, message: String },
}

impl Forge {
    /// A client for `settings`; sends nothing yet. It belongs to the runtime that it is made in.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self::over(Wire::new(settings)?, settings.server_url.clone(), Arc::default()))
    }

    fn over(wire: Wire, server_url: Url, author: Arc<OnceCell<Author>>) -> Self {
        let builder = OctocrabBuilder::new_empty().with_service(wire.clone()).with_auth(AuthState::None);
        let client = builder.build().unwrap_or_else(|never| match never {});
        Self { client, wire, server_url, author }
    }

    /// Whether there is something to write with: a token, or an App.
    pub fn has_token(&self) -> bool {
        !matches!(self.wire.identity, Identity::Nobody)
    }

    /// The address that git clones `repository` from; it holds no token.
    pub fn clone_url(&self, repository: &RepositoryName) -> Url {
        let mut url = self.server_url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{}/{}.git", repository.owner, repository.name));
        url
    }

    /// Reads an issue.
    pub async fn issue(&self, issue: &IssueReference) -> Result<Issue, ForgeError> {
        self.read(
            &format!("{}/issues/{}", repository_route(&issue.repository), issue.number),
            &format!("issue {issue}"),
        )
        .await
    }

    /// Reads a repository: its default branch, and what we may do there.
    pub async fn repository(&self, repository: &RepositoryName) -> Result<Repository, ForgeError> {
        self.read(&repository_route(repository), &format!("repository {repository}")).await
    }

    /// Reads a branch; `None` if there is none of that name.
    pub async fn branch(&self, repository: &RepositoryName, branch: &str) -> Result<Option<Branch>, ForgeError> {
        #[derive(Deserialize)]
        struct WireBranch {
            commit: WireCommit,
        }
        #[derive(Deserialize)]
        struct WireCommit {
            sha: String,
            commit: WireMessage,
        }
        #[derive(Deserialize)]
        struct WireMessage {
            message: String,
        }
        let route = format!("{}/branches/{branch}", repository_route(repository));
        match self.read::<WireBranch>(&route, &format!("branch {branch} of {repository}")).await {
            Ok(found) => Ok(Some(Branch { commit: found.commit.sha, message: found.commit.commit.message })),
            Err(ForgeError::NotFound { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The pull request of `task`, in any state, whose head is `branch`; the newest if there are several.
    pub async fn pull_request_of(
        &self,
        task: &TaskId,
        repository: &RepositoryName,
        branch: &str,
    ) -> Result<Option<PullRequest>, ForgeError> {
        let route = format!(
            "{}/pulls?state=all&head={}:{branch}&per_page={PAGE}",
            repository_route(repository),
            repository.owner
        );
        let found: Vec<WirePullRequest> = self.read(&route, &format!("pull requests of {repository}")).await?;
        let marker = render::metadata_line(task);
        let ours = |pull: &WirePullRequest| pull.body.as_deref().is_some_and(|body| body.contains(&marker));
        Ok(found.into_iter().find(ours).map(|pull| pull.into_pull_request(true)))
    }

    /// Opens the pull request of `task`, unless it is there already: also if an answer got lost on the way.
    pub async fn open_pull_request(
        &self,
        task: &TaskId,
        repository: &RepositoryName,
        new: &NewPullRequest,
    ) -> Result<PullRequest, ForgeError> {
        let what = format!("a pull request in {repository}");
        let route = format!("{}/pulls", repository_route(repository));
        let body = serde_json::json!({
            "title": screened(&new.title), "body": screened(&new.body), "head": new.head, "base": new.base, "draft": new.draft,
            "maintainer_can_modify": true,
        });
        let (pull_request, _) = retry::create_once(
            || self.pull_request_of(task, repository, &new.head),
            || async {
                let made: WirePullRequest =
                    self.client.post(&route, Some(&body)).await.map_err(|error| classify(error, &what))?;
                Ok(made.into_pull_request(false))
            },
        )
        .await?;
        Ok(pull_request)
    }

    /// Whether a comment of ours with `marker` stands on an issue.
    pub async fn has_comment(&self, issue: &IssueReference, marker: &str) -> Result<bool, ForgeError> {
        Ok(self.find_comment(issue, marker).await?.is_some())
    }

    /// Comments on an issue, unless a comment of ours with `marker` stands there already.
    pub async fn comment_once(&self, issue: &IssueReference, marker: &str, body: &str) -> Result<(), ForgeError> {
        self.create_comment(issue, marker, body).await.map(drop)
    }

    /// Adds and removes labels of an issue. Both are idempotent at the forge, so they are simply repeated on failure.
    pub async fn change_labels(&self, issue: &IssueReference, add: &[&str], remove: &[&str]) -> Result<(), ForgeError> {
        let route = format!("{}/issues/{}/labels", repository_route(&issue.repository), issue.number);
        let what = format!("the labels of {issue}");
        if !add.is_empty() {
            retry::repeat(|| async {
                let labels = serde_json::json!({ "labels": add });
                let _: Vec<Label> =
                    self.client.post(&route, Some(&labels)).await.map_err(|error| classify(error, &what))?;
                Ok(())
            })
            .await?;
        }
        for label in remove {
            retry::repeat(|| async {
                let removed: Result<Vec<Label>, _> =
                    self.client.delete(format!("{route}/{}", path_segment(label)), None::<&()>).await;
                match removed.map_err(|error| classify(error, &what)) {
                    Ok(_) | Err(ForgeError::NotFound { .. }) => Ok(()),
                    Err(other) => Err(other),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Closes an issue.
    pub async fn close_issue(&self, issue: &IssueReference) -> Result<(), ForgeError> {
        let route = format!("{}/issues/{}", repository_route(&issue.repository), issue.number);
        retry::repeat(|| async {
            let _: Issue = self
                .client
                .patch(&route, Some(&serde_json::json!({ "state": "closed" })))
                .await
                .map_err(|error| classify(error, &format!("closing {issue}")))?;
            Ok(())
        })
        .await
    }

    /// Makes a comment with `marker`, or finds the one that is there; whether it was there before.
    async fn create_comment(
        &self,
        issue: &IssueReference,
        marker: &str,
        body: &str,
    ) -> Result<(WireComment, bool), ForgeError> {
        let what = format!("a comment on {issue}");
        let route = format!("{}/issues/{}/comments", repository_route(&issue.repository), issue.number);
        let body = serde_json::json!({ "body": screened(body) });
        retry::create_once(
            || self.find_comment(issue, marker),
            || async { self.client.post(&route, Some(&body)).await.map_err(|error| classify(error, &what)) },
        )
        .await
    }

    /// The first comment on an issue that holds `marker` and was written by us.
    async fn find_comment(&self, issue: &IssueReference, marker: &str) -> Result<Option<WireComment>, ForgeError> {
        let author = self.author().await?;
        if author == Author::Nobody {
            return Ok(None);
        }
        let route = format!("{}/issues/{}/comments?per_page={PAGE}", repository_route(&issue.repository), issue.number);
        for page in 1..=MOST_PAGES {
            let (comments, has_next): (Vec<WireComment>, bool) =
                self.read_page(&format!("{route}&page={page}"), &format!("comments of {issue}")).await?;
            let ours = comments.into_iter().find(|comment| {
                comment.body.as_deref().is_some_and(|body| body.contains(marker)) && author.wrote(comment)
            });
            if ours.is_some() || !has_next {
                return Ok(ours);
            }
        }
        Ok(None)
    }

    async fn read<T: DeserializeOwned>(&self, route: &str, what: &str) -> Result<T, ForgeError> {
        retry::repeat(|| async { self.client.get(route, None::<&()>).await.map_err(|error| classify(error, what)) })
            .await
    }
}

impl Author {
    fn wrote(&self, comment: &WireComment) -> bool {
        let Some(user) = &comment.user else { return false };
        match self {
            Author::Nobody => false,
            Author::Login(login) => login.eq_ignore_ascii_case(&user.login),
            Author::AnyBot => user.kind == "Bot",
        }
    }
}

#[derive(Debug, Deserialize)]
struct WirePullRequest {
    number: u64,
    html_url: String,
    #[serde(default)]
    draft: bool,
    body: Option<String>,
}

impl WirePullRequest {
    fn into_pull_request(self, existed: bool) -> PullRequest {
        PullRequest { number: self.number, url: self.html_url, draft: self.draft, existed }
    }
}

#[derive(Debug, Deserialize)]
struct WireComment {
    id: u64,
    body: Option<String>,
    user: Option<WireUser>,
}

#[derive(Debug, Deserialize)]
struct WireUser {
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

fn repository_route(repository: &RepositoryName) -> String {
    format!("/repos/{}/{}", repository.owner, repository.name)
}

/// Percent-encodes one segment of a path.
fn path_segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Sorts octocrab's errors into those that a caller tells apart.
fn classify(error: octocrab::Error, what: &str) -> ForgeError {
    let what = what.to_owned();
    match error {
        octocrab::Error::GitHub { source, .. } => {
            let details: Vec<String> = source.errors.iter().flatten().map(ToString::to_string).collect();
            let message = match details.is_empty() {
                true => source.message.clone(),
                false => format!("{} ({})", source.message, details.join(", ")),
            };
            wire::refusal(source.status_code, what, message)
        }
        octocrab::Error::Service { source, .. } => match source.downcast::<NoAnswer>() {
            Ok(no) => no.into_forge_error(&what),
            Err(other) => ForgeError::Transient { what, message: wire::root_cause(other.as_ref()) },
        },
        octocrab::Error::Serde { source, .. } => ForgeError::Unexpected { what, message: source.to_string() },
        octocrab::Error::Json { source, .. } => ForgeError::Unexpected { what, message: source.to_string() },
        other => ForgeError::Transient { what, message: wire::root_cause(&other) },
    }
}
