//! What the setup of a repository has made, kept from task to task.
//!
//! Below the cache: `.prepared/KEY/{layer,home,record.json}`, and beside each its locks. `KEY.lock` is held shared by who
//! makes, uses or wants it, exclusively by who removes it, and touched by each use, so that the longest unused goes first;
//! `KEY.making` is held by the one who makes it. No lock is ever turned into another, since flock(2) lets go in between.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::Workspace;
use super::checkout::Checkout;
use super::error::{WorkspaceError, blocking, make_private_folder};
use super::export::{Export, Hold};
use super::folder::{Folder, remove_tree};
use super::layer;
use super::lock::{self, Lock, LockFile};
use super::snapshot::Artefacts;
use crate::folders::{self, Access};

const FOLDER: &str = ".prepared";
/// No failure is told instead of being looked for anew for longer than this.
const LONGEST_FAILURE: Duration = Duration::from_secs(600);

/// A finished setup. It stays as long as this lives.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    record: Record,
    _lock: Option<LockFile>,
    /// Removed on drop, where it is not kept.
    _folder: Option<Arc<Folder>>,
}

/// A setup in the making: nobody else makes the same one meanwhile. Dropped: it is removed.
#[derive(Debug)]
pub struct Preparation {
    export: Export,
    folder: Arc<Folder>,
    place: PathBuf,
    /// `None`: another task makes the same, so this one is not kept.
    locks: Option<Locks>,
    workspace: Workspace,
}

/// What who makes a setup holds.
#[derive(Debug)]
struct Locks {
    used: LockFile,
    _making: LockFile,
}

/// What there is for a key.
#[derive(Debug)]
pub enum Found {
    Prepared(Prepared),
    Nothing(Preparation),
    /// It failed a while ago, for this reason, and is not tried again yet.
    Failed {
        reason: String,
        /// Until then.
        left: Duration,
    },
}

/// Setups that failed, by where they would have been kept: why, and until when that is told.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<PathBuf, (Instant, String)>>);

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    artefacts: Artefacts,
    /// Of the caller's making.
    note: String,
    bytes: u64,
}

impl Checkout {
    /// Looks for what an earlier setup has made for `key`, letters and digits; else begins one, with the base laid out.
    /// While another task makes it, this waits, at most for `limit`; then it begins one that is not kept.
    pub async fn prepared(&self, key: &str, limit: Duration) -> Result<Found, WorkspaceError> {
        let root = make_private_folder(&self.cache().join(FOLDER))?;
        let place = root.join(key);
        let path = place.with_extension("lock");
        let mut used = lock::open(&path)?;
        match lock::until(&path, limit, || look(&mut used, &path, &place)).await {
            Ok(Seen::Made(record)) => {
                touch(&used, &path)?;
                Ok(Found::Prepared(Prepared { path: place, record, _lock: Some(used), _folder: None }))
            }
            Ok(Seen::Ours(making)) => match self.workspace().0.failed.find(&place) {
                Some((reason, left)) => Ok(Found::Failed { reason, left }),
                None => self.begin(&root, place, Some(Locks { used, _making: making })).await,
            },
            // Who waits too long makes one of its own.
            Err(WorkspaceError::Busy { .. }) => self.begin(&root, place, None).await,
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, root: &Path, place: PathBuf, locks: Option<Locks>) -> Result<Found, WorkspaceError> {
        let folder = Arc::new(Folder::create(root)?);
        let home = folder.path().join("home");
        fs::create_dir(&home).map_err(WorkspaceError::io("create the folder", &home))?;
        let export = self.export_to(folder.path().join("export"), self.base_tree()).await?;
        let workspace = self.workspace().clone();
        Ok(Found::Nothing(Preparation { export, folder, place, locks, workspace }))
    }
}

/// What a look at a key shows.
enum Seen {
    Made(Record),
    /// Nothing, and nobody else makes it as long as this is held.
    Ours(LockFile),
}

/// Holds the key's lock shared, whatever there is. `None`: somebody else removes it, or makes it.
fn look(used: &mut LockFile, path: &Path, place: &Path) -> Result<Option<Seen>, WorkspaceError> {
    if !lock::take(used, path, Lock::Shared)? {
        return Ok(None);
    }
    // What nobody needed any more may have been swept before this was held.
    if !lock::is_current(used, path) {
        *used = lock::open(path)?;
        return Ok(None);
    }
    if let Some(record) = read_record(place) {
        return Ok(Some(Seen::Made(record)));
    }
    let path = place.with_extension("making");
    let making = lock::open(&path)?;
    if !lock::take(&making, &path, Lock::Exclusive)? {
        return Ok(None);
    }
    // It may have been finished meanwhile.
    Ok(Some(read_record(place).map_or(Seen::Ours(making), Seen::Made)))
}

fn touch(used: &LockFile, path: &Path) -> Result<(), WorkspaceError> {
    used.set_modified(SystemTime::now()).map_err(WorkspaceError::io("touch", path))
}

impl Failures {
    fn find(&self, place: &Path) -> Option<(String, Duration)> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        failures.retain(|_, (until, _)| *until > now);
        failures.get(place).map(|(until, reason)| (reason.clone(), until.duration_since(now)))
    }

    fn add(&self, place: PathBuf, reason: String, told_for: Duration) {
        let until = Instant::now() + told_for.min(LONGEST_FAILURE);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place, (until, reason));
    }
}

impl Preparation {
    /// The base's tree, to run the setup in.
    pub fn tree_path(&self) -> PathBuf {
        self.export.tree_path()
    }

    /// An empty folder for what the setup writes to its home.
    pub fn home_path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// For what works in these folders.
    pub fn hold(&self) -> Hold {
        Arc::new((self.export.hold(), self.folder.clone()))
    }

    /// It cannot be made: whoever wants it is told so for a while, ten minutes at most, instead of trying again.
    pub fn give_up(self, reason: String, told_for: Duration) {
        self.workspace.0.failed.add(self.place.clone(), reason, told_for);
    }

    /// Keeps what was made for later tasks, with a note of the caller's own; with `once`, for this task alone.
    pub async fn finish(self, note: String, once: bool) -> Result<Prepared, WorkspaceError> {
        blocking("keep what the setup has made", move || {
            let Self { export, folder, place, locks, .. } = self;
            let made = folder.path().join("made");
            let io = |path: &Path| WorkspaceError::io("keep what the setup has made at", path);
            fs::create_dir(&made).map_err(io(&made))?;
            let artefacts = layer::split(&export.tree_path(), &export.index(), &made.join("layer"))?;
            fs::rename(folder.path().join("home"), made.join("home")).map_err(io(&made))?;
            // What is shown to later tasks can be read.
            let record = Record { artefacts, note, bytes: folders::size(&made, Access::Give) };
            let Some(locks) = locks.filter(|_| !once) else {
                return Ok(Prepared { path: made, record, _lock: None, _folder: Some(folder) });
            };
            let text = serde_json::to_string(&record).map_err(|error| io(&made)(error.into()))?;
            fs::write(made.join("record.json"), text).map_err(io(&made))?;
            remove_tree(&place);
            fs::rename(&made, &place).map_err(io(&place))?;
            touch(&locks.used, &place)?;
            Ok(Prepared { path: place, record, _lock: Some(locks.used), _folder: None })
        })
        .await
    }
}

impl Prepared {
    /// The untracked files that the setup has left in the tree.
    pub fn layer_path(&self) -> PathBuf {
        self.path.join("layer")
    }

    pub fn home_path(&self) -> PathBuf {
        self.path.join("home")
    }

    pub fn artefacts(&self) -> &Artefacts {
        &self.record.artefacts
    }

    /// What the maker has noted.
    pub fn note(&self) -> &str {
        &self.record.note
    }
}

/// Removes setups that nobody uses, the longest unused first, until `bytes` are free; answers how many were freed.
pub(super) fn evict(cache: &Path, bytes: u64) -> u64 {
    let mut freed = 0;
    for (_, place, size) in kept(cache) {
        if freed >= bytes {
            break;
        }
        freed += if remove(&place) { size } else { 0 };
    }
    freed
}

/// Removes the longest unused until the others fit into `bytes`.
pub(super) fn limit(cache: &Path, bytes: u64) {
    let all: u64 = kept(cache).iter().map(|(.., size)| size).sum();
    evict(cache, all.saturating_sub(bytes));
}

/// Removes what dead processes were making, and the locks of what is there no more; answers how many folders.
pub(super) fn sweep(cache: &Path) -> usize {
    let root = cache.join(FOLDER);
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let path = entry.path();
        let place = path.with_extension("");
        if path.extension().is_some_and(|extension| extension == "lock") && !place.exists() {
            let Some(_held) = take_alone(&place).filter(|_| !place.exists()) else { continue };
            for path in [place.with_extension("making"), path] {
                // It is of no use, and does no harm.
                let _ = fs::remove_file(path);
            }
        }
    }
    super::folder::sweep(&root)
}

/// The lock of what nobody makes, uses or wants.
fn take_alone(place: &Path) -> Option<LockFile> {
    let path = place.with_extension("lock");
    let used = lock::open(&path).ok()?;
    let is_ours = lock::take(&used, &path, Lock::Exclusive).is_ok_and(|taken| taken);
    (is_ours && lock::is_current(&used, &path)).then_some(used)
}

/// When each was used, where it is, and its bytes.
fn kept(cache: &Path) -> Vec<(SystemTime, PathBuf, u64)> {
    let entries = fs::read_dir(cache.join(FOLDER)).into_iter().flatten().flatten();
    let mut kept: Vec<_> = entries
        .filter_map(|entry| {
            let place = entry.path();
            let record = read_record(&place)?;
            let used = fs::metadata(place.with_extension("lock")).and_then(|metadata| metadata.modified());
            Some((used.unwrap_or(SystemTime::UNIX_EPOCH), place, record.bytes))
        })
        .collect();
    kept.sort();
    kept
}

/// Unless somebody uses it.
fn remove(place: &Path) -> bool {
    let Some(lock) = take_alone(place) else { return false };
    // Moved away first: half a setup is never met. What a crash leaves of it is swept.
    let Some(folder) = place.parent().and_then(|root| Folder::create(root).ok()) else { return false };
    if fs::rename(place, folder.path().join("old")).is_err() {
        return false;
    }
    drop((lock, folder));
    tracing::info!(setup = %place.display(), "removed what a setup had made, to make room; it is made again when it is needed");
    true
}

fn read_record(place: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(place.join("record.json")).ok()?).ok()
}
