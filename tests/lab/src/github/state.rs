//! What the lab's GitHub remembers. The wire is elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::apps::{App, Grant};
use crate::clock;

/// What somebody may do in a repository, in growing order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    None,
    Read,
    Triage,
    Write,
    Maintain,
    Admin,
}

impl Permission {
    /// As in `role_name`.
    pub fn name(self) -> &'static str {
        match self {
            Permission::None => "none",
            Permission::Read => "read",
            Permission::Triage => "triage",
            Permission::Write => "write",
            Permission::Maintain => "maintain",
            Permission::Admin => "admin",
        }
    }
}

#[derive(Debug, Clone)]
pub struct User {
    pub id: u64,
    pub login: String,
    /// `User`, `Bot` or `Organization`.
    pub kind: &'static str,
}

/// An access token and what GitHub counts for it.
#[derive(Debug, Clone)]
pub struct Token {
    pub login: String,
    /// Classic scopes; `repo` is read and write, `public_repo` the same for public repositories alone.
    pub scopes: Vec<String>,
    pub limit: u64,
    pub used: u64,
    /// Seconds since 1970.
    pub reset: u64,
    /// Seconds since 1970: no credential from then on.
    pub expires: Option<u64>,
    /// Instead of scopes.
    pub grant: Option<Grant>,
}

impl Token {
    /// A token of `login` without scopes, that has all of its requests.
    pub(super) fn new(login: &str) -> Self {
        let reset = clock::now() + 3_600;
        Self { login: login.to_owned(), scopes: Vec::new(), limit: 5_000, used: 0, reset, expires: None, grant: None }
    }
}

/// Something that happened to an issue.
#[derive(Debug, Clone)]
pub struct IssueEvent {
    pub id: u64,
    pub issue: u64,
    pub actor: String,
    /// `labeled`, `unlabeled`, `renamed`, `closed` or `reopened`.
    pub kind: &'static str,
    pub label: Option<String>,
    pub created: u64,
}

#[derive(Debug, Clone)]
pub struct Label {
    pub id: u64,
    pub name: String,
    pub color: String,
    pub description: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Comment {
    pub id: u64,
    pub issue: u64,
    pub author: String,
    pub body: String,
    pub created: u64,
    pub updated: u64,
    /// The test has looked at it.
    pub(super) read: bool,
    /// It came over the wire, so a test must look at it.
    pub(super) from_wire: bool,
}

/// An issue or, with `pull`, a pull request: GitHub numbers them together.
#[derive(Debug, Clone)]
pub struct Issue {
    pub id: u64,
    pub number: u64,
    pub title: String,
    pub body: Option<String>,
    pub open: bool,
    pub state_reason: Option<String>,
    pub labels: Vec<String>,
    pub author: String,
    pub created: u64,
    pub updated: u64,
    pub closed: Option<u64>,
    /// When the body was edited last.
    pub edited: Option<u64>,
    pub pull: Option<Pull>,
    /// Deleted: 410 from now on.
    pub(super) gone: bool,
}

/// What a pull request has beyond an issue.
#[derive(Debug, Clone)]
pub struct Pull {
    pub id: u64,
    /// A branch of the same repository.
    pub head: String,
    pub head_commit: String,
    pub base: String,
    pub base_commit: String,
    pub draft: bool,
    pub maintainer_can_modify: bool,
    pub commits: u64,
    pub additions: u64,
    pub deletions: u64,
    pub changed_files: u64,
    /// The title and body at the moment of opening, which is all that webhook readers ever see.
    pub opened_title: String,
    pub opened_body: Option<String>,
}

/// A commit status.
#[derive(Debug, Clone)]
pub struct Status {
    pub id: u64,
    pub commit: String,
    pub state: String,
    pub context: String,
    pub description: Option<String>,
    pub target_url: Option<String>,
    pub creator: String,
    pub created: u64,
}

#[derive(Debug, Clone)]
pub struct Repository {
    pub id: u64,
    pub owner: String,
    pub name: String,
    pub private: bool,
    pub archived: bool,
    pub default_branch: String,
    /// The bare repository on disk.
    pub path: PathBuf,
    pub collaborators: BTreeMap<String, Permission>,
    pub labels: Vec<Label>,
    pub issues: BTreeMap<u64, Issue>,
    pub comments: BTreeMap<u64, Comment>,
    pub statuses: Vec<Status>,
    pub events: Vec<IssueEvent>,
    pub created: u64,
    pub pushed: u64,
}

impl Repository {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.issues.keys().next_back().map_or(1, |last| last + 1)
    }
}

/// Where webhooks go.
#[derive(Debug, Clone)]
pub struct Hook {
    /// `http://127.0.0.1:PORT/path`.
    pub url: String,
    pub secret: String,
    pub events: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) users: BTreeMap<String, User>,
    pub(super) tokens: BTreeMap<String, Token>,
    /// By lower-case `owner/name`.
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) hooks: Vec<Hook>,
    pub(super) apps: Vec<App>,
    last_id: u64,
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        1_000 + self.last_id
    }

    /// The user, made on first mention.
    pub(super) fn user(&mut self, login: &str, kind: &'static str) -> &User {
        if !self.users.contains_key(login) {
            let id = self.next_id();
            self.users.insert(login.to_owned(), User { id, login: login.to_owned(), kind });
        }
        &self.users[login]
    }

    pub(super) fn repository(&self, full_name: &str) -> Option<&Repository> {
        self.repositories.get(&full_name.to_ascii_lowercase())
    }

    pub(super) fn repository_mut(&mut self, full_name: &str) -> Option<&mut Repository> {
        self.repositories.get_mut(&full_name.to_ascii_lowercase())
    }

    /// What `login` may do in `repository`, without regard to a token's scopes.
    pub(super) fn role(&self, repository: &Repository, login: Option<&str>) -> Permission {
        let floor = if repository.private { Permission::None } else { Permission::Read };
        let Some(login) = login else { return floor };
        if login.eq_ignore_ascii_case(&repository.owner) {
            return Permission::Admin;
        }
        repository.collaborators.get(login).copied().unwrap_or(floor).max(floor)
    }

    /// What a token may do: its user's role, cut down to its scopes.
    pub(super) fn permission(&self, repository: &Repository, token: Option<&Token>) -> Permission {
        let role = self.role(repository, token.map(|token| token.login.as_str()));
        if let Some(grant) = token.and_then(|token| token.grant.as_ref()) {
            let floor = if repository.private { Permission::None } else { Permission::Read };
            let within = grant.repositories.contains(&repository.full_name().to_ascii_lowercase());
            return match (within, grant.installation) {
                (false, _) => floor,
                (true, true) => Permission::Write,
                (true, false) => role,
            };
        }
        let has = |scope: &str| token.is_some_and(|token| token.scopes.iter().any(|held| held == scope));
        let ceiling = match (has("repo") || (has("public_repo") && !repository.private), repository.private) {
            (true, _) => Permission::Admin,
            (false, false) => Permission::Read,
            (false, true) => Permission::None,
        };
        role.min(ceiling)
    }

    /// The token, if it is one and has not ended.
    pub(super) fn token(&self, given: &str) -> Option<&Token> {
        self.tokens.get(given).filter(|token| token.expires.is_none_or(|end| clock::now() < end))
    }

    /// Keeps what happened to an issue.
    pub(super) fn note_event(
        &mut self,
        full_name: &str,
        issue: u64,
        actor: &str,
        kind: &'static str,
        label: Option<&str>,
    ) {
        let id = self.next_id();
        let (actor, label) = (actor.to_owned(), label.map(str::to_owned));
        let event = IssueEvent { id, issue, actor, kind, label, created: clock::now() };
        if let Some(repository) = self.repository_mut(full_name) {
            repository.events.push(event);
        }
    }

    pub(super) fn add_issue(
        &mut self,
        full_name: &str,
        author: &str,
        title: &str,
        body: Option<&str>,
        labels: &[String],
    ) -> Option<u64> {
        self.user(author, if author.ends_with("[bot]") { "Bot" } else { "User" });
        let id = self.next_id();
        for label in labels {
            self.ensure_label(full_name, label);
        }
        let now = clock::now();
        let repository = self.repository_mut(full_name)?;
        let number = repository.next_number();
        repository.issues.insert(
            number,
            Issue {
                id,
                number,
                title: title.to_owned(),
                body: body.map(str::to_owned),
                open: true,
                state_reason: None,
                labels: labels.to_vec(),
                author: author.to_owned(),
                created: now,
                updated: now,
                closed: None,
                edited: None,
                pull: None,
                gone: false,
            },
        );
        for label in labels {
            self.note_event(full_name, number, author, "labeled", Some(label));
        }
        Some(number)
    }

    /// The repository's label of that name in any case, made in GitHub's default grey if there is none; its stored name.
    pub(super) fn ensure_label(&mut self, full_name: &str, name: &str) -> Option<String> {
        let id = self.next_id();
        let repository = self.repository_mut(full_name)?;
        if let Some(label) = repository.labels.iter().find(|label| label.name.eq_ignore_ascii_case(name)) {
            return Some(label.name.clone());
        }
        let label = Label { id, name: name.to_owned(), color: "ededed".into(), description: None };
        repository.labels.push(label);
        Some(name.to_owned())
    }

    pub(super) fn add_comment(
        &mut self,
        full_name: &str,
        issue: u64,
        author: &str,
        body: &str,
        wire: bool,
    ) -> Option<u64> {
        self.user(author, if author.ends_with("[bot]") { "Bot" } else { "User" });
        let id = self.next_id();
        let now = clock::now();
        let repository = self.repository_mut(full_name)?;
        repository.issues.get_mut(&issue)?.updated = now;
        repository.comments.insert(
            id,
            Comment {
                id,
                issue,
                author: author.to_owned(),
                body: body.to_owned(),
                created: now,
                updated: now,
                read: false,
                from_wire: wire,
            },
        );
        Some(id)
    }
}
