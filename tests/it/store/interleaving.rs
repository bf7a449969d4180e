//! Random interleavings of several workers, people and crashes, against a small pure model of the queue.

use std::time::Duration;

use patchwright::store::{Admission, Claim, ClaimRules, End, Entry, Heartbeat, State, Store, StoreError, TaskRecord};
use proptest::prelude::*;

use super::support::{Backend, NOON, Place, issue, repository, task};

const TASKS: usize = 4;
const WORKERS: usize = 3;
const ATTEMPTS: u32 = 2;
const ROOM: u32 = 1;
const LEASE: i64 = 60_000;

#[derive(Debug, Clone)]
enum Step {
    Admit {
        task: usize,
        edited: bool,
    },
    Claim {
        worker: usize,
    },
    Heartbeat {
        claim: usize,
    },
    Write {
        claim: usize,
    },
    Conclude {
        claim: usize,
    },
    End {
        claim: usize,
        how: How,
    },
    Cancel {
        task: usize,
    },
    Retry {
        task: usize,
    },
    Pass {
        seconds: i64,
    },
    /// All processes die and begin again; what they held is theirs no more.
    Crash,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Ended(State),
    ReportLater(State),
    Retry,
    Released,
}

/// What the queue must know of a task.
#[derive(Debug, Clone)]
struct Row {
    state: State,
    attempt: u32,
    epoch: i64,
    /// The claim that holds it, and until when.
    lease: Option<(usize, i64)>,
    not_before: i64,
    cancel: bool,
    report_due: bool,
    revision: u32,
    /// Entries of this round's journal.
    journal: usize,
}

/// A claim that was handed out, stale or not.
struct Held {
    claim: Claim,
    task: usize,
    counted: bool,
}

/// The model and the store side by side.
struct World {
    place: Place,
    store: Store,
    rows: Vec<Option<Row>>,
    held: Vec<Held>,
    revisions: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop::sample::select(vec![State::Completed, State::Failed, State::Dead, State::Cancelled]);
    let how = prop_oneof![
        2 => end.clone().prop_map(How::Ended),
        1 => end.prop_map(How::ReportLater),
        2 => Just(How::Retry),
        1 => Just(How::Released),
    ];
    // Mostly the newest claims, sometimes old ones.
    let claim = || 0..6_usize;
    let step = prop_oneof![
        4 => (0..TASKS, prop::bool::weighted(0.3)).prop_map(|(task, edited)| Step::Admit { task, edited }),
        6 => (0..WORKERS).prop_map(|worker| Step::Claim { worker }),
        2 => claim().prop_map(|claim| Step::Heartbeat { claim }),
        2 => claim().prop_map(|claim| Step::Write { claim }),
        1 => claim().prop_map(|claim| Step::Conclude { claim }),
        4 => (claim(), how).prop_map(|(claim, how)| Step::End { claim, how }),
        1 => (0..TASKS).prop_map(|task| Step::Cancel { task }),
        1 => (0..TASKS).prop_map(|task| Step::Retry { task }),
        3 => (1..90_i64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_does_what_the_model_does(steps in steps()) {
        side_by_side(Backend::Sqlite, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn postgresql_does_what_the_model_does(steps in steps()) {
        side_by_side(Backend::Postgres, &steps);
    }
}

fn side_by_side(backend: Backend, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(place) = Place::on(backend).await else { return };
        let store = place.open().await;
        let mut world = World { place, store, rows: vec![None; TASKS], held: Vec::new(), revisions: 0 };
        for (number, step) in steps.iter().enumerate() {
            world.take(step).await;
            world.compare(&format!("after step {number}: {step:?}")).await;
        }
        world.drain().await;
        world.place.remove().await;
    });
}

impl World {
    fn now(&self) -> i64 {
        self.place.clock.now()
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Admit { task, edited } => self.admit(task, edited).await,
            Step::Claim { worker } => {
                self.claim(worker).await;
            }
            Step::Heartbeat { claim } => self.heartbeat(claim).await,
            Step::Write { claim } => self.write(claim, false).await,
            Step::Conclude { claim } => self.write(claim, true).await,
            Step::End { claim, how } => self.end(claim, how).await,
            Step::Cancel { task } => self.cancel(task).await,
            Step::Retry { task } => self.retry(task).await,
            Step::Pass { seconds } => self.place.clock.pass(Duration::from_secs(seconds.unsigned_abs())),
            Step::Crash => self.store = self.place.open().await,
        }
    }

    async fn admit(&mut self, number: usize, edited: bool) {
        self.revisions += u32::from(edited);
        let revision = match &self.rows[number] {
            Some(row) if !edited => row.revision,
            Some(_) | None => self.revisions,
        };
        let mut new = task(number as u64 + 1);
        new.target = repository(if number.is_multiple_of(2) { "acme/even" } else { "acme/odd" });
        new.revision = revision.to_string();
        let fresh = |epoch| Row {
            state: State::Queued,
            attempt: 0,
            epoch,
            lease: None,
            not_before: 0,
            cancel: false,
            report_due: false,
            revision,
            journal: 0,
        };
        let expected = match &mut self.rows[number] {
            empty @ None => {
                *empty = Some(fresh(0));
                Admission::New
            }
            Some(row) if row.revision == revision => Admission::Known(row.state),
            Some(row) => match row.state {
                State::Queued if !row.report_due => {
                    *row = fresh(row.epoch);
                    Admission::Updated
                }
                State::Queued | State::Running | State::Completed => Admission::TooLate(row.state),
                State::Failed | State::Dead | State::Cancelled | State::Refused => {
                    *row = fresh(row.epoch);
                    Admission::Requeued
                }
            },
        };
        assert_eq!(self.store.admit(&new).await.unwrap(), expected);
    }

    /// The row that must be claimed next.
    fn next(&self) -> Option<usize> {
        let now = self.now();
        let is_free = |row: &Row| row.lease.is_none_or(|(_, expires)| expires <= now);
        let has_room = |task: usize| {
            let neighbours =
                (0..TASKS).filter(|other| other % 2 == task % 2).filter_map(|other| self.rows[other].as_ref());
            neighbours.filter(|row| row.state == State::Running && !is_free(row)).count() < ROOM as usize
        };
        let claimable = (0..TASKS).filter(|task| {
            self.rows[*task].as_ref().is_some_and(|row| {
                let is_active = !row.state.is_end() || row.report_due;
                is_active && is_free(row) && row.not_before <= now && (row.report_due || row.cancel || has_room(*task))
            })
        });
        claimable.min_by_key(|task| (!self.rows[*task].as_ref().unwrap().report_due, *task))
    }

    async fn claim(&mut self, worker: usize) -> bool {
        let rules = ClaimRules {
            owner: format!("worker {worker}"),
            lease: Duration::from_secs(60),
            attempts: ATTEMPTS,
            per_repository: ROOM,
            closed: Vec::new(),
            reports_only: false,
        };
        let expected = self.next();
        let claimed = self.store.claim(&rules).await.unwrap();
        assert_eq!(claimed.as_ref().map(|claim| claim.task.issue.number), expected.map(|task| task as u64 + 1));
        let (Some(task), Some(claim)) = (expected, claimed) else { return false };
        let expires = self.now() + LEASE;
        let row = self.rows[task].as_mut().unwrap();
        if row.cancel && !row.report_due && !row.state.is_end() {
            (row.state, row.report_due) = (State::Cancelled, true);
        } else if !row.state.is_end() {
            row.state = State::Running;
        }
        let exhausted = !row.report_due && row.attempt >= ATTEMPTS;
        let counted = !row.report_due && !exhausted;
        row.attempt += u32::from(counted);
        row.epoch += 1;
        row.lease = Some((self.held.len(), expires));
        assert_eq!((claim.exhausted, claim.epoch()), (exhausted, row.epoch));
        self.held.push(Held { claim, task, counted });
        true
    }

    /// The claim `back` places before the newest one, and whether it still is one.
    fn held(&mut self, back: usize) -> Option<(Claim, usize, bool, bool)> {
        let place = self.held.len().checked_sub(back + 1)?;
        let held = &self.held[place];
        let is_valid = self.rows[held.task].as_ref().is_some_and(|row| row.lease.is_some_and(|(id, _)| id == place));
        Some((held.claim.clone(), held.task, held.counted, is_valid))
    }

    async fn heartbeat(&mut self, back: usize) {
        let Some((claim, task, _, is_valid)) = self.held(back) else { return };
        let answer = claim.heartbeat().await;
        if !is_valid {
            return assert!(matches!(answer, Err(StoreError::Stale)), "{answer:?}");
        }
        let expires = self.now() + LEASE;
        let row = self.rows[task].as_mut().unwrap();
        row.lease = row.lease.map(|(id, _)| (id, expires));
        let wanted = row.cancel && !row.report_due && row.state == State::Running;
        assert_eq!(answer.unwrap(), if wanted { Heartbeat::Cancel("stop".into()) } else { Heartbeat::GoOn });
    }

    async fn write(&mut self, back: usize, concluded: bool) {
        let Some((claim, task, _, is_valid)) = self.held(back) else { return };
        let entry = match concluded {
            true => Entry::Concluded { outcome: "{}".into() },
            false => Entry::Solved { solution: String::new() },
        };
        let answer = claim.write(&entry).await;
        if !is_valid {
            return assert!(matches!(answer, Err(StoreError::Stale)), "{answer:?}");
        }
        answer.unwrap();
        let row = self.rows[task].as_mut().unwrap();
        row.journal += 1;
        row.report_due |= concluded;
        assert_eq!(claim.journal().await.unwrap().len(), row.journal);
    }

    async fn end(&mut self, back: usize, how: How) {
        let Some((claim, task, counted, is_valid)) = self.held(back) else { return };
        let (reason, pull_request, after) = (String::new(), None, Duration::from_secs(30));
        let answer = claim
            .end(match how {
                How::Ended(state) => End::Ended { state, reason, pull_request },
                How::ReportLater(state) => End::ReportLater { state, reason, pull_request, after },
                How::Retry => End::Retry { after, reason },
                How::Released => End::Released { after: Duration::ZERO, reason: None },
            })
            .await;
        if !is_valid {
            return assert!(matches!(answer, Err(StoreError::Stale)), "{answer:?}");
        }
        answer.unwrap();
        let now = self.now();
        let row = self.rows[task].as_mut().unwrap();
        row.lease = None;
        match how {
            How::Ended(state) => (row.state, row.report_due, row.not_before) = (state, false, 0),
            How::ReportLater(state) => (row.state, row.report_due, row.not_before) = (state, true, now + 30_000),
            How::Retry | How::Released => {
                row.not_before = if matches!(how, How::Retry) { now + 30_000 } else { now };
                row.attempt -= u32::from(matches!(how, How::Released) && counted);
                if !row.state.is_end() {
                    let stopped = row.cancel && !row.report_due;
                    row.state = if stopped { State::Cancelled } else { State::Queued };
                    row.report_due |= stopped;
                }
            }
        }
    }

    async fn cancel(&mut self, number: usize) {
        let Some(record) = self.record(number).await else { return };
        let answer = self.store.cancel(record.key, "stop").await.unwrap();
        let row = self.rows[number].as_mut().unwrap();
        match row.state {
            State::Queued if !row.report_due => {
                (row.state, row.report_due, row.cancel, row.not_before) = (State::Cancelled, true, true, 0);
            }
            State::Running if !row.report_due => row.cancel = true,
            State::Queued | State::Running | State::Completed | State::Failed => {}
            State::Dead | State::Cancelled | State::Refused => {}
        }
        assert_eq!(answer, row.state);
    }

    async fn retry(&mut self, number: usize) {
        let Some(record) = self.record(number).await else { return };
        let answer = self.store.retry(record.key, "again").await.unwrap();
        let row = self.rows[number].as_mut().unwrap();
        assert_eq!(answer, row.state.is_end());
        if answer {
            *row = Row {
                state: State::Queued,
                attempt: 0,
                lease: None,
                not_before: 0,
                cancel: false,
                report_due: false,
                journal: 0,
                ..row.clone()
            };
        }
    }

    async fn record(&self, number: usize) -> Option<TaskRecord> {
        self.store.task_of(&issue(number as u64 + 1)).await.unwrap()
    }

    /// The store knows what the model knows.
    async fn compare(&self, when: &str) {
        for number in 0..TASKS {
            let record = self.record(number).await;
            assert_eq!(record.is_some(), self.rows[number].is_some(), "{when}");
            let (Some(record), Some(row)) = (record, &self.rows[number]) else { continue };
            assert_eq!((record.state, record.attempt, record.epoch), (row.state, row.attempt, row.epoch), "{when}");
            assert_eq!((record.report_due, record.cancel.is_some()), (row.report_due, row.cancel), "{when}");
            assert_eq!(record.lease_expires, row.lease.map(|(_, expires)| expires), "{when}");
            assert!(record.attempt <= ATTEMPTS, "{when}");
            assert!(record.lease_owner.is_some() || record.state != State::Running, "{when}: nobody's");
        }
    }

    /// Nothing is lost: whatever happened, patient workers bring each task to an end that is told.
    async fn drain(&mut self) {
        for _ in 0..TASKS * 20 {
            if self.claim(0).await {
                let reported = self.held.last().map(|held| held.claim.task.report_due).unwrap();
                let how = if reported { How::Ended(State::Failed) } else { How::ReportLater(State::Failed) };
                self.end(0, how).await;
            } else {
                self.place.clock.pass(Duration::from_secs(30));
            }
        }
        self.compare("at the end").await;
        for row in self.rows.iter().flatten() {
            assert!(row.state.is_end() && !row.report_due, "{row:?} is left over");
        }
        let due = self.store.next_due().await.unwrap();
        assert_eq!(due, None, "{NOON}");
    }
}
