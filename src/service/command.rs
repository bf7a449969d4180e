//! What people ask for in comments: `/stop` and `/retry`, as the first word of the first line.

use super::Service;
use super::admit::{self, Considered};
use crate::store::{Page, State};
use crate::task::{IssueReference, RepositoryName};

/// A request in a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Stop,
    Retry,
}

/// Reads a comment; most are none of our business.
pub fn parse(body: &str) -> Option<Request> {
    match body.lines().next()?.split_whitespace().next()? {
        "/stop" => Some(Request::Stop),
        "/retry" => Some(Request::Retry),
        _ => None,
    }
}

/// One comment, however it was heard of.
pub(super) struct Said<'a> {
    pub id: u64,
    pub issue: u64,
    pub author: &'a str,
    pub body: &'a str,
}

/// Does what a comment asks for, if somebody with write access asks, and if it was not done before. An error is one of
/// the world: the comment is to be read again.
pub(super) async fn obey(service: &Service, dispatch: &RepositoryName, said: Said<'_>) -> anyhow::Result<Considered> {
    let Some(request) = parse(said.body) else { return Ok(Considered::Done) };
    let issue = IssueReference { repository: dispatch.clone(), number: said.issue };
    let Some(record) = service.store.task_of(&issue).await? else { return Ok(Considered::Done) };
    let memo = format!("comment:{dispatch}#{}", said.id);
    if service.store.page(&memo).await?.is_some() {
        return Ok(Considered::Done);
    }
    if admit::is_own(service, said.author).await?
        || service.permissions.may_write(&service.forge, dispatch, said.author).await?
    {
        match request {
            Request::Stop => {
                let state = service.store.cancel(record.key, "somebody asked for it with /stop").await?;
                tracing::info!(%issue, ?state, "/stop");
                service.beat.notify_waiters();
            }
            Request::Retry if record.state == State::Refused => {
                tracing::debug!(%issue, "/retry of a text that was refused: the label is to be set again");
            }
            Request::Retry if record.state == State::Running && record.cancel.is_some() => {
                return Ok(Considered::LookAgain("its task is still being stopped"));
            }
            Request::Retry => {
                let queued = service.store.retry(record.key, "somebody asked for it with /retry").await?;
                tracing::info!(%issue, queued, "/retry");
            }
        }
        service.queued.notify_one();
    } else {
        tracing::debug!(%issue, "a request in a comment of somebody who may not write is ignored");
    }
    service.store.set_page(&memo, &Page { etag: String::new(), memo: String::new() }).await?;
    Ok(Considered::Done)
}
