//! Rows and values.

use std::time::Duration;

use super::database::Row;
use super::{Priority, State, TaskKey, TaskRecord};
use crate::task::{IssueReference, RepositoryName, TaskId};

/// A row of `tasks`.
pub(super) fn record(row: &Row) -> Result<TaskRecord, sqlx::Error> {
    let id: Option<String> = row.get("task_id")?;
    let id = id.map(|id| TaskId::parse(&id).ok_or_else(|| wrong("task_id", &id))).transpose()?;
    let target: Option<String> = row.get("target")?;
    Ok(TaskRecord {
        key: TaskKey(row.get("key")?),
        issue: issue(row)?,
        id,
        title: row.get("title")?,
        body: row.get("body")?,
        author: row.get("author")?,
        target: target.map(|target| repository(&target)).transpose()?,
        priority: match row.get::<i64>("priority")? {
            0 => Priority::High,
            1 => Priority::Normal,
            2 => Priority::Low,
            other => return Err(wrong("priority", &other.to_string())),
        },
        state: state(&row.get::<String>("state")?)?,
        attempt: number(row.get("attempt")?),
        reports: number(row.get("reports")?),
        epoch: row.get("epoch")?,
        lease_owner: row.get("lease_owner")?,
        lease_expires: row.get("lease_expires")?,
        not_before: row.get("not_before")?,
        reason: row.get("reason")?,
        cancel: row.get("cancel")?,
        outcome: row.get("outcome")?,
        pull_request: row.get("pull_request")?,
        report_due: row.get::<i64>("report_due")? == 1,
        created_at: row.get("created_at")?,
        admitted_at: row.get("admitted_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

/// `repository` and `number` of a row.
pub(super) fn issue(row: &Row) -> Result<IssueReference, sqlx::Error> {
    let number: i64 = row.get("number")?;
    Ok(IssueReference { repository: repository(&row.get::<String>("repository")?)?, number: number.unsigned_abs() })
}

pub(super) fn state(text: &str) -> Result<State, sqlx::Error> {
    State::parse(text).ok_or_else(|| wrong("state", text))
}

pub(super) fn priority(priority: Priority) -> i64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// The name as the forge compares it.
pub(super) fn key_of(name: &RepositoryName) -> String {
    name.to_string().to_ascii_lowercase()
}

/// Issue numbers and counts: what does not fit is as good as the largest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// `time` from `now` on, in milliseconds.
pub(super) fn later(now: i64, time: Duration) -> i64 {
    now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn of_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn repository(text: &str) -> Result<RepositoryName, sqlx::Error> {
    let (owner, name) = text.split_once('/').ok_or_else(|| wrong("repository", text))?;
    Ok(RepositoryName { owner: owner.to_owned(), name: name.to_owned() })
}

fn wrong(column: &str, value: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("`{value}` in the column `{column}`").into())
}
