//! What a claim may do while it holds its lease. Each check of the lease stands in the transaction of what it guards.

use std::time::Duration;

use super::row::{json, of_json, record, signed, text};
use super::{Sqlite, Transaction, later};
use crate::outcome::Usage;
use crate::store::statements as sql;
use crate::store::{End, Entry, Heartbeat, State, StoreError, TaskKey, TaskRecord, crash};

const MILLISECONDS_OF_A_DAY: i64 = 86_400_000;

/// What a claim proves itself with.
pub(in crate::store) struct Lease<'a> {
    pub(in crate::store) key: TaskKey,
    pub(in crate::store) owner: &'a str,
    pub(in crate::store) epoch: i64,
}

impl Sqlite {
    pub(in crate::store) async fn heartbeat(
        &self,
        lease: &Lease<'_>,
        length: Duration,
    ) -> Result<Heartbeat, StoreError> {
        let answer: Option<Option<String>> = sqlx::query_scalar(sql::HEARTBEAT)
            .bind(lease.key.0)
            .bind(lease.owner)
            .bind(lease.epoch)
            .bind(later(self.now(), length))
            .fetch_optional(&self.writer)
            .await?;
        match answer {
            None => Err(StoreError::Stale),
            Some(None) => Ok(Heartbeat::GoOn),
            Some(Some(reason)) => Ok(Heartbeat::Cancel(reason)),
        }
    }

    pub(in crate::store) async fn write(&self, lease: &Lease<'_>, entry: &Entry) -> Result<(), StoreError> {
        crash::point_of(|| format!("journal.before:{}", entry.name()));
        let mut transaction = self.begin().await?;
        let written = sqlx::query(sql::WRITE)
            .bind(lease.key.0)
            .bind(lease.owner)
            .bind(lease.epoch)
            .bind(self.now())
            .bind(json(entry)?)
            .execute(&mut *transaction)
            .await?;
        if written.rows_affected() != 1 {
            return Err(StoreError::Stale);
        }
        if let Entry::Concluded { outcome } = entry {
            sqlx::query(sql::CONCLUDE)
                .bind(lease.key.0)
                .bind(lease.owner)
                .bind(lease.epoch)
                .bind(text(outcome))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        crash::point_of(|| format!("journal.after:{}", entry.name()));
        Ok(())
    }

    pub(in crate::store) async fn journal_of_round(&self, key: TaskKey) -> Result<Vec<Entry>, StoreError> {
        let entries: Vec<String> =
            sqlx::query_scalar(sql::JOURNAL_OF_ROUND).bind(key.0).fetch_all(&self.readers).await?;
        let entries: Result<Vec<Entry>, sqlx::Error> = entries.iter().map(|entry| of_json(entry)).collect();
        Ok(entries?)
    }

    pub(in crate::store) async fn log(&self, key: TaskKey, events: &[String]) -> Result<(), StoreError> {
        let now = self.now();
        let mut transaction = self.begin().await?;
        for event in events {
            sqlx::query(sql::LOG).bind(key.0).bind(now).bind(text(event)).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(in crate::store) async fn spend(
        &self,
        lease: &Lease<'_>,
        usage: Usage,
        micros: Option<u64>,
    ) -> Result<(), StoreError> {
        let tokens = usage.prompt_tokens.unwrap_or(0).saturating_add(usage.completion_tokens.unwrap_or(0));
        let mut transaction = self.begin().await?;
        let task = held(&mut transaction, lease).await?;
        sqlx::query(sql::SPEND)
            .bind(day(self.now()))
            .bind(task.target.as_ref().map(super::row::key_of).unwrap_or_default())
            .bind(lease.key.0)
            .bind(signed(tokens))
            .bind(signed(micros.unwrap_or(0)))
            .bind(i64::from(micros.is_none() && tokens > 0))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// `counted`: the claim counted as an attempt.
    pub(in crate::store) async fn end(&self, lease: &Lease<'_>, counted: bool, end: &End) -> Result<(), StoreError> {
        crash::point("end.before");
        let now = self.now();
        let mut transaction = self.begin().await?;
        let task = held(&mut transaction, lease).await?;
        let row = ending(&task, end, counted, now);
        let ended = sqlx::query(sql::END)
            .bind(lease.key.0)
            .bind(lease.owner)
            .bind(lease.epoch)
            .bind(row.state.name())
            .bind(i64::from(row.report_due))
            .bind(text(&row.reason))
            .bind(row.pull_request)
            .bind(row.not_before)
            .bind(i64::from(row.attempt_back))
            .bind(row.ended_at)
            .execute(&mut *transaction)
            .await?;
        if ended.rows_affected() != 1 {
            return Err(StoreError::Stale);
        }
        transaction.commit().await?;
        crash::point("end.after");
        Ok(())
    }
}

/// Days since 1970, UTC.
pub(super) fn day(time: i64) -> i64 {
    time.div_euclid(MILLISECONDS_OF_A_DAY)
}

/// The claim's row, if it still is the claim's.
async fn held(transaction: &mut Transaction, lease: &Lease<'_>) -> Result<TaskRecord, StoreError> {
    let row = sqlx::query(sql::HELD)
        .bind(lease.key.0)
        .bind(lease.owner)
        .bind(lease.epoch)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(record(&row.ok_or(StoreError::Stale)?)?)
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
