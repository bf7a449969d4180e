//! A store of a test's own, on either backend, with a clock that the test turns.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use patchwright::store::{Claim, ClaimRules, NewTask, Priority, Settings, Store};
use patchwright::task::{IssueReference, RepositoryName, TaskId};
use secrecy::SecretString;

use super::server::Server;

/// Some day in 2026, at noon UTC.
pub const NOON: i64 = 1_780_315_200_000;

/// The time that a store under test sees.
#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOON)))
    }

    pub fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn reader(&self) -> impl Fn() -> i64 + Send + Sync + 'static {
        let clock = self.clone();
        move || clock.now()
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// An empty database.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub clock: Clock,
    /// The server that has it and its name; else it is a file in the folder.
    database: Option<(&'static Server, String)>,
}

impl Place {
    /// In a file.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("patchwright-store-").tempdir().unwrap();
        Self { folder, clock: Clock::new(), database: None }
    }

    /// `None`: the backend is not installed here, which was said.
    pub async fn on(backend: Backend) -> Option<Self> {
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => {
                let server = Server::get().await?;
                Some((server, server.database().await))
            }
        };
        Some(Self { database, ..Self::new() })
    }

    /// On PostgreSQL: the server and the name of the database.
    pub fn database(&self) -> (&'static Server, &str) {
        let (server, name) = self.database.as_ref().unwrap();
        (server, name)
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("state/patchwright.db")
    }

    pub fn settings(&self) -> Settings {
        match &self.database {
            None => Settings::Sqlite { path: self.file() },
            Some((server, name)) => Settings::Postgres { address: SecretString::from(server.address(name)) },
        }
    }

    /// Gives the room back; after a failure it stays to be looked at, as long as the process lives.
    pub async fn remove(self) {
        if let Some((server, name)) = &self.database {
            server.remove(name).await;
        }
    }

    pub async fn open(&self) -> Store {
        Store::open_with_clock(&self.settings(), self.clock.reader()).await.unwrap()
    }
}

pub fn repository(name: &str) -> RepositoryName {
    RepositoryName::parse(name).unwrap()
}

pub fn issue(number: u64) -> IssueReference {
    IssueReference { repository: repository("acme/dispatch"), number }
}

/// Task `number` of `acme/widget`, made `number` seconds after noon.
pub fn task(number: u64) -> NewTask {
    NewTask {
        issue: issue(number),
        id: TaskId::parse(&format!("task-{number:04}")).unwrap(),
        title: format!("Task {number}"),
        body: "Change something".into(),
        author: "someone".into(),
        target: repository("acme/widget"),
        priority: Priority::Normal,
        created_at: NOON + 1000 * i64::try_from(number).unwrap(),
        revision: "r1".into(),
    }
}

pub fn rules(owner: &str) -> ClaimRules {
    ClaimRules {
        owner: owner.into(),
        lease: Duration::from_secs(60),
        attempts: 3,
        per_repository: 100,
        closed: Vec::new(),
        reports_only: false,
    }
}

pub async fn claim(store: &Store) -> Claim {
    store.claim(&rules("worker")).await.unwrap().expect("nothing to claim")
}
