//! What people ask of the queue, and what they throw away.

use std::time::Duration;

use super::database::{Database, Failure, Row, query};
use super::leases::day;
use super::row::{later, of_json, record, repository, state};
use super::statements as sql;
use super::{Counts, Entry, Filter, State, StoreError, TaskKey, TaskRecord};
use crate::task::{IssueReference, RepositoryName, TaskId};

/// Tasks that are removed in one transaction: others wait for it.
const PRUNED_AT_ONCE: i64 = 200;
/// A page that nobody has changed for so long is asked for anew.
const PAGE_LIFE: Duration = Duration::from_secs(90 * 86_400);

impl Database {
    pub(super) async fn matching(&self, name: &str, limit: u32) -> Result<Vec<TaskRecord>, Failure> {
        if let Some(issue) = IssueReference::parse(name) {
            return Ok(self.task_of(&issue).await?.into_iter().collect());
        }
        let is_beginning =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !is_beginning {
            return Ok(Vec::new());
        }
        let mut session = self.read().await?;
        if let Some(id) = TaskId::parse(name) {
            let row = query(sql::TASK_BY_ID).bind(id.as_str()).fetch_optional(&mut session).await?;
            if let Some(row) = row {
                return Ok(vec![record(&row)?]);
            }
        }
        // `~` comes after every character of an id.
        let rows = query(sql::TASKS_BY_BEGINNING)
            .bind(name)
            .bind(format!("{name}~"))
            .bind(i64::from(limit))
            .fetch_all(&mut session)
            .await?;
        Ok(records(&rows)?)
    }

    pub(super) async fn by_key(&self, key: TaskKey) -> Result<Option<TaskRecord>, Failure> {
        let mut session = self.read().await?;
        let row = query(sql::TASK_BY_KEY).bind(key.0).fetch_optional(&mut session).await?;
        Ok(row.as_ref().map(record).transpose()?)
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<TaskRecord>, Failure> {
        let limit = if filter.limit == 0 { i64::MAX } else { i64::from(filter.limit) };
        let mut session = self.read().await?;
        let mut rows = Vec::new();
        if filter.states.is_empty() {
            rows = query(sql::NEWEST).bind(limit).fetch_all(&mut session).await?;
        }
        let mut states: Vec<State> = Vec::new();
        for state in filter.states.iter().copied() {
            if !states.contains(&state) {
                states.push(state);
                let query = query(sql::NEWEST_IN_STATE).bind(limit).bind(state.name());
                rows.extend(query.fetch_all(&mut session).await?);
            }
        }
        let mut records = records(&rows)?;
        records.sort_by_key(|record| std::cmp::Reverse(record.key.0));
        records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(records)
    }

    pub(super) async fn counts(&self) -> Result<Counts, Failure> {
        let mut session = self.read().await?;
        let now = self.now(&mut session).await?;
        let mut counts = Counts::default();
        for row in query(sql::TALLIES).fetch_all(&mut session).await? {
            let tasks = row.get::<i64>("tasks")?.unsigned_abs();
            match state(&row.get::<String>("state")?)? {
                State::Queued => counts.queued = tasks,
                State::Running => counts.running = tasks,
                State::Completed => counts.completed = tasks,
                State::Failed => counts.failed = tasks,
                State::Dead => counts.dead = tasks,
                State::Cancelled => counts.cancelled = tasks,
                State::Refused => counts.refused = tasks,
            }
        }
        let row = query(sql::READY).bind(now).fetch_one(&mut session).await?;
        let (ready, oldest): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
        counts.ready = ready.unsigned_abs();
        counts.oldest_ready = oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        Ok(counts)
    }

    pub(super) async fn queued_targets(&self) -> Result<Vec<RepositoryName>, Failure> {
        let mut session = self.read().await?;
        let rows = query(sql::QUEUED_TARGETS).fetch_all(&mut session).await?;
        let names: Result<_, sqlx::Error> = rows.iter().map(|row| repository(&row.get::<String>(0)?)).collect();
        Ok(names?)
    }

    pub(super) async fn journal(&self, key: TaskKey) -> Result<Vec<(i64, Entry)>, Failure> {
        let mut session = self.read().await?;
        let rows = query(sql::JOURNAL).bind(key.0).fetch_all(&mut session).await?;
        let entry = |row: &Row| Ok((row.get("written_at")?, of_json(&row.get::<String>("entry")?)?));
        let entries: Result<_, sqlx::Error> = rows.iter().map(entry).collect();
        Ok(entries?)
    }

    pub(super) async fn events(&self, key: TaskKey, seen: i64, limit: u32) -> Result<Vec<(i64, i64, String)>, Failure> {
        let mut session = self.read().await?;
        let query = query(sql::EVENTS).bind(key.0).bind(seen).bind(i64::from(limit));
        let rows = query.fetch_all(&mut session).await?;
        let event = |row: &Row| Ok((row.get("number")?, row.get("written_at")?, row.get("event")?));
        let events: Result<_, sqlx::Error> = rows.iter().map(event).collect();
        Ok(events?)
    }

    pub(super) async fn prune(&self, older: Duration) -> Result<u64, StoreError> {
        let before = self.again(|| self.time_before(older)).await?;
        let mut removed = 0;
        loop {
            let gone = self.again(|| self.prune_some(before)).await?;
            removed += gone;
            if gone == 0 {
                break;
            }
        }
        self.again(|| self.prune_memory(before)).await?;
        self.give_space_back().await?;
        Ok(removed)
    }

    async fn time_before(&self, older: Duration) -> Result<i64, Failure> {
        let now = self.now(&mut self.read().await?).await?;
        Ok(now.saturating_sub(later(0, older)))
    }

    async fn prune_some(&self, before: i64) -> Result<u64, Failure> {
        let mut session = self.begin_still().await?;
        query(sql::REMEMBER_PRUNED).bind(before).bind(PRUNED_AT_ONCE).execute(&mut session).await?;
        let gone = query(sql::PRUNE).bind(before).bind(PRUNED_AT_ONCE).execute(&mut session).await?;
        session.commit().await?;
        Ok(gone)
    }

    async fn prune_memory(&self, before: i64) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        query(sql::PRUNE_SPENDING).bind(day(before).min(day(now))).execute(&mut session).await?;
        query(sql::PRUNE_PAGES).bind(now.saturating_sub(later(0, PAGE_LIFE))).execute(&mut session).await?;
        session.commit().await
    }
}

fn records(rows: &[Row]) -> Result<Vec<TaskRecord>, sqlx::Error> {
    rows.iter().map(record).collect()
}
