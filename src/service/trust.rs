//! Whose texts are worked. The policy is pure ([`judge`]); whom the forge lets write is asked and remembered.
//!
//! A text is trusted if its author may write to the dispatch repository (only the author and those can edit it), or if
//! such a person set the dispatch label on exactly this text.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::forge::{Forge, ForgeError, Permission};
use crate::task::RepositoryName;

/// How long an answer about somebody's permission is good for.
const FRESH: Duration = Duration::from_secs(600);
/// More answers than this are not remembered.
const MOST_REMEMBERED: usize = 10_000;

/// What is known of a text when it is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The author is ourselves, on the operator's list, or may write to the dispatch repository.
    pub author_trusted: bool,
    /// Another text of this issue was admitted before.
    pub edited: bool,
    /// When somebody trusted last set the dispatch label, in milliseconds since 1970.
    pub labelled_at: Option<i64>,
    /// When this text was changed last; `None`: never.
    pub changed_at: Option<i64>,
}

/// What becomes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Admit,
    /// Refused, and told so.
    Refuse(&'static str),
    /// An untrusted edit of a text that was admitted: it is as if it had not been made.
    Ignore,
}

const STRANGER: &str = "its author may not write to this repository. Somebody who may has to set the label";
const CHANGED: &str = "it was changed after its label was set, and its author may not write to this repository. \
                       Somebody who may has to read it and to set the label again";

/// Judges a text. What is not known counts against it; so does a change in the second of the label, since the forge's
/// times do not say which came first.
pub fn judge(sighting: &Sighting) -> Judgement {
    if sighting.author_trusted {
        return Judgement::Admit;
    }
    let unchanged_since = |labelled: i64| sighting.changed_at.is_none_or(|changed| changed < labelled);
    match sighting.labelled_at {
        Some(labelled) if unchanged_since(labelled) => Judgement::Admit,
        Some(_) | None if sighting.edited => Judgement::Ignore,
        Some(_) => Judgement::Refuse(CHANGED),
        None => Judgement::Refuse(STRANGER),
    }
}

type Answers = HashMap<(String, String), (bool, Instant)>;

/// Whom the forge lets write, as it told lately.
#[derive(Debug, Default)]
pub struct Permissions(Mutex<Answers>);

impl Permissions {
    /// Whether `login` may write to `repository`. An error tells nothing: ask again later.
    pub async fn may_write(&self, forge: &Forge, repository: &RepositoryName, login: &str) -> Result<bool, ForgeError> {
        let key = (repository.to_string().to_ascii_lowercase(), login.to_ascii_lowercase());
        let known = self.lock().get(&key).copied();
        if let Some((may, _)) = known.filter(|(_, asked)| asked.elapsed() < FRESH) {
            return Ok(may);
        }
        let may = forge.permission(repository, login).await? >= Permission::Write;
        let mut known = self.lock();
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(key, (may, Instant::now()));
        Ok(may)
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
