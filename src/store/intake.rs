//! Tasks come in, or meet the row that is there.

use super::database::{Database, Failure, Session, query};
use super::row::{issue as issue_of, key_of, priority, record, signed, state};
use super::statements as sql;
use super::{Admission, NewTask, Priority, State, TaskRecord};
use crate::task::{IssueReference, RepositoryName};

/// What is known of an issue, by its row or by what was left of it.
struct Known {
    state: State,
    revision: String,
    report_due: bool,
    admitted_at: Option<i64>,
}

impl Database {
    pub(super) async fn admit(&self, new: &NewTask) -> Result<Admission, Failure> {
        let mut session = self.begin_still().await?;
        let now = self.now(&mut session).await?;
        let known = known(&mut session, &new.issue).await?;
        let fate = known.as_ref().map_or(Admission::New, |known| fate(known, &new.revision));
        match fate {
            Admission::Known(_) | Admission::TooLate(_) | Admission::IdTaken { .. } => return Ok(fate),
            Admission::New | Admission::Updated | Admission::Requeued => {}
        }
        let admission = match id_elsewhere(&mut session, new).await? {
            None => fate,
            Some(by) => Admission::IdTaken { by },
        };
        if let (Admission::IdTaken { .. }, Some(known)) = (&admission, &known)
            && known.state == State::Refused
            && known.revision == new.revision
        {
            return Ok(admission);
        }
        let mut row = Intake {
            issue: &new.issue,
            id: Some(new.id.as_str()),
            title: &new.title,
            body: &new.body,
            author: &new.author,
            target: Some(&new.target),
            priority: new.priority,
            state: State::Queued,
            reason: "",
            revision: &new.revision,
            created_at: new.created_at,
            admitted_at: now,
        };
        let taken;
        match &admission {
            Admission::IdTaken { by } => {
                taken = format!("{by} has this task id already");
                row = Intake { id: None, state: State::Refused, reason: &taken, ..row };
            }
            // It keeps its age.
            Admission::Updated => row.admitted_at = known.and_then(|known| known.admitted_at).unwrap_or(now),
            Admission::New | Admission::Known(_) | Admission::Requeued | Admission::TooLate(_) => {}
        }
        put(&mut session, &row, now).await?;
        session.tell().await?;
        session.commit().await?;
        Ok(admission)
    }

    pub(super) async fn refuse(
        &self,
        issue: &IssueReference,
        title: &str,
        author: &str,
        revision: &str,
        reason: &str,
    ) -> Result<bool, Failure> {
        let mut session = self.begin_still().await?;
        let now = self.now(&mut session).await?;
        let is_news = match known(&mut session, issue).await? {
            None => true,
            Some(known) => match known.state {
                State::Running | State::Completed => false,
                State::Queued => !known.report_due,
                State::Failed | State::Dead | State::Cancelled | State::Refused => known.revision != revision,
            },
        };
        if is_news {
            let row = Intake {
                issue,
                id: None,
                title,
                body: "",
                author,
                target: None,
                priority: Priority::Normal,
                state: State::Refused,
                reason,
                revision,
                created_at: now,
                admitted_at: now,
            };
            put(&mut session, &row, now).await?;
            session.commit().await?;
        }
        Ok(is_news)
    }

    pub(super) async fn task_of(&self, issue: &IssueReference) -> Result<Option<TaskRecord>, Failure> {
        let mut session = self.read().await?;
        let query = query(sql::TASK_BY_ISSUE).bind(key_of(&issue.repository)).bind(signed(issue.number));
        let row = query.fetch_optional(&mut session).await?;
        Ok(row.as_ref().map(record).transpose()?)
    }

    pub(super) async fn active_issues(&self, dispatch: &RepositoryName) -> Result<Vec<u64>, Failure> {
        let mut session = self.read().await?;
        let rows = query(sql::ACTIVE_ISSUES).bind(key_of(dispatch)).fetch_all(&mut session).await?;
        let numbers: Result<_, sqlx::Error> = rows.iter().map(|row| Ok(row.get::<i64>(0)?.unsigned_abs())).collect();
        Ok(numbers?)
    }

    pub(super) async fn set_priority(&self, issue: &IssueReference, wanted: Priority) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        query(sql::SET_PRIORITY)
            .bind(key_of(&issue.repository))
            .bind(signed(issue.number))
            .bind(priority(wanted))
            .execute(&mut session)
            .await?;
        session.commit().await
    }
}

/// What becomes of a text that is a task and is allowed, where its issue is known.
fn fate(known: &Known, revision: &str) -> Admission {
    match (known.state, known.revision == revision) {
        // It is allowed now, so what it was refused for is no more.
        (State::Refused, _) => Admission::Requeued,
        (state, true) => Admission::Known(state),
        (State::Queued, false) if !known.report_due => Admission::Updated,
        (State::Queued | State::Running | State::Completed, false) => Admission::TooLate(known.state),
        (State::Failed | State::Dead | State::Cancelled, false) => Admission::Requeued,
    }
}

async fn known(session: &mut Session, issue: &IssueReference) -> Result<Option<Known>, Failure> {
    let (repository, number) = (key_of(&issue.repository), signed(issue.number));
    let row = query(sql::TASK_BY_ISSUE).bind(repository.as_str()).bind(number).fetch_optional(session).await?;
    if let Some(row) = row {
        let known = Known {
            state: state(&row.get::<String>("state")?)?,
            revision: row.get("revision")?,
            report_due: row.get::<i64>("report_due")? == 1,
            admitted_at: row.get("admitted_at")?,
        };
        return Ok(Some(known));
    }
    let memo = query(sql::MEMO_BY_ISSUE).bind(repository.as_str()).bind(number).fetch_optional(session).await?;
    let Some(memo) = memo else { return Ok(None) };
    let state = state(&memo.get::<String>("state")?)?;
    Ok(Some(Known { state, revision: memo.get("revision")?, report_due: false, admitted_at: None }))
}

/// Another issue whose task has this id: two tasks of one id would share a branch.
async fn id_elsewhere(session: &mut Session, new: &NewTask) -> Result<Option<IssueReference>, Failure> {
    let row = query(sql::ID_ELSEWHERE)
        .bind(new.id.as_str())
        .bind(key_of(&new.issue.repository))
        .bind(signed(new.issue.number))
        .fetch_optional(session)
        .await?;
    Ok(row.as_ref().map(issue_of).transpose()?)
}

/// What intake writes of a task.
struct Intake<'a> {
    issue: &'a IssueReference,
    id: Option<&'a str>,
    title: &'a str,
    body: &'a str,
    author: &'a str,
    target: Option<&'a RepositoryName>,
    priority: Priority,
    state: State,
    reason: &'a str,
    revision: &'a str,
    created_at: i64,
    admitted_at: i64,
}

async fn put(session: &mut Session, row: &Intake<'_>, now: i64) -> Result<(), Failure> {
    let (repository, number) = (key_of(&row.issue.repository), signed(row.issue.number));
    query(sql::FORGET_MEMO).bind(repository.as_str()).bind(number).execute(session).await?;
    query(sql::PUT_TASK)
        .bind(row.issue.repository.to_string())
        .bind(repository.as_str())
        .bind(number)
        .bind(row.id)
        .bind(row.title)
        .bind(row.body)
        .bind(row.author)
        .bind(row.target.map(RepositoryName::to_string))
        .bind(row.target.map(key_of))
        .bind(priority(row.priority))
        .bind(row.state.name())
        .bind(row.reason)
        .bind(row.revision)
        .bind(row.created_at)
        .bind(row.admitted_at)
        .bind((row.state == State::Refused).then_some(now))
        .execute(session)
        .await?;
    Ok(())
}
