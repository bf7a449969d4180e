//! Who works what: claims, cancellations, retries.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::row::{key_of, record, text};
use super::{Sqlite, Transaction, later};
use crate::store::statements as sql;
use crate::store::{ClaimRules, State, StoreError, TaskKey, TaskRecord, crash};

/// What is ready and was not claimed waits for room at its target: it is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Sqlite {
    /// The claimed row, whether its attempts are used up, and its reason until now.
    pub(in crate::store) async fn claim(
        &self,
        rules: &ClaimRules,
    ) -> Result<Option<(TaskRecord, bool, String)>, StoreError> {
        let now = self.now();
        let mut transaction = self.begin().await?;
        for (target, reason) in &rules.closed {
            sqlx::query(sql::SAY_WHY_IT_WAITS)
                .bind(key_of(target))
                .bind(text(reason))
                .execute(&mut *transaction)
                .await?;
        }
        let next = match next(&mut transaction, rules, now).await? {
            Some(next) => next,
            None => {
                transaction.commit().await?;
                return Ok(None);
            }
        };
        // Stopped while nobody held it: there is nothing left but to tell.
        let cancelled = next.cancel.clone().filter(|_| !next.report_due && !next.state.is_end());
        let report_only = next.report_due || cancelled.is_some();
        let exhausted = !report_only && next.attempt >= rules.attempts;
        let state = match next.state {
            State::Queued | State::Running if cancelled.is_some() => State::Cancelled,
            State::Queued | State::Running => State::Running,
            State::Completed | State::Failed | State::Dead | State::Cancelled | State::Refused => next.state,
        };
        let reason = match &cancelled {
            Some(reason) => reason.as_str(),
            None if report_only || exhausted => &next.reason,
            None => "",
        };
        let row = sqlx::query(sql::CLAIM)
            .bind(next.key.0)
            .bind(&rules.owner)
            .bind(later(now, rules.lease))
            .bind(state.name())
            .bind(i64::from(report_only))
            .bind(i64::from(!report_only && !exhausted))
            .bind(reason)
            .bind(now)
            .bind(if cancelled.is_some() { Some(now) } else { next.ended_at })
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        crash::point("claim.after");
        Ok(Some((record(&row)?, exhausted, next.reason)))
    }

    pub(in crate::store) async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let now = self.now();
        let due: Option<i64> =
            sqlx::query_scalar(sql::NEXT_DUE).bind(now).bind(later(now, ASK_AGAIN)).fetch_one(&self.readers).await?;
        Ok(due.map(|due| Duration::from_millis(due.saturating_sub(now).max(0).unsigned_abs())))
    }

    pub(in crate::store) async fn cancel(&self, key: TaskKey, reason: &str) -> Result<State, StoreError> {
        let reason = text(reason);
        let now = self.now();
        let mut transaction = self.begin().await?;
        sqlx::query(sql::CANCEL_QUEUED).bind(key.0).bind(&reason).bind(now).execute(&mut *transaction).await?;
        sqlx::query(sql::CANCEL_RUNNING).bind(key.0).bind(&reason).execute(&mut *transaction).await?;
        let row = sqlx::query(sql::TASK_BY_KEY).bind(key.0).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(record(&row)?.state)
    }

    pub(in crate::store) async fn retry(&self, key: TaskKey, reason: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(sql::RETRY).bind(key.0).bind(text(reason)).execute(&self.writer).await?;
        Ok(done.rows_affected() == 1)
    }
}

async fn next(transaction: &mut Transaction, rules: &ClaimRules, now: i64) -> Result<Option<TaskRecord>, sqlx::Error> {
    // Of the text, only the number of placeholders changes.
    let mut query = sqlx::query(AssertSqlSafe(sql::claimable(rules.closed.len(), rules.reports_only)))
        .bind(now)
        .bind(i64::from(rules.per_repository));
    for (target, _) in &rules.closed {
        query = query.bind(key_of(target));
    }
    query.fetch_optional(&mut **transaction).await?.as_ref().map(record).transpose()
}
