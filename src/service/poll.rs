//! Polling: every page of a dispatch repository's open issues, conditionally, oldest first; then what vanished from
//! them; then the newest comments.
//!
//! A page whose ETag is known costs nothing while nothing changes, also over a restart: what stood on it is remembered.
//! A page with an issue that could not be judged, since the forge did not answer, is read in full again. None of the
//! three parts waits for another one to succeed.
//!
//! With polling switched off, webhooks tell what is new; a pass at the start and one each hour find what they missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Service;
use super::admit::{self, Considered, Departure, Seen};
use super::command::{self, Said};
use super::policy;
use crate::forge::{ForgeError, Fresh, Issue, IssueComment};
use crate::pipeline;
use crate::store::Page;
use crate::task::{IssueReference, RepositoryName};

/// Pages of 100 issues. More open tasks than this are looked at as the first ones close.
const MOST_PAGES: u32 = 100;
/// Pages of 100 comments that are read back to the newest one that is known.
const MOST_COMMENT_PAGES: u32 = 30;
/// Between two passes where webhooks tell what is new.
const BESIDE_WEBHOOKS: Duration = Duration::from_secs(3600);
/// The same after a pass that failed; doubles.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// What is remembered of a page of issues.
#[derive(Debug, Serialize, Deserialize)]
struct IssuesMemo {
    /// The operator's choices that the issues were judged by; other ones want another look.
    rules: String,
    numbers: Vec<u64>,
    has_next: bool,
}

/// What is remembered of the newest comments.
#[derive(Debug, Serialize, Deserialize)]
struct CommentsMemo {
    last: u64,
}

/// Polls until the service stops. Errors are shown by the health check and make the next pass later.
pub(super) async fn run(service: Arc<Service>, dispatch: RepositoryName) {
    let mut failures: u32 = 0;
    loop {
        let passed = tokio::select! {
            passed = pass(&service, &dispatch) => passed,
            () = service.stop.cancelled() => return,
        };
        let limit = passed.as_ref().err().and_then(pipeline::limit_of);
        match passed {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!("cannot read the issues of {dispatch}: {error:#}");
            }
        }
        let beside_webhooks = if failures == 0 { BESIDE_WEBHOOKS } else { AFTER_FAILURE };
        let interval = service.config.poll.unwrap_or(beside_webhooks);
        let delay = policy::poll_delay(interval, failures, limit, rand::rng().random());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = service.stop.cancelled() => return,
        }
    }
}

/// One look at everything of one dispatch repository.
pub(super) async fn pass(service: &Service, dispatch: &RepositoryName) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    match read_issues(service, dispatch).await {
        Ok((listed, undecided)) => {
            errors.extend(undecided);
            errors.extend(look_for_the_vanished(service, dispatch, &listed).await.err());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(read_comments(service, dispatch).await.err());
    let passed = joined(errors);
    let words = passed.as_ref().map_err(|error| format!("{error:#}")).copied();
    service.metrics.polled(words.is_ok());
    service.health.polled(dispatch, words);
    passed
}

/// All errors in one, which is a limit's if one of them is.
fn joined(mut errors: Vec<anyhow::Error>) -> anyhow::Result<()> {
    errors.sort_by_key(|error| pipeline::limit_of(error).is_none());
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    Err(errors.fold(first, |joined, other| joined.context(format!("{other:#}; and"))))
}

/// Takes in what stands on the pages; answers the numbers of all issues on them, and why one of them is undecided.
async fn read_issues(
    service: &Service,
    dispatch: &RepositoryName,
) -> anyhow::Result<(BTreeSet<u64>, Option<anyhow::Error>)> {
    let rules = rules(service);
    let mut listed = BTreeSet::new();
    let mut undecided = None;
    for number in 1..=MOST_PAGES {
        let name = format!("issues:{dispatch}:{}:{number}", service.config.label);
        let known = service.store.page(&name).await?;
        let memo = known.as_ref().and_then(|page| serde_json::from_str::<IssuesMemo>(&page.memo).ok());
        let known = known.zip(memo).filter(|(_, memo)| memo.rules == rules);
        let etag = known.as_ref().map(|(page, _)| page.etag.as_str());
        let fresh = service.forge.open_issues(dispatch, &service.config.label, number, etag).await?;
        let has_next = match (fresh, known) {
            (Fresh::Unchanged, Some((_, memo))) => {
                listed.extend(memo.numbers);
                memo.has_next
            }
            (Fresh::Unchanged, None) => anyhow::bail!("the forge says that a page is unchanged that was never read"),
            (Fresh::Changed { value, etag, has_next }, _) => {
                let numbers: Vec<u64> = value.iter().map(|issue| issue.number).collect();
                listed.extend(&numbers);
                match consider_all(service, dispatch, &value).await {
                    Ok(Considered::Done) => {
                        let memo = serde_json::to_string(&IssuesMemo { rules: rules.clone(), numbers, has_next })?;
                        service.store.set_page(&name, &Page { etag, memo }).await?;
                    }
                    Ok(Considered::LookAgain(why)) => {
                        tracing::debug!("page {number} of {dispatch} is read again: {why}")
                    }
                    Err(error) => undecided = Some(error),
                }
                has_next
            }
        };
        if !has_next {
            break;
        }
    }
    Ok((listed, undecided))
}

/// One issue that cannot be judged now does not keep the others waiting.
async fn consider_all(service: &Service, dispatch: &RepositoryName, issues: &[Issue]) -> anyhow::Result<Considered> {
    let mut considered = Considered::Done;
    let mut undecided = None;
    for issue in issues {
        match admit::consider(service, dispatch, Seen { issue, labeller: None, attempt: 0 }).await {
            Ok(Considered::Done) => {}
            Ok(again) => considered = again,
            Err(error) => {
                let limited = pipeline::limit_of(&error).is_some();
                undecided = Some(error.context(format!("issue {dispatch}#{} is looked at again", issue.number)));
                if limited {
                    break;
                }
            }
        }
    }
    undecided.map_or(Ok(considered), Err)
}

/// Tasks whose issues are on no page: each is asked for by itself, and cancelled only if the forge says that it is
/// closed or has lost its label. No answer says nothing.
async fn look_for_the_vanished(
    service: &Service,
    dispatch: &RepositoryName,
    listed: &BTreeSet<u64>,
) -> anyhow::Result<()> {
    for number in service.store.active_issues(dispatch).await?.into_iter().filter(|number| !listed.contains(number)) {
        let reference = IssueReference { repository: dispatch.clone(), number };
        match admit::withdraw(service, &reference, Departure::Unlisted).await {
            Err(error) if error.is::<ForgeError>() => {
                tracing::debug!("{reference} is on no page, and cannot be read: {error}");
            }
            withdrawn => drop(withdrawn?),
        }
    }
    Ok(())
}

/// Does what new comments ask for. Those that were there before the first look are history.
async fn read_comments(service: &Service, dispatch: &RepositoryName) -> anyhow::Result<()> {
    let name = format!("comments:{dispatch}");
    let known = service.store.page(&name).await?;
    let memo = known.as_ref().and_then(|page| serde_json::from_str::<CommentsMemo>(&page.memo).ok());
    let etag = known.as_ref().filter(|_| memo.is_some()).map(|page| page.etag.as_str());
    let fresh = service.forge.recent_comments(dispatch, 1, etag).await?;
    let Fresh::Changed { mut value, etag, has_next } = fresh else { return Ok(()) };
    if let Some(memo) = memo.as_ref().filter(|_| has_next) {
        read_back(service, dispatch, memo.last, &mut value).await?;
    }
    value.sort_by_key(|comment| comment.id);
    let newest = value.last().map_or(0, |comment| comment.id);
    if let Some(memo) = &memo {
        for comment in value.iter().filter(|comment| comment.id > memo.last) {
            let said = Said { id: comment.id, issue: comment.issue, author: &comment.author, body: &comment.body };
            match command::obey(service, dispatch, said).await.context("a comment is read again")? {
                Considered::Done => {}
                Considered::LookAgain(why) => {
                    tracing::debug!("the comments of {dispatch} are read again: {why}");
                    return Ok(());
                }
            }
        }
    }
    let last = newest.max(memo.map_or(0, |memo| memo.last));
    let memo = serde_json::to_string(&CommentsMemo { last })?;
    Ok(service.store.set_page(&name, &Page { etag, memo }).await?)
}

/// Adds the comments on further pages, back to the one that was the newest last time.
async fn read_back(
    service: &Service,
    dispatch: &RepositoryName,
    last: u64,
    comments: &mut Vec<IssueComment>,
) -> anyhow::Result<()> {
    for page in 2..=MOST_COMMENT_PAGES {
        if comments.iter().any(|comment| comment.id <= last) {
            return Ok(());
        }
        let older = service.forge.recent_comments(dispatch, page, None).await?;
        let Fresh::Changed { value, has_next, .. } = older else { return Ok(()) };
        comments.extend(value);
        if !has_next {
            return Ok(());
        }
    }
    tracing::warn!("there are more new comments in {dispatch} than are read; the oldest of them are passed over");
    Ok(())
}

/// Names the operator's choices that decide what is taken in.
pub(super) fn rules(service: &Service) -> String {
    let config = &service.config;
    let chosen = (&config.allowed_authors, &config.allowed_targets, &config.target_repository);
    let text = format!("{} {chosen:?}", env!("CARGO_PKG_VERSION"));
    hex::encode(Sha256::digest(text)).chars().take(16).collect()
}
