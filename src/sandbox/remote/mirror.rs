//! The host's end of keeping a box's folders the same as ours: sent before a command, fetched after it.

use std::any::Any;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::plan::{HOME, WORKSPACE};
use super::super::room::Room;
use super::super::{Home, Limits, SandboxError, Surroundings};
use super::exchange::{self, Pair};
use super::line::Site;
use super::{Bounds, Fault, MOST_TEXT};

/// How long neither end may say anything.
const SILENCE: Duration = Duration::from_secs(60);

/// How long sending, or fetching, may take altogether: then it is too much.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// The folders of one box, here and there.
pub struct Mirror {
    pairs: Vec<Pair>,
    bounds: Bounds,
    /// The folders stay as long as a thread works in them.
    hold: Option<Arc<dyn Any + Send + Sync>>,
    /// Set when it is dropped: a thread may still be writing.
    is_over: Arc<AtomicBool>,
}

/// How sending or fetching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    Everything,
    /// The box holds more than it may, or than can be carried in time. What is missing is carried the next time.
    TooMuch,
}

/// Asked for each thing that is done here: counts it, and says whether to go on.
type GoesOn<'a> = &'a dyn Fn() -> bool;

impl Mirror {
    /// Nothing was sent yet.
    pub fn new(room: &Room, surroundings: &Surroundings, limits: &Limits) -> Self {
        let pair = |here: &Path, there: &str, without_git, is_fetched| Pair {
            here: here.to_owned(),
            there: there.to_owned(),
            without_git,
            is_fetched,
            known: None,
        };
        let mut pairs = vec![pair(room.tree(), WORKSPACE, true, true)];
        match &surroundings.home {
            Home::Empty => {}
            Home::Kept(_) => pairs.extend(room.home().map(|home| pair(home, HOME, false, true))),
            Home::Frozen(_) => pairs.extend(room.home().map(|home| pair(home, HOME, false, false))),
        }
        pairs.extend(room.repository().map(|folder| pair(folder, &format!("{WORKSPACE}/.git"), false, false)));
        let copied = room.copied();
        let bounds = Bounds {
            entries: limits.disk_files.saturating_add(copied.files),
            bytes: limits.disk_bytes.saturating_add(copied.bytes),
            text: MOST_TEXT,
        };
        Self { pairs, bounds, hold: surroundings.hold.clone(), is_over: Arc::new(AtomicBool::new(false)) }
    }

    /// Sends what has changed here since the last time; the first time everything.
    ///
    /// # Errors
    /// The connection breaks, or a folder cannot be read here or written there.
    pub async fn send(&mut self, site: &Site, user: &str) -> Result<Carried, SandboxError> {
        let bounds = self.bounds;
        let pairs = std::mem::take(&mut self.pairs);
        let looked = tokio::task::spawn_blocking(move || {
            let changes: Result<Vec<_>, Fault> = pairs.iter().map(|pair| pair.changes(bounds)).collect();
            (pairs, changes)
        });
        let (pairs, changes) = looked.await.map_err(|error| broken(&error))?;
        let changes =
            changes.map_err(|fault| broken(&format!("what is to be sent to the box cannot be read: {fault}")))?;
        if changes.iter().all(Option::is_none) {
            self.pairs = pairs;
            return Ok(Carried::Everything);
        }
        let work = move |pairs: &mut Vec<Pair>, from: &mut dyn Read, to: &mut dyn Write, _: GoesOn<'_>| {
            exchange::send(pairs, changes, bounds, from, to)
        };
        self.converse("the box does not take what it is to hold", site, user, pairs, work).await
    }

    /// Fetches what has changed in the box.
    ///
    /// # Errors
    /// The connection breaks, or what comes is not taken.
    pub async fn fetch(&mut self, site: &Site, user: &str) -> Result<Carried, SandboxError> {
        let bounds = self.bounds;
        let pairs = std::mem::take(&mut self.pairs);
        let room = pairs.iter().map(|pair| free_bytes(&pair.here)).min().unwrap_or_default();
        let work = move |pairs: &mut Vec<Pair>, from: &mut dyn Read, to: &mut dyn Write, goes_on: GoesOn<'_>| {
            exchange::fetch(pairs, bounds, room, from, to, goes_on)
        };
        self.converse("what the box holds cannot be fetched", site, user, pairs, work).await
    }

    /// Starts the box's end and does `work` with it, in a thread of its own. `otherwise`: what it is when that fails.
    async fn converse(
        &mut self,
        otherwise: &str,
        site: &Site,
        user: &str,
        mut pairs: Vec<Pair>,
        work: impl FnOnce(&mut Vec<Pair>, &mut dyn Read, &mut dyn Write, GoesOn<'_>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Carried, SandboxError> {
        let line = site.start(user, &[exchange::ARGUMENT]).await?;
        let deadline = Instant::now() + LONGEST;
        let (mut from, mut to, complaint, progress) = line.for_blocking(deadline);
        let (hold, is_over, count) = (self.hold.clone(), self.is_over.clone(), progress.clone());
        let mut done = tokio::task::spawn_blocking(move || {
            let goes_on = || {
                count.fetch_add(1, Ordering::Relaxed);
                !is_over.load(Ordering::Relaxed)
            };
            let done = work(&mut pairs, &mut from, &mut to, &goes_on);
            drop(hold);
            (pairs, done)
        });
        let mut last = 0;
        loop {
            tokio::select! {
                done = &mut done => {
                    let (pairs, done) = done.map_err(|error| broken(&error))?;
                    self.pairs = pairs;
                    return match done {
                        Ok(()) => Ok(Carried::Everything),
                        Err(Fault::TooMuch(reason)) => {
                            tracing::info!(reason, "what a box holds is too much to be carried");
                            Ok(Carried::TooMuch)
                        }
                        Err(fault @ (Fault::Refused(_) | Fault::Io { .. })) => Err(complaint.explain(otherwise, fault)),
                    };
                }
                () = tokio::time::sleep(SILENCE) => {
                    let now = progress.load(Ordering::Relaxed);
                    if now == last {
                        return Err(complaint.explain("the box's folders cannot be compared", "the engine is silent"));
                    }
                    last = now;
                }
            }
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Nine tenths of what is free where a folder is.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) / 10 * 9)
}

fn broken(error: &dyn std::fmt::Display) -> SandboxError {
    SandboxError::Broken(error.to_string())
}
