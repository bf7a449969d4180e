//! What the setup of a repository has made, kept from task to task.
//!
//! Below the cache: `.prepared/KEY/{layer,home,record.json}`, and beside each its lock, `KEY.lock`: exclusive for who
//! makes it or removes it, shared for who uses it, and touched by each, so that the longest unused goes first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::checkout::{Checkout, Export};
use super::error::{WorkspaceError, blocking, make_private_folder};
use super::folder::{Folder, remove_tree, size_of};
use super::layer;
use super::lock::{self, Lock};
use super::snapshot::Artefacts;

const FOLDER: &str = ".prepared";

/// A finished setup. It stays as long as this lives.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    record: Record,
    _lock: Option<File>,
    /// Removed on drop, where it is not kept.
    _folder: Option<Folder>,
}

/// A setup in the making: nobody else makes the same one meanwhile. Dropped: it is removed.
#[derive(Debug)]
pub struct Preparation {
    export: Export,
    folder: Folder,
    place: PathBuf,
    /// `None`: another task makes the same, so this one is not kept.
    lock: Option<File>,
}

/// What there is for a key.
#[derive(Debug)]
pub enum Found {
    Prepared(Prepared),
    Nothing(Preparation),
}

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
        let lock = lock::open(&path)?;
        // Many may use it at a time, and one alone may make it.
        let look = || {
            for wanted in [Lock::Shared, Lock::Exclusive] {
                if !lock::take(&lock, &path, wanted)? {
                    continue;
                }
                match (read_record(&place), wanted) {
                    (Some(record), _) => return Ok(Some(Some(record))),
                    (None, Lock::Exclusive) => return Ok(Some(None)),
                    (None, Lock::Shared) => {}
                }
            }
            // Who holds it shared while there is nothing keeps the maker out.
            lock::release(&lock, &path)?;
            Ok(None)
        };
        let found = match lock::until(&path, limit, look).await {
            // Who waits too long makes one of its own.
            Err(WorkspaceError::Busy { .. }) => None,
            found => found?,
        };
        let is_ours = found.is_none() && lock::take(&lock, &path, Lock::Exclusive)?;
        if let Some(record) = found {
            lock::share(&lock, &path)?;
            let touched = lock.set_modified(SystemTime::now());
            touched.map_err(WorkspaceError::io("touch the lock of", &place))?;
            return Ok(Found::Prepared(Prepared { path: place, record, _lock: Some(lock), _folder: None }));
        }
        let folder = Folder::create(&root)?;
        let home = folder.path().join("home");
        fs::create_dir(&home).map_err(WorkspaceError::io("create the folder", &home))?;
        let export = self.export_to(folder.path().join("export"), self.base_tree()).await?;
        Ok(Found::Nothing(Preparation { export, folder, place, lock: is_ours.then_some(lock) }))
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

    /// Keeps what was made for later tasks, with a note of the caller's own; with `once`, for this task alone.
    pub async fn finish(self, note: String, once: bool) -> Result<Prepared, WorkspaceError> {
        blocking("keep what the setup has made", move || {
            let Self { export, folder, place, lock } = self;
            let made = folder.path().join("made");
            let io = |path: &Path| WorkspaceError::io("keep what the setup has made at", path);
            fs::create_dir(&made).map_err(io(&made))?;
            let artefacts = layer::split(&export.tree_path(), &export.index(), &made.join("layer"))?;
            fs::rename(folder.path().join("home"), made.join("home")).map_err(io(&made))?;
            let record = Record { artefacts, note, bytes: size_of(&made) };
            let Some(lock) = lock.filter(|_| !once) else {
                return Ok(Prepared { path: made, record, _lock: None, _folder: Some(folder) });
            };
            let text = serde_json::to_string(&record).map_err(|error| io(&made)(error.into()))?;
            fs::write(made.join("record.json"), text).map_err(io(&made))?;
            remove_tree_if_there(&place);
            fs::rename(&made, &place).map_err(io(&place))?;
            lock::share(&lock, &place)?;
            lock.set_modified(SystemTime::now()).map_err(io(&place))?;
            Ok(Prepared { path: place, record, _lock: Some(lock), _folder: None })
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

/// Removes what dead processes were making; answers how many.
pub(super) fn sweep(cache: &Path) -> usize {
    super::folder::sweep(&cache.join(FOLDER))
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

/// Unless somebody uses it. Its lock stays: who waits for it must not wait for another file.
fn remove(place: &Path) -> bool {
    let lock = lock::open(&place.with_extension("lock"));
    let is_free = |lock: &File| rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    if !lock.as_ref().is_ok_and(is_free) {
        return false;
    }
    // Moved away first: half a setup is never met. What a crash leaves of it is swept.
    let Some(folder) = place.parent().and_then(|root| Folder::create(root).ok()) else { return false };
    let moved = fs::rename(place, folder.path().join("old")).is_ok();
    if moved {
        drop(folder);
        tracing::info!(setup = %place.display(), "removed what a setup had made, to make room; it is made again when it is needed");
    }
    moved
}

fn remove_tree_if_there(place: &Path) {
    if fs::symlink_metadata(place).is_ok() {
        remove_tree(place);
    }
}

fn read_record(place: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(place.join("record.json")).ok()?).ok()
}
