//! Locks between tasks and processes: files that are held with `flock`, and stay.

use std::fs::{File, OpenOptions};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::error::{WorkspaceError, shown};

/// How often a held lock is asked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Shared,
    Exclusive,
}

/// The open file of a lock. On drop the lock is let go of, whoever else has the descriptor: closing alone would leave it to
/// a program that another thread starts at this moment, until it is executed.
#[derive(Debug)]
pub(super) struct LockFile(File);

impl From<File> for LockFile {
    fn from(file: File) -> Self {
        Self(file)
    }
}

impl Deref for LockFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.0, FlockOperation::Unlock) {
            tracing::debug!(%error, "a lock is left to the closing of its file");
        }
    }
}

/// Waits for the lock, at most for `limit`. It is held until the file is dropped.
pub(super) async fn wait(path: &Path, lock: Lock, limit: Duration) -> Result<LockFile, WorkspaceError> {
    let file = open(path)?;
    until(path, limit, || Ok(take(&file, path, lock)?.then_some(()))).await?;
    Ok(file)
}

/// Asks again and again, at most for `limit`, until there is an answer.
pub(super) async fn until<T>(
    path: &Path,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, WorkspaceError>,
) -> Result<T, WorkspaceError> {
    let start = Instant::now();
    let mut told = false;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() >= limit {
            return Err(WorkspaceError::Busy { path: shown(path), seconds: limit.as_secs() });
        }
        if !told {
            tracing::info!(path = %path.display(), "waiting for another task that prepares the same repository");
            told = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the lock if it can be had at once.
pub(super) fn take(file: &File, path: &Path, lock: Lock) -> Result<bool, WorkspaceError> {
    let operation = match lock {
        Lock::Shared => FlockOperation::NonBlockingLockShared,
        Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(WorkspaceError::io("lock", path)(errno.into())),
    }
}

/// Whether the file at `path` is still the one that was opened: a lock that nobody needs is removed.
pub(super) fn is_current(file: &File, path: &Path) -> bool {
    let opened = file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    let there = std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    opened.is_ok_and(|opened| there.is_ok_and(|there| opened == there))
}

/// From exclusive to shared. In between, nobody has it.
pub(super) fn share(file: &File, path: &Path) -> Result<(), WorkspaceError> {
    let shared = rustix::fs::flock(file, FlockOperation::LockShared);
    shared.map_err(|errno| WorkspaceError::io("lock", path)(errno.into()))
}

pub(super) fn open(path: &Path) -> Result<LockFile, WorkspaceError> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    opened.map(LockFile).map_err(WorkspaceError::io("open the lock", path))
}
