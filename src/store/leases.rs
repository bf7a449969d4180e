//! What a claim may do while it holds its lease. Each check of the lease stands in the transaction of what it guards, and
//! keeps the lease as it is until that has ended.

use std::time::Duration;

use super::database::{Database, Failure, Session, query};
use super::row::{json, key_of, later, of_json, record, signed};
use super::statements as sql;
use super::{End, Entry, Heartbeat, State, StoreError, TaskKey, TaskRecord, crash};
use crate::outcome::Usage;

const MILLISECONDS_OF_A_DAY: i64 = 86_400_000;

/// What a claim proves itself with.
pub(super) struct Lease<'a> {
    pub(super) key: TaskKey,
    pub(super) owner: &'a str,
    pub(super) epoch: i64,
}

impl Database {
    pub(super) async fn heartbeat(&self, lease: &Lease<'_>, length: Duration) -> Result<Heartbeat, Failure> {
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        let row = query(sql::HEARTBEAT)
            .bind(lease.key.0)
            .bind(lease.owner)
            .bind(lease.epoch)
            .bind(later(now, length))
            .fetch_optional(&mut session)
            .await?;
        session.commit().await?;
        Ok(match row.ok_or(StoreError::Stale)?.get::<Option<String>>(0)? {
            None => Heartbeat::GoOn,
            Some(reason) => Heartbeat::Cancel(reason),
        })
    }

    pub(super) async fn write(&self, lease: &Lease<'_>, entry: &Entry) -> Result<(), Failure> {
        crash::point_of(|| format!("journal.before:{}", entry.name()));
        let mut session = self.begin().await?;
        let is_held = query(sql::IS_HELD).bind(lease.key.0).bind(lease.owner).bind(lease.epoch).locked();
        is_held.fetch_optional(&mut session).await?.ok_or(StoreError::Stale)?;
        let now = self.now(&mut session).await?;
        query(sql::WRITE)
            .bind(lease.key.0)
            .bind(lease.owner)
            .bind(lease.epoch)
            .bind(now)
            .bind(json(entry)?)
            .execute(&mut session)
            .await?;
        if let Entry::Concluded { outcome } = entry {
            query(sql::CONCLUDE)
                .bind(lease.key.0)
                .bind(lease.owner)
                .bind(lease.epoch)
                .bind(outcome.as_str())
                .execute(&mut session)
                .await?;
        }
        session.commit().await?;
        crash::point_of(|| format!("journal.after:{}", entry.name()));
        Ok(())
    }

    pub(super) async fn journal_of_round(&self, key: TaskKey) -> Result<Vec<Entry>, Failure> {
        let mut session = self.read().await?;
        let rows = query(sql::JOURNAL_OF_ROUND).bind(key.0).fetch_all(&mut session).await?;
        let entries: Result<Vec<Entry>, sqlx::Error> = rows.iter().map(|row| of_json(&row.get::<String>(0)?)).collect();
        Ok(entries?)
    }

    pub(super) async fn log(&self, key: TaskKey, events: &[String]) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        for event in events {
            query(sql::LOG).bind(key.0).bind(now).bind(event.as_str()).execute(&mut session).await?;
        }
        session.commit().await
    }

    pub(super) async fn spend(&self, lease: &Lease<'_>, usage: Usage, micros: Option<u64>) -> Result<(), Failure> {
        let tokens = usage.prompt_tokens.unwrap_or(0).saturating_add(usage.completion_tokens.unwrap_or(0));
        let mut session = self.begin().await?;
        let task = held(&mut session, lease).await?;
        let now = self.now(&mut session).await?;
        query(sql::SPEND)
            .bind(day(now))
            .bind(task.target.as_ref().map(key_of).unwrap_or_default())
            .bind(lease.key.0)
            .bind(signed(tokens))
            .bind(signed(micros.unwrap_or(0)))
            .bind(i64::from(micros.is_none() && tokens > 0))
            .execute(&mut session)
            .await?;
        session.commit().await
    }

    /// `counted`: the claim counted as an attempt.
    pub(super) async fn end(&self, lease: &Lease<'_>, counted: bool, end: &End) -> Result<(), Failure> {
        crash::point("end.before");
        let mut session = self.begin().await?;
        let task = held(&mut session, lease).await?;
        let row = ending(&task, end, counted, self.now(&mut session).await?);
        query(sql::END)
            .bind(lease.key.0)
            .bind(lease.owner)
            .bind(lease.epoch)
            .bind(row.state.name())
            .bind(i64::from(row.report_due))
            .bind(row.reason)
            .bind(row.pull_request)
            .bind(row.not_before)
            .bind(i64::from(row.attempt_back))
            .bind(row.ended_at)
            .execute(&mut session)
            .await?;
        session.commit().await?;
        crash::point("end.after");
        Ok(())
    }
}

/// Days since 1970, UTC.
pub(super) fn day(time: i64) -> i64 {
    time.div_euclid(MILLISECONDS_OF_A_DAY)
}

/// The claim's row, if it still is the claim's.
async fn held(session: &mut Session, lease: &Lease<'_>) -> Result<TaskRecord, Failure> {
    let row = query(sql::HELD).bind(lease.key.0).bind(lease.owner).bind(lease.epoch).locked();
    let row = row.fetch_optional(session).await?.ok_or(StoreError::Stale)?;
    Ok(record(&row)?)
}

/// What an end makes of a row.
struct Ending<'a> {
    state: State,
    report_due: bool,
    reason: String,
    pull_request: Option<&'a str>,
    not_before: i64,
    attempt_back: bool,
    ended_at: Option<i64>,
}

fn ending<'a>(task: &TaskRecord, end: &'a End, counted: bool, now: i64) -> Ending<'a> {
    match end {
        End::Ended { state, reason, pull_request } => Ending {
            state: *state,
            report_due: false,
            reason: reason.clone(),
            pull_request: pull_request.as_deref(),
            not_before: 0,
            attempt_back: false,
            ended_at: Some(now),
        },
        End::ReportLater { state, reason, pull_request, after } => Ending {
            state: *state,
            report_due: true,
            reason: reason.clone(),
            pull_request: pull_request.as_deref(),
            not_before: later(now, *after),
            attempt_back: false,
            ended_at: Some(now),
        },
        End::Retry { after, reason } => {
            Ending { reason: reason.clone(), not_before: later(now, *after), ..given_back(task, now) }
        }
        End::Released { after, reason } => {
            let given_back = given_back(task, now);
            // Who is stopped, or has ended, does not wait for anything.
            if given_back.state != State::Queued {
                return Ending { attempt_back: counted, ..given_back };
            }
            let reason = reason.clone().unwrap_or(given_back.reason);
            Ending { reason, not_before: later(now, *after), attempt_back: counted, ..given_back }
        }
    }
}

/// The row waits again, for work or for its report; who wanted it stopped while it ran gets that now.
fn given_back(task: &TaskRecord, now: i64) -> Ending<'static> {
    let (state, report_due, reason, ended_at) = match (task.state.is_end(), &task.cancel) {
        (true, _) => (task.state, task.report_due, &task.reason, task.ended_at),
        (false, Some(reason)) if !task.report_due => (State::Cancelled, true, reason, Some(now)),
        (false, _) => (State::Queued, task.report_due, &task.reason, None),
    };
    let reason = reason.clone();
    Ending { state, report_due, reason, pull_request: None, not_before: now, attempt_back: false, ended_at }
}
