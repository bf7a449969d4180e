//! Who works what: claims, cancellations, retries.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::database::{Database, Failure, Session, query};
use super::row::{key_of, later, record};
use super::statements as sql;
use super::{ClaimRules, State, TaskKey, TaskRecord, crash};
use crate::task::RepositoryName;

/// What is ready and was not claimed waits for room at its target: it is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Database {
    /// The claimed row, whether its attempts are used up, and its reason until now.
    pub(super) async fn claim(&self, rules: &ClaimRules) -> Result<Option<(TaskRecord, bool, String)>, Failure> {
        self.say_why_they_wait(rules).await?;
        let mut closed: Vec<String> = rules.closed.iter().map(|(target, _)| key_of(target)).collect();
        loop {
            let mut session = self.begin().await?;
            let now = self.now(&mut session).await?;
            let Some(next) = next(&mut session, rules, &closed, now).await? else { return Ok(None) };
            // Stopped while nobody held it: there is nothing left but to tell.
            let cancelled = next.cancel.clone().filter(|_| !next.report_due && !next.state.is_end());
            let report_only = next.report_due || cancelled.is_some();
            if let Some(target) = next.target.as_ref().filter(|_| !report_only)
                && !has_room(&mut session, target, rules, now).await?
            {
                closed.push(key_of(target));
                continue;
            }
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
            let row = query(sql::CLAIM)
                .bind(next.key.0)
                .bind(rules.owner.as_str())
                .bind(later(now, rules.lease))
                .bind(state.name())
                .bind(i64::from(report_only))
                .bind(i64::from(!report_only && !exhausted))
                .bind(reason)
                .bind(now)
                .bind(if cancelled.is_some() { Some(now) } else { next.ended_at })
                .fetch_one(&mut session)
                .await?;
            session.commit().await?;
            crash::point("claim.after");
            return Ok(Some((record(&row)?, exhausted, next.reason)));
        }
    }

    async fn say_why_they_wait(&self, rules: &ClaimRules) -> Result<(), Failure> {
        if rules.closed.is_empty() {
            return Ok(());
        }
        let mut session = self.begin().await?;
        for (target, reason) in &rules.closed {
            query(sql::SAY_WHY_IT_WAITS).bind(key_of(target)).bind(reason.as_str()).execute(&mut session).await?;
        }
        session.commit().await
    }

    pub(super) async fn next_due(&self) -> Result<Option<Duration>, Failure> {
        let mut session = self.read().await?;
        let now = self.now(&mut session).await?;
        let row = query(sql::NEXT_DUE).bind(now).bind(later(now, ASK_AGAIN)).fetch_one(&mut session).await?;
        let due: Option<i64> = row.get(0)?;
        Ok(due.map(|due| Duration::from_millis(due.saturating_sub(now).max(0).unsigned_abs())))
    }

    pub(super) async fn cancel(&self, key: TaskKey, reason: &str) -> Result<State, Failure> {
        let mut session = self.begin_still().await?;
        let now = self.now(&mut session).await?;
        query(sql::CANCEL_QUEUED).bind(key.0).bind(reason).bind(now).execute(&mut session).await?;
        query(sql::CANCEL_RUNNING).bind(key.0).bind(reason).execute(&mut session).await?;
        let row = query(sql::TASK_BY_KEY).bind(key.0).fetch_one(&mut session).await?;
        session.tell().await?;
        session.commit().await?;
        Ok(record(&row)?.state)
    }

    pub(super) async fn retry(&self, key: TaskKey, reason: &str) -> Result<bool, Failure> {
        let mut session = self.begin().await?;
        let done = query(sql::RETRY).bind(key.0).bind(reason).execute(&mut session).await?;
        session.tell().await?;
        session.commit().await?;
        Ok(done == 1)
    }
}

/// The first in line, but for the targets in `closed`.
async fn next(
    session: &mut Session,
    rules: &ClaimRules,
    closed: &[String],
    now: i64,
) -> Result<Option<TaskRecord>, Failure> {
    // Of the text, only the number of placeholders changes.
    let text = AssertSqlSafe(sql::claimable(closed.len(), rules.reports_only));
    let mut query = query(text).bind(now).bind(i64::from(rules.per_repository));
    for target in closed {
        query = query.bind(target.as_str());
    }
    let row = query.locked_or_skipped().fetch_optional(session).await?;
    Ok(row.as_ref().map(record).transpose()?)
}

/// The same question as of the line, while nobody else claims of the target.
async fn has_room(
    session: &mut Session,
    target: &RepositoryName,
    rules: &ClaimRules,
    now: i64,
) -> Result<bool, Failure> {
    let target = key_of(target);
    session.alone(&format!("claims of {target}")).await?;
    let running: i64 = query(sql::AT_WORK).bind(target).bind(now).fetch_one(session).await?.get(0)?;
    Ok(running < i64::from(rules.per_repository))
}
