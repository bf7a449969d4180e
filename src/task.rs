//! Issue text becomes a [`Task`]. Pure: no input, no output, no clock.
//!
//! [`parse_issue`] reads the formats that dispatchers write, [`from_command_line`] takes plain text. Both are linear in
//! the length of the text, whatever it holds.

mod comments;
mod fences;
mod parse;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use comments::remove_comments;
pub use parse::{MAX_TEXT_BYTES, from_command_line, parse_issue};

/// A task's id: `[A-Za-z0-9_-]{4,64}`, chosen by whoever dispatched it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(String);

impl TaskId {
    /// Parses an id; anything else than 4 to 64 of `[A-Za-z0-9_-]` is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (4..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 8 characters, or all of a shorter id. Two tasks can share them.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// The branch of a task: `agent-task-<first 8 of the id>`. Two tasks can share it: check whose branch it is.
pub fn branch_name(id: &TaskId) -> String {
    format!("agent-task-{}", id.short())
}

/// `owner/name` on the forge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName {
    pub owner: String,
    pub name: String,
}

impl RepositoryName {
    /// Parses `owner/name` in GitHub's alphabet; `None` for anything else, `.` and `..` included.
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let owner_fits = (1..=39).contains(&owner.len())
            && owner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !owner.starts_with('-');
        let name_fits = (1..=100).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && name != "."
            && name != ".."
            && !name.to_ascii_lowercase().ends_with(".git");
        (owner_fits && name_fits).then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.owner, self.name)
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a valid OWNER/NAME"))
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a valid task id"))
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// An issue: `owner/name#42`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IssueReference {
    pub repository: RepositoryName,
    pub number: u64,
}

impl IssueReference {
    /// Parses `owner/name#42`.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, number) = text.split_once('#')?;
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Self { repository: RepositoryName::parse(repository)?, number })
    }
}

impl std::fmt::Display for IssueReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}#{}", self.repository, self.number)
    }
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    /// On one line.
    pub title: String,
    /// Without HTML comments, be they in fences, unclosed or nested: what a model may read.
    pub instruction: String,
    /// The contents of the instruction's `diff` and `patch` fences, in order, byte for byte (`<!--` included) but for
    /// the fence's own indentation; not empty: patch mode.
    pub patches: Vec<String>,
    /// The repository that the text names, if it names one. Never trusted without the operator's allow list.
    pub target: Option<RepositoryName>,
    /// The issue it came from, if it came from one.
    pub issue: Option<IssueReference>,
}

/// Why a text is not a task. The words can quote the text: whoever posts them makes them harmless first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is nothing to read: not a task, and nothing to comment on.
    #[error("the issue has no text")]
    Empty,
    /// The text cannot be read as a task; cause and remedy in one or two sentences.
    #[error("{0}")]
    Malformed(String),
}
