//! The guard: before anything of a change leaves, the operator's policy judges it, and it is searched for secrets.
//!
//! Neither the repository nor the model has a say in the rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use super::{Order, Services};
use crate::logging;
use crate::outcome::{Conclusion, Stage};
use crate::policy::{self, Level, Policy, Report, Rules, RulesError};
use crate::secrets::{Allow, Allowed, Hit, Kind, Place, ScannerError, Text};
use crate::task::RepositoryName;
use crate::workspace::{Artefacts, Change, Checkout, FileChange, Side, Snapshot};

/// Findings that are named to the model, or in the cause of a failure.
const MOST_NAMED: usize = 10;

/// What is to be let through, for all repositories.
#[derive(Debug)]
pub struct Guard {
    usual: Policy,
    /// By `owner/name` in lower case.
    of: BTreeMap<String, Policy>,
    allowed: Allowed,
}

/// Why a guard cannot be made of the config.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Secrets(#[from] ScannerError),
}

impl Guard {
    /// `of`: the rules of single repositories, by `owner/name` in lower case.
    pub fn new(usual: Rules, of: BTreeMap<String, Rules>, allow: &Allow) -> Result<Self, GuardError> {
        let of = of.into_iter().map(|(name, rules)| Ok((name, Policy::new(rules)?)));
        Ok(Self {
            usual: Policy::new(usual)?,
            of: of.collect::<Result<_, RulesError>>()?,
            allowed: Allowed::new(allow)?,
        })
    }

    fn policy(&self, repository: Option<&RepositoryName>) -> &Policy {
        let own = repository.and_then(|name| self.of.get(&name.to_string().to_ascii_lowercase()));
        own.unwrap_or(&self.usual)
    }
}

/// A candidate that may leave. Only [`examine`] makes one.
#[derive(Debug)]
pub(super) struct Cleared {
    snapshot: Snapshot,
    report: Report,
}

impl Cleared {
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// What a change comes to: one whose tests pass may still be one that a person has to look at, by the policy or by
    /// what a review has found.
    pub(super) fn conclude(&self, conclusion: Conclusion, findings: &[String]) -> Conclusion {
        let needs_review = self.report.level() == Level::Review || !findings.is_empty();
        match conclusion {
            Conclusion::Verified | Conclusion::NeedsReview if needs_review => Conclusion::NeedsReview,
            Conclusion::Verified | Conclusion::NeedsReview => Conclusion::Verified,
            Conclusion::Unverified
            | Conclusion::NoChange
            | Conclusion::BudgetRanOut { .. }
            | Conclusion::Failed { .. } => conclusion,
        }
    }
}

/// Why a candidate may not leave.
#[derive(Debug)]
pub(super) struct Refusal {
    report: Report,
    hits: Vec<Hit>,
}

/// What the guard says of a candidate.
pub(super) enum Examined {
    Cleared(Cleared),
    Refused(Refusal),
}

/// A text that may not leave, though nothing of the change is to blame.
#[derive(Debug, thiserror::Error)]
#[error("{}, so nothing was published", named(&self.0))]
pub(super) struct Leak(Vec<Hit>);

impl Leak {
    pub(super) fn remedy(&self) -> String {
        remedy_of(&self.0)
    }
}

/// Judges what a snapshot changes. `made`: what setup and tests had made on the base.
pub(super) async fn examine(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    snapshot: Snapshot,
    made: &Artefacts,
) -> anyhow::Result<Examined> {
    let change = checkout.change(&snapshot).await?;
    let is_new = |file: &FileChange| file.new.is_some() && (file.old.is_none() || file.renamed_from.is_some());
    let covering = |file: &&FileChange| is_new(file) && made.are_covered_by(&file.path);
    let covering: Vec<Vec<u8>> = change.files.iter().filter(covering).map(|file| file.path.clone()).collect();
    let (guard, repository) = (Arc::clone(&services.settings.guard), order.repository.clone());
    let judged = tokio::task::spawn_blocking(move || judge(&guard, repository.as_ref(), change, covering));
    let (report, hits) = judged.await.context("judging the change broke off")??;
    if report.level() == Level::Block || !hits.is_empty() {
        let refusal = Refusal { report, hits };
        services.events.note(format!("the change may not leave: {}", refusal.what()));
        return Ok(Examined::Refused(refusal));
    }
    if report.level() == Level::Review {
        services.events.note(format!("the policy wants a person to look: {}", report.summary()));
    }
    Ok(Examined::Cleared(Cleared { snapshot, report }))
}

fn judge(
    guard: &Guard,
    repository: Option<&RepositoryName>,
    change: Change,
    covering: Vec<Vec<u8>>,
) -> Result<(Report, Vec<Hit>), ScannerError> {
    let scanner = logging::scanner()?;
    let change = policy::Change { covering, ..change_of(change) };
    let mut hits = Vec::new();
    for file in &change.files {
        let Some(new) = &file.new else { continue };
        let place = Place::File(String::from_utf8_lossy(&file.path).into_owned());
        let base = file.old.as_ref().map(|old| old.bytes.as_slice());
        hits.extend(scanner.scan(&Text { place, bytes: &new.bytes, base }, &guard.allowed));
        hits.truncate(crate::secrets::MOST_HITS);
    }
    Ok((guard.policy(repository).judge(&change), hits))
}

/// The change in the policy's terms.
fn change_of(change: Change) -> policy::Change {
    let is_unread = |file: &&FileChange| file.new.as_ref().is_some_and(|side| side.bytes.is_none());
    let unread = change.files.iter().filter(is_unread).map(|file| file.path.clone()).collect();
    let entry = |side: Side| policy::Entry { mode: side.mode, bytes: side.bytes.unwrap_or_default() };
    let files = change.files.into_iter().map(|file| policy::FileChange {
        path: file.path,
        renamed_from: file.renamed_from,
        old: file.old.map(entry),
        new: file.new.map(entry),
    });
    policy::Change { files: files.collect(), unread, covering: Vec::new() }
}

/// Searches texts that are about to leave; in those for people, what only looks like a secret is left out by whoever
/// sends them.
pub(super) fn check_texts(texts: Vec<(Place, String)>) -> anyhow::Result<()> {
    let scanner = logging::scanner()?;
    let mut hits = Vec::new();
    for (place, text) in texts {
        let is_cleaned = match &place {
            Place::Title | Place::Body | Place::Comment => true,
            Place::File(_) | Place::FileName | Place::CommitMessage | Place::Branch => false,
        };
        let found = scanner.scan(&Text { place, bytes: text.as_bytes(), base: None }, &Allowed::default());
        hits.extend(found.into_iter().filter(|hit| !is_cleaned || matches!(hit.kind, Kind::Own { .. })));
    }
    if hits.is_empty() { Ok(()) } else { Err(Leak(hits).into()) }
}

impl Refusal {
    /// The policy's report, if it may be shown: names of files may be secrets too.
    pub(super) fn report(&self) -> Option<&Report> {
        self.hits.is_empty().then_some(&self.report)
    }

    /// What the agent is told. Which secret it is, and in what form, is none of its business.
    pub(super) fn feedback(&self) -> String {
        let mut text = String::from("Not accepted: the change may not leave this machine as it is.\n");
        for hit in self.hits.iter().take(MOST_NAMED) {
            let kind = match &hit.kind {
                Kind::Own { .. } => "a secret".to_owned(),
                Kind::Token { .. } | Kind::PrivateKey | Kind::PasswordInAddress | Kind::RandomValue => {
                    hit.kind.describe()
                }
            };
            let line = if hit.line > 0 { format!(", line {}", hit.line) } else { String::new() };
            text.push_str(&format!("- {}{line}: {kind}. Take it out.\n", hit.place.describe()));
        }
        for finding in self.blocking().take(MOST_NAMED) {
            text.push_str(&format!("- {}: {}. It is not allowed: undo it.\n", shown(&finding.path), finding.text));
        }
        text.push_str("Then finish again.");
        text
    }

    /// How a task ends whose last word was this change.
    pub(super) fn conclude(&self) -> Conclusion {
        Conclusion::Failed { stage: Stage::Verify, cause: self.cause(), remedy: self.remedy(), transient: false }
    }

    fn cause(&self) -> String {
        match self.hits.is_empty() {
            true => format!("the policy blocks this change: {}", self.what()),
            false => format!("{}, so nothing was published", self.what()),
        }
    }

    fn what(&self) -> String {
        if !self.hits.is_empty() {
            return named(&self.hits);
        }
        let findings: Vec<String> = self
            .blocking()
            .take(MOST_NAMED)
            .map(|finding| format!("{} ({})", shown(&finding.path), finding.text))
            .collect();
        and_more(findings, self.blocking().count())
    }

    fn remedy(&self) -> String {
        if !self.hits.is_empty() {
            return remedy_of(&self.hits);
        }
        let mut rules: Vec<&str> = self.blocking().filter_map(|finding| finding.class.rule()).collect();
        rules.sort_unstable();
        rules.dedup();
        let forbidden = self.blocking().any(|finding| finding.class.rule().is_none());
        match (rules.is_empty(), forbidden) {
            (_, true) => "No setting lets such files through. Make the change without them.".into(),
            (true, false) => String::new(),
            (false, false) => format!(
                "If it is wanted, set {} to \"review\" or \"allow\" in the config, or name the paths in policy.overrides.",
                rules.join(" and ")
            ),
        }
    }

    fn blocking(&self) -> impl Iterator<Item = &policy::Finding> {
        self.report.findings.iter().filter(|finding| finding.level == Level::Block)
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "the whole change" } else { path }
}

fn named(hits: &[Hit]) -> String {
    let some = hits.iter().take(MOST_NAMED);
    let some = some.map(|hit| {
        let line = if hit.line > 0 { format!(", line {}", hit.line) } else { String::new() };
        format!("{}{line} holds {}", hit.place.describe(), hit.kind.describe())
    });
    and_more(some.collect(), hits.len())
}

fn and_more(named: Vec<String>, all: usize) -> String {
    match all.saturating_sub(named.len()) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

fn remedy_of(hits: &[Hit]) -> String {
    match hits.iter().any(|hit| matches!(hit.kind, Kind::Own { .. })) {
        true => "Find out how it came within reach, and renew it if anybody else may have seen it.".into(),
        false => "If it is no secret, name the file in secrets.allow in the config.".into(),
    }
}
