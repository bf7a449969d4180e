//! Temporary folders that are removed on drop, and swept at the next start if the process died first.
//!
//! A folder is `TEMPORARY/patchwright-NAME/` with the file `lock` in it, which its process holds with `flock` as long
//! as it lives. A lock that can be had therefore marks a folder that nobody uses.
//!
//! Dropping a big folder takes no longer than an interrupted program may: the rest is removed while the program goes on,
//! and what is left when it ends is swept at the next start.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use super::error::WorkspaceError;
use super::lock::LockFile;
use crate::folders::{self, Access};

const PREFIX: &str = "patchwright-";
const LOCK: &str = "lock";
/// How long a drop waits for the removal.
const DROP_LIMIT: Duration = Duration::from_millis(500);

/// A folder of ours, mode 0700, removed on drop: at once, or in the background if that takes longer.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Taken on drop only.
    lock: Option<LockFile>,
}

impl Folder {
    /// Makes a fresh folder below `temporary`.
    pub(super) fn create(temporary: &Path) -> Result<Self, WorkspaceError> {
        let context = |path: &Path| WorkspaceError::io("create the temporary folder", path);
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(temporary).map_err(context(temporary))?.keep();
        let lock = hold_new_lock(&path).map_err(context(&path));
        match lock {
            Ok(lock) => Ok(Self { path, lock: Some(lock) }),
            Err(error) => {
                remove_tree(&path);
                Err(error)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove_on_drop(&self.path, self.lock.take());
    }
}

/// Removes a folder on a thread of its own, which holds `held` as long, and waits for it a while.
pub(super) fn remove_on_drop(path: &Path, held: impl Send + 'static) {
    let (finished, waiting) = std::sync::mpsc::channel::<()>();
    let folder = path.to_owned();
    let running = Removal::begin();
    let spawned = std::thread::Builder::new().name("removal".into()).spawn(move || {
        // The lock goes last: without it, an unfinished removal would not look abandoned.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten().filter(|entry| entry.file_name() != LOCK) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
        }
        remove_tree(&folder);
        drop((held, running, finished));
    });
    match spawned {
        // It ends early, with an error, when the thread lets go of its end.
        Ok(_) => drop(waiting.recv_timeout(DROP_LIMIT)),
        Err(_) => remove_tree(path),
    }
}

/// How many removals go on in the background.
static REMOVALS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of them, while it lives.
struct Removal;

impl Removal {
    fn begin() -> Self {
        *REMOVALS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        *REMOVALS.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        REMOVALS.1.notify_all();
    }
}

/// Waits until no folder is being removed any more, at most for `limit`.
pub fn await_removals(limit: Duration) {
    let running = REMOVALS.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(REMOVALS.1.wait_timeout_while(running, limit, |running| *running > 0));
}

/// Removes the folders of dead processes below `temporary`; answers how many.
pub(super) fn sweep(temporary: &Path) -> usize {
    let Ok(entries) = fs::read_dir(temporary) else { return 0 };
    let ours = rustix::process::geteuid().as_raw();
    let mut swept = 0;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Only real folders of this user: the temporary folder may be shared.
        let fits = entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == ours);
        if fits && is_abandoned(&entry.path()) {
            end_orphans(&entry.path());
            remove_tree(&entry.path());
            swept += 1;
        }
    }
    swept
}

/// Bytes of the folders of tasks below `temporary`, which others may use too.
pub(super) fn size_of_ours(temporary: &Path) -> u64 {
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    ours.map(|entry| folders::size(&entry.path(), Access::Keep)).sum()
}

/// Ends what a killed process has left running: those of this user whose home or temporary folder lies in `folder`.
fn end_orphans(folder: &Path) {
    let Ok(folder) = folder.canonicalize() else { return };
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let (Some(process), Ok(environment)) = (process, fs::read(entry.path().join("environ"))) else { continue };
        let is_orphan = environment.split(|byte| *byte == 0).any(|variable| {
            let value = variable.strip_prefix(b"HOME=").or_else(|| variable.strip_prefix(b"TMPDIR="));
            value.is_some_and(|value| Path::new(OsStr::from_bytes(value)).starts_with(&folder))
        });
        if is_orphan && let Err(error) = rustix::process::kill_process(process, Signal::KILL) {
            tracing::debug!(?process, %error, "cannot end what a killed process has left running");
        }
    }
}

/// Removes a folder and all in it, also where a test run took away the permissions.
pub(super) fn remove_tree(path: &Path) {
    if let Err(error) = folders::remove(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove a temporary folder");
    }
}

/// The lock appears under its name only once it is held, so that no sweep can take it first.
fn hold_new_lock(folder: &Path) -> std::io::Result<LockFile> {
    let early = folder.join("lock.new");
    let mut file = OpenOptions::new().write(true).create_new(true).open(&early)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    writeln!(file, "{}", std::process::id())?;
    fs::rename(&early, folder.join(LOCK))?;
    Ok(file.into())
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // It may be in the making. A crash in just that moment leaves an old folder without a lock.
        Err(_) => fs::metadata(folder)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 600)),
    }
}
