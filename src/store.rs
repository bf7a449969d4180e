//! What outlives the process: tasks with their leases, the journal of their effects, events, deliveries, ETags and
//! spending, in one database.
//!
//! ```text
//! admit -> queued -> claim (lease, epoch) -> running -> concluded -> reported: completed | failed | dead | cancelled
//!             ^------- retry, release, expired lease -------'
//! ```
//!
//! Every claim has a new `epoch`. Whatever a worker does outside, it first writes down through its [`Claim`]; a claim
//! whose epoch is stale, since the lease expired and somebody else took the task, gets [`StoreError::Stale`] and must
//! stop at once. A lease that is over, but that nobody else took, still is its owner's. Times are milliseconds since
//! 1970, by the clock of all who share the database: the machine's where it is a file, else the database's own.
//!
//! A row whose report is due is claimed for the report alone: that counts no attempt. It keeps the state of its end
//! meanwhile; a row that was concluded, but had no end yet, is `Running`. [`Entry::Concluded`] makes the report due.
//!
//! Who begins anew (by an edit or a retry) begins a new round: the [`Claim::journal`] is that of the round, while
//! [`Store::journal`] shows all of it. A claim of the round before is stale from then on.

pub mod crash;
mod database;
mod intake;
mod leases;
mod memory;
mod migrations;
mod people;
mod postgres;
mod queue;
mod row;
mod sqlite;
pub mod statements;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use self::database::Database;
use self::leases::Lease;
use crate::outcome::{Stage, Usage};
use crate::task::{IssueReference, RepositoryName, TaskId};

/// Where the database is.
#[derive(Debug, Clone)]
pub enum Settings {
    /// The file; made, with its folder, if it is missing (readable by its owner alone).
    Sqlite { path: PathBuf },
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters. The database must be there; its tables are
    /// made. A server that is not on this machine must prove who it is (`sslmode=verify-full`), unless the address says
    /// otherwise.
    Postgres { address: SecretString },
}

/// Where a task stands. Each state but the first two is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a worker; not before [`TaskRecord::not_before`].
    Queued,
    /// A worker holds the lease.
    Running,
    /// Ended with a pull request, or no change was needed.
    Completed,
    /// Ended with a reported failure.
    Failed,
    /// Used up its attempts without an end: it failed for transient reasons, or took the process with it.
    Dead,
    Cancelled,
    /// Never to be worked: it is no task, or its author or target is not allowed.
    Refused,
}

/// `priority:high`, none, `priority:low`; smaller goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    High,
    Normal,
    Low,
}

/// What intake knows of an issue that is a task and is allowed.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub issue: IssueReference,
    pub id: TaskId,
    pub title: String,
    /// As the forge gave it; parsed again when the task is worked.
    pub body: String,
    pub author: String,
    pub target: RepositoryName,
    pub priority: Priority,
    /// When the issue was made.
    pub created_at: i64,
    /// A hash of title and body: another one is another text.
    pub revision: String,
}

/// What became of an admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// A new row.
    New,
    /// The row was there, with this text.
    Known(State),
    /// The text was edited while the task waited: the row has the new text.
    Updated,
    /// The text was edited after the task had failed, died, been refused or cancelled: it is queued again, attempts at zero.
    Requeued,
    /// Edited while it runs, or after it was completed: the text that was worked stays.
    TooLate(State),
    /// Another issue has this task id already; the row is `Refused`.
    IdTaken { by: IssueReference },
}

/// A row of the queue.
#[derive(Debug, Clone, Serialize)]
pub struct TaskRecord {
    #[serde(skip)]
    pub key: TaskKey,
    pub issue: IssueReference,
    /// `None`: refused before an id could be read.
    pub id: Option<TaskId>,
    pub title: String,
    #[serde(skip)]
    pub body: String,
    pub author: String,
    pub target: Option<RepositoryName>,
    pub priority: Priority,
    pub state: State,
    /// Claims so far that count against the limit of attempts.
    pub attempt: u32,
    /// Claims so far for the report alone.
    pub reports: u32,
    pub epoch: i64,
    pub lease_owner: Option<String>,
    pub lease_expires: Option<i64>,
    pub not_before: i64,
    /// Why it is in this state, or waits: for people.
    pub reason: String,
    /// Somebody wants it stopped, and why.
    pub cancel: Option<String>,
    /// The outcome as JSON, when there is one.
    pub outcome: Option<String>,
    pub pull_request: Option<String>,
    /// The outcome is yet to be told on the issue.
    pub report_due: bool,
    pub created_at: i64,
    pub admitted_at: i64,
    /// When the last attempt began.
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
}

/// A row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskKey(pub i64);

/// What a worker may claim.
#[derive(Debug, Clone)]
pub struct ClaimRules {
    /// Names the worker: machine, process, number.
    pub owner: String,
    pub lease: Duration,
    /// Claims of a task that count as attempts; the claim beyond them is [`Claim::exhausted`].
    pub attempts: u32,
    /// Tasks of one target repository that may run at a time.
    pub per_repository: u32,
    /// Targets whose budget of the day is spent: their tasks wait, with this reason.
    pub closed: Vec<(RepositoryName, String)>,
    /// Nothing new is begun: only what is to be told of may be claimed.
    pub reports_only: bool,
}

/// An effect on the outside that happens at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    StatusComment,
    StartedComment,
    RunningLabels,
    Push,
    PullRequest,
    CommitStatus,
    ReviewLabel,
    FinishedComment,
    FinishedLabels,
    CloseIssue,
}

/// One line of a task's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A stage is done.
    StageDone { stage: Stage },
    /// About to have the effect.
    Intent { effect: Effect, detail: String },
    /// The effect was had; `detail` names it: an id, an address, a commit.
    Had { effect: Effect, detail: String },
    /// The change that was judged; from here on no model is needed. JSON of the pipeline's own making.
    Solved { solution: String },
    /// How the task ended; from here on it is only reported. The outcome as JSON.
    Concluded { outcome: String },
}

/// What the database is asked to keep; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Database,
}

/// The right to work a task, until its lease expires and somebody else takes it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Claim {
    store: Store,
    pub task: TaskRecord,
    /// All attempts are used up: the task is only to be concluded and reported, not worked.
    pub exhausted: bool,
    /// Why it waited until now: the row's reason before the claim.
    pub waited_for: String,
    /// It counts as an attempt, until it is released.
    counted: bool,
    owner: String,
    lease: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The lease is lost: stop, and have no effect any more.
    #[error("another worker has taken the task over")]
    Stale,
    #[error("the database cannot be used: {reason}. {remedy}")]
    Unusable { reason: String, remedy: &'static str },
}

/// What a heartbeat tells the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heartbeat {
    GoOn,
    /// Somebody wants the task stopped: why.
    Cancel(String),
}

/// How a claim ends. The state and the lease change in one transaction.
#[derive(Debug, Clone)]
pub enum End {
    /// Concluded and reported.
    Ended { state: State, reason: String, pull_request: Option<String> },
    /// Concluded, but the report is still to be made: another claim makes it, not before `after`.
    ReportLater { state: State, reason: String, pull_request: Option<String>, after: Duration },
    /// To be tried again after a transient failure.
    Retry { after: Duration, reason: String },
    /// Given back without an attempt counted: the service stops, or something that every task needs is down. `reason`
    /// says for people what the task waits for.
    Released { after: Duration, reason: Option<String> },
}

/// A question that people ask of the queue.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub states: Vec<State>,
    /// Newest first, at most so many; 0: all.
    pub limit: u32,
}

/// Counts for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub queued: u64,
    /// Queued, and their time has come.
    pub ready: u64,
    pub running: u64,
    pub completed: u64,
    pub failed: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub refused: u64,
    /// Age of the oldest ready task, in milliseconds.
    pub oldest_ready: i64,
}

/// A webhook that was taken in and is not worked yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: String,
    /// `issues`, `issue_comment`, ...
    pub event: String,
    pub payload: Vec<u8>,
}

/// What a page of the forge said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub etag: String,
    /// What its reader wants to remember of it, as JSON.
    pub memo: String,
}

/// What a day has cost so far, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    pub tokens: u64,
    /// Millionths of the operator's currency.
    pub micros: u64,
    /// Some of the tokens have no price, so that it cost more.
    pub unpriced: bool,
}

/// Proof that no other service works on the database, where it is a file; it ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct SoleService {
    _lock: Option<std::fs::File>,
}

impl Settings {
    /// The folder on this machine that the database fills, if it is here.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Settings::Sqlite { path } => path.parent(),
            Settings::Postgres { .. } => None,
        }
    }
}

impl Store {
    /// Opens the database, makes it if it is missing, and brings its tables up to date.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        Ok(Self { inner: Database::open(settings, None).await? })
    }

    /// The same, by another clock: milliseconds since 1970.
    pub async fn open_with_clock(
        settings: &Settings,
        clock: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Ok(Self { inner: Database::open(settings, Some(Arc::new(clock))).await? })
    }

    /// Makes this process the one service of the database, for as long as it holds what is answered. The leases of
    /// services before it end at once: only a dead one lets go. On PostgreSQL several services may work, and a dead one's
    /// leases run out.
    pub async fn take_over(&self) -> Result<SoleService, StoreError> {
        self.inner.take_over().await
    }
    /// Waits until another process that shares the database says that there may be something to claim. It may come in
    /// vain, and not every change is heard of: [`Store::next_due`] is to be asked now and then besides.
    pub async fn changed(&self) {
        self.inner.changed().await;
    }

    /// Whether `owner` is the one of all services that does `name`, for `lease` from now on; asked again meanwhile, it
    /// stays the one. The one service of a file always is.
    pub async fn lead(&self, name: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        self.inner.again(|| self.inner.lead(name, owner, lease)).await
    }
    /// Lets others do it at once.
    pub async fn lead_no_more(&self, name: &str, owner: &str) -> Result<(), StoreError> {
        self.inner.again(|| self.inner.lead_no_more(name, owner)).await
    }

    // Intake.
    /// Takes a task in, or meets the row that is there. A row that was refused is queued again, with whatever text: what
    /// comes in here is allowed now.
    pub async fn admit(&self, new: &NewTask) -> Result<Admission, StoreError> {
        self.inner.again(|| self.inner.admit(new)).await
    }
    /// Remembers that an issue's text is not to be worked. `true`: not known before, so it is to be told once. A task that
    /// waits is refused too; one that runs or was completed stays what it is.
    pub async fn refuse(
        &self,
        issue: &IssueReference,
        title: &str,
        author: &str,
        revision: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.inner.again(|| self.inner.refuse(issue, title, author, revision, reason)).await
    }
    /// The row of an issue, if any.
    pub async fn task_of(&self, issue: &IssueReference) -> Result<Option<TaskRecord>, StoreError> {
        self.inner.again(|| self.inner.task_of(issue)).await
    }
    /// Issue numbers of a dispatch repository that are queued or running.
    pub async fn active_issues(&self, dispatch: &RepositoryName) -> Result<Vec<u64>, StoreError> {
        self.inner.again(|| self.inner.active_issues(dispatch)).await
    }
    pub async fn set_priority(&self, issue: &IssueReference, priority: Priority) -> Result<(), StoreError> {
        self.inner.again(|| self.inner.set_priority(issue, priority)).await
    }

    // Queue.
    /// Claims the next task: reports that are due first, then priority, then age. A report waits neither for
    /// `per_repository` nor for `closed`, nor for what `reports_only` keeps back. A task that was to be stopped while nobody held it comes as `Cancelled`, for its
    /// report alone.
    pub async fn claim(&self, rules: &ClaimRules) -> Result<Option<Claim>, StoreError> {
        let claimed = self.inner.again(|| self.inner.claim(rules)).await?;
        Ok(claimed.map(|(task, exhausted, waited_for)| Claim {
            store: self.clone(),
            exhausted,
            waited_for,
            counted: !exhausted && !task.report_due,
            owner: rules.owner.clone(),
            lease: rules.lease,
            task,
        }))
    }
    /// How long until the next task's time comes (its `not_before`, or an expiry of a lease); `None`: nothing is
    /// queued, running or to be reported. What is ready and could not be claimed, since its target has no room, is due
    /// in a second.
    pub async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        self.inner.again(|| self.inner.next_due()).await
    }
    /// Wants a task stopped. A queued one is cancelled at once (its report is due), a running one by its worker. Where the
    /// outcome stands already, nothing changes. Answers the state it is in then.
    pub async fn cancel(&self, key: TaskKey, reason: &str) -> Result<State, StoreError> {
        self.inner.again(|| self.inner.cancel(key, reason)).await
    }
    /// Queues a task that has ended again, attempts at zero. `false`: it is queued, running, refused, or completed with a
    /// pull request.
    pub async fn retry(&self, key: TaskKey, reason: &str) -> Result<bool, StoreError> {
        self.inner.again(|| self.inner.retry(key, reason)).await
    }

    // For people.
    /// Finds by task id, by a unique beginning of one, or by `owner/repo#N`.
    pub async fn find(&self, name: &str) -> Result<Option<TaskRecord>, StoreError> {
        let mut found = self.inner.again(|| self.inner.matching(name, 2)).await?;
        Ok(found.pop().filter(|_| found.is_empty()))
    }
    /// All tasks that `find` could mean, at most `limit`.
    pub async fn matching(&self, name: &str, limit: u32) -> Result<Vec<TaskRecord>, StoreError> {
        self.inner.again(|| self.inner.matching(name, limit)).await
    }
    /// The row itself, as it is now; `None`: it was pruned.
    pub async fn by_key(&self, key: TaskKey) -> Result<Option<TaskRecord>, StoreError> {
        self.inner.again(|| self.inner.by_key(key)).await
    }
    pub async fn list(&self, filter: &Filter) -> Result<Vec<TaskRecord>, StoreError> {
        self.inner.again(|| self.inner.list(filter)).await
    }
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.inner.again(|| self.inner.counts()).await
    }
    /// The targets of the tasks that are queued, each once.
    pub async fn queued_targets(&self) -> Result<Vec<RepositoryName>, StoreError> {
        self.inner.again(|| self.inner.queued_targets()).await
    }
    pub async fn journal(&self, key: TaskKey) -> Result<Vec<(i64, Entry)>, StoreError> {
        self.inner.again(|| self.inner.journal(key)).await
    }
    /// Events of a task after `seen`, in order: number, time, JSON.
    pub async fn events(&self, key: TaskKey, seen: i64, limit: u32) -> Result<Vec<(i64, i64, String)>, StoreError> {
        self.inner.again(|| self.inner.events(key, seen, limit)).await
    }
    /// Removes tasks that ended more than `older` ago, with all that belongs to them (a short memo of the issue's text
    /// stays, so that an old open issue is not taken for a new task), and gives the space back. Answers how many.
    pub async fn prune(&self, older: Duration) -> Result<u64, StoreError> {
        self.inner.prune(older).await
    }

    // Webhooks.
    /// Takes a delivery in; `false`: its id was seen before.
    pub async fn receive(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        self.inner.again(|| self.inner.receive(delivery)).await
    }
    /// Deliveries that are not worked yet, oldest first, by numbers that grow; those after number `after` (0: all).
    pub async fn inbox(&self, after: i64, limit: u32) -> Result<Vec<(i64, Delivery)>, StoreError> {
        self.inner.again(|| self.inner.inbox(after, limit)).await
    }
    /// A delivery was worked; its payload is dropped, its id remembered for a month.
    pub async fn delivered(&self, id: &str) -> Result<(), StoreError> {
        self.inner.again(|| self.inner.delivered(id)).await
    }

    // Small memory.
    pub async fn page(&self, url: &str) -> Result<Option<Page>, StoreError> {
        self.inner.again(|| self.inner.page(url)).await
    }
    pub async fn set_page(&self, url: &str, page: &Page) -> Result<(), StoreError> {
        self.inner.again(|| self.inner.set_page(url, page)).await
    }

    // Spending.
    /// What was spent since midnight UTC: by all, or on one target.
    pub async fn spent_today(&self, target: Option<&RepositoryName>) -> Result<Spent, StoreError> {
        self.inner.again(|| self.inner.spent_today(target)).await
    }

    /// Writes and reads one row: for health checks.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.inner.again(|| self.inner.check()).await
    }
}

impl Claim {
    pub fn epoch(&self) -> i64 {
        self.task.epoch
    }
    /// Renews the lease.
    pub async fn heartbeat(&self) -> Result<Heartbeat, StoreError> {
        let (database, proof) = (&self.store.inner, self.proof());
        database.again(|| database.heartbeat(&proof, self.lease)).await
    }
    /// Appends to the journal, in one transaction with the check that the claim is not stale.
    pub async fn write(&self, entry: &Entry) -> Result<(), StoreError> {
        let (database, proof) = (&self.store.inner, self.proof());
        database.again(|| database.write(&proof, entry)).await
    }
    /// The journal of the task's round, all claims together, in order.
    pub async fn journal(&self) -> Result<Vec<Entry>, StoreError> {
        let database = &self.store.inner;
        database.again(|| database.journal_of_round(self.task.key)).await
    }
    /// Adds to the task's events (not fenced: they are for people).
    pub async fn log(&self, events: &[String]) -> Result<(), StoreError> {
        let database = &self.store.inner;
        database.again(|| database.log(self.task.key, events)).await
    }
    /// Adds to what was spent today on the task and its target.
    pub async fn spend(&self, usage: Usage, micros: Option<u64>) -> Result<(), StoreError> {
        let (database, proof) = (&self.store.inner, self.proof());
        database.again(|| database.spend(&proof, usage, micros)).await
    }
    /// Gives the claim up. `Retry` and `Released` leave a row that has ended in its state, and one whose stop was wanted
    /// becomes `Cancelled`, its report due.
    pub async fn end(&self, end: End) -> Result<(), StoreError> {
        let (database, proof) = (&self.store.inner, self.proof());
        database.again(|| database.end(&proof, self.counted, &end)).await
    }

    fn proof(&self) -> Lease<'_> {
        Lease { key: self.task.key, owner: &self.owner, epoch: self.task.epoch }
    }
}

impl State {
    /// All of them, in the order of a task's way.
    pub const ALL: [State; 7] =
        [State::Queued, State::Running, State::Completed, State::Failed, State::Dead, State::Cancelled, State::Refused];

    /// One word, as the database, `--json` and the metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Dead => "dead",
            State::Cancelled => "cancelled",
            State::Refused => "refused",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub fn is_end(self) -> bool {
        match self {
            State::Queued | State::Running => false,
            State::Completed | State::Failed | State::Dead | State::Cancelled | State::Refused => true,
        }
    }
}

impl Entry {
    /// The entry in a word or two: `stage_done.checkout`, `intent.push`, `had.push`, `solved`, `concluded`.
    pub fn name(&self) -> String {
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        match self {
            Entry::StageDone { stage } => format!("stage_done.{}", word(serde_json::to_value(stage))),
            Entry::Intent { effect, .. } => format!("intent.{}", word(serde_json::to_value(effect))),
            Entry::Had { effect, .. } => format!("had.{}", word(serde_json::to_value(effect))),
            Entry::Solved { .. } => "solved".into(),
            Entry::Concluded { .. } => "concluded".into(),
        }
    }
}

fn system_clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
