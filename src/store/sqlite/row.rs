//! Rows and values.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::store::{Priority, State, TaskKey, TaskRecord};
use crate::task::{IssueReference, RepositoryName, TaskId};

/// A row of `tasks`.
pub(super) fn record(row: &SqliteRow) -> Result<TaskRecord, sqlx::Error> {
    let id: Option<String> = row.try_get("task_id")?;
    let id = id.map(|id| TaskId::parse(&id).ok_or_else(|| wrong("task_id", &id))).transpose()?;
    let target: Option<String> = row.try_get("target")?;
    Ok(TaskRecord {
        key: TaskKey(row.try_get("key")?),
        issue: issue(row)?,
        id,
        title: row.try_get("title")?,
        body: row.try_get("body")?,
        author: row.try_get("author")?,
        target: target.map(|target| repository(&target)).transpose()?,
        priority: match row.try_get("priority")? {
            0 => Priority::High,
            1 => Priority::Normal,
            2 => Priority::Low,
            other => return Err(wrong("priority", &other.to_string())),
        },
        state: state(row.try_get("state")?)?,
        attempt: number(row.try_get("attempt")?),
        reports: number(row.try_get("reports")?),
        epoch: row.try_get("epoch")?,
        lease_owner: row.try_get("lease_owner")?,
        lease_expires: row.try_get("lease_expires")?,
        not_before: row.try_get("not_before")?,
        reason: row.try_get("reason")?,
        cancel: row.try_get("cancel")?,
        outcome: row.try_get("outcome")?,
        pull_request: row.try_get("pull_request")?,
        report_due: row.try_get::<i64, _>("report_due")? == 1,
        created_at: row.try_get("created_at")?,
        admitted_at: row.try_get("admitted_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}

/// `repository` and `number` of a row.
pub(super) fn issue(row: &SqliteRow) -> Result<IssueReference, sqlx::Error> {
    let number: i64 = row.try_get("number")?;
    Ok(IssueReference { repository: repository(row.try_get("repository")?)?, number: number.unsigned_abs() })
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

/// Text without the NUL that PostgreSQL does not store.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
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
