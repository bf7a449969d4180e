//! What people ask of the queue, and what they throw away.

use std::time::Duration;

use sqlx::Row;

use super::leases::day;
use super::row::{of_json, record, repository, state};
use super::{Sqlite, later};
use crate::store::statements as sql;
use crate::store::{Counts, Entry, Filter, State, StoreError, TaskKey, TaskRecord};
use crate::task::{IssueReference, RepositoryName, TaskId};

/// Tasks that are removed in one transaction: others wait for it.
const PRUNED_AT_ONCE: i64 = 200;
/// Pages of the file that are given back in one transaction.
const FREED_AT_ONCE: &str = "PRAGMA incremental_vacuum(1000)";
/// A page that nobody has changed for so long is asked for anew.
const PAGE_LIFE: Duration = Duration::from_secs(90 * 86_400);

impl Sqlite {
    pub(in crate::store) async fn matching(&self, name: &str, limit: u32) -> Result<Vec<TaskRecord>, StoreError> {
        if let Some(issue) = IssueReference::parse(name) {
            return Ok(self.task_of(&issue).await?.into_iter().collect());
        }
        let is_beginning =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !is_beginning {
            return Ok(Vec::new());
        }
        if let Some(id) = TaskId::parse(name) {
            let row = sqlx::query(sql::TASK_BY_ID).bind(id.as_str()).fetch_optional(&self.readers).await?;
            if let Some(row) = row {
                return Ok(vec![record(&row)?]);
            }
        }
        // `~` comes after every character of an id.
        let rows = sqlx::query(sql::TASKS_BY_BEGINNING)
            .bind(name)
            .bind(format!("{name}~"))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        Ok(rows.iter().map(record).collect::<Result<_, _>>()?)
    }

    pub(in crate::store) async fn by_key(&self, key: TaskKey) -> Result<Option<TaskRecord>, StoreError> {
        let row = sqlx::query(sql::TASK_BY_KEY).bind(key.0).fetch_optional(&self.readers).await?;
        Ok(row.as_ref().map(record).transpose()?)
    }

    pub(in crate::store) async fn list(&self, filter: &Filter) -> Result<Vec<TaskRecord>, StoreError> {
        let limit = if filter.limit == 0 { i64::MAX } else { i64::from(filter.limit) };
        let mut rows = Vec::new();
        if filter.states.is_empty() {
            rows = sqlx::query(sql::NEWEST).bind(limit).fetch_all(&self.readers).await?;
        }
        let mut states: Vec<State> = Vec::new();
        for state in filter.states.iter().copied() {
            if !states.contains(&state) {
                states.push(state);
                let query = sqlx::query(sql::NEWEST_IN_STATE).bind(limit).bind(state.name());
                rows.extend(query.fetch_all(&self.readers).await?);
            }
        }
        let mut records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        records.sort_by_key(|record| std::cmp::Reverse(record.key.0));
        records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(records)
    }

    pub(in crate::store) async fn counts(&self) -> Result<Counts, StoreError> {
        let now = self.now();
        let mut counts = Counts::default();
        for row in sqlx::query(sql::TALLIES).fetch_all(&self.readers).await? {
            let tasks = row.try_get::<i64, _>("tasks")?.unsigned_abs();
            match state(row.try_get("state")?)? {
                State::Queued => counts.queued = tasks,
                State::Running => counts.running = tasks,
                State::Completed => counts.completed = tasks,
                State::Failed => counts.failed = tasks,
                State::Dead => counts.dead = tasks,
                State::Cancelled => counts.cancelled = tasks,
                State::Refused => counts.refused = tasks,
            }
        }
        let (ready, oldest): (i64, Option<i64>) = sqlx::query_as(sql::READY).bind(now).fetch_one(&self.readers).await?;
        counts.ready = ready.unsigned_abs();
        counts.oldest_ready = oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        Ok(counts)
    }

    pub(in crate::store) async fn queued_targets(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar(sql::QUEUED_TARGETS).fetch_all(&self.readers).await?;
        Ok(names.iter().map(|name| repository(name)).collect::<Result<_, _>>()?)
    }

    pub(in crate::store) async fn journal(&self, key: TaskKey) -> Result<Vec<(i64, Entry)>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(sql::JOURNAL).bind(key.0).fetch_all(&self.readers).await?;
        Ok(rows.iter().map(|(time, entry)| Ok((*time, of_json(entry)?))).collect::<Result<_, sqlx::Error>>()?)
    }

    pub(in crate::store) async fn events(
        &self,
        key: TaskKey,
        seen: i64,
        limit: u32,
    ) -> Result<Vec<(i64, i64, String)>, StoreError> {
        let query = sqlx::query_as(sql::EVENTS).bind(key.0).bind(seen).bind(i64::from(limit));
        Ok(query.fetch_all(&self.readers).await?)
    }

    pub(in crate::store) async fn prune(&self, older: Duration) -> Result<u64, StoreError> {
        let now = self.now();
        let before = now.saturating_sub(later(0, older));
        let mut removed = 0;
        loop {
            let mut transaction = self.begin().await?;
            sqlx::query(sql::REMEMBER_PRUNED).bind(before).bind(PRUNED_AT_ONCE).execute(&mut *transaction).await?;
            let gone = sqlx::query(sql::PRUNE).bind(before).bind(PRUNED_AT_ONCE).execute(&mut *transaction).await?;
            transaction.commit().await?;
            removed += gone.rows_affected();
            if gone.rows_affected() == 0 {
                break;
            }
        }
        sqlx::query(sql::PRUNE_SPENDING).bind(day(before).min(day(now))).execute(&self.writer).await?;
        sqlx::query(sql::PRUNE_PAGES).bind(now.saturating_sub(later(0, PAGE_LIFE))).execute(&self.writer).await?;
        self.give_space_back().await?;
        Ok(removed)
    }

    /// In steps, so that nobody waits long for the file.
    async fn give_space_back(&self) -> Result<(), StoreError> {
        let free = || sqlx::query_scalar::<_, i64>("PRAGMA freelist_count").fetch_one(&self.writer);
        let mut left = free().await?;
        while left > 0 {
            sqlx::query(FREED_AT_ONCE).fetch_all(&self.writer).await?;
            let now = free().await?;
            if now >= left {
                break;
            }
            left = now;
        }
        // Others may be reading; then the log shrinks another time.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&self.writer).await?;
        Ok(())
    }
}
