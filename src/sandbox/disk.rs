//! Bounds what the commands of a box write into folders of the host's disk: bytes, and files.
//!
//! A file system tells cheaply how much it has given out. Only when that grew by more than the box has left are the box's
//! folders measured, since others write there too; so a bomb is seen within a look, and ordinary work costs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Limits;

/// How much more a box that is at its limit may hold: below that, it is not measured again.
const SLACK: Usage = Usage { bytes: 16 << 20, files: 1024 };

/// Bytes and files: given out by a file system, held by folders, or allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub bytes: u64,
    pub files: u64,
}

impl Usage {
    pub fn exceeds(self, limit: Self) -> bool {
        self.bytes > limit.bytes || self.files > limit.files
    }

    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }

    fn minus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), files: self.files.saturating_sub(other.files) }
    }

    fn at_most(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), files: self.files.min(other.files) }
    }

    fn at_least(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), files: self.files.max(other.files) }
    }
}

/// What a box may hold, as it goes on.
#[derive(Debug)]
pub struct Bound {
    limit: Usage,
    /// The limit, or a little more than what the box held when it was over the limit.
    ceiling: Usage,
    /// The last command was ended for it.
    was_ended: bool,
}

/// The disk of one box.
#[derive(Debug)]
pub struct Disk {
    folders: Vec<PathBuf>,
    bound: Bound,
    /// By file system (its device's number): one of the folders on it, and what it may have given out before the folders
    /// are measured.
    marks: BTreeMap<u64, (PathBuf, Usage)>,
}

impl Bound {
    /// It gets at most nine tenths of what is free.
    pub fn new(limits: &Limits, free: impl IntoIterator<Item = Usage>) -> Self {
        let mut limit = Usage { bytes: limits.disk_bytes, files: limits.disk_files };
        for free in free {
            limit.bytes = limit.bytes.min(free.bytes / 10 * 9);
            // Some file systems make files as they are asked for, and tell of none.
            limit.files = if free.files == 0 { limit.files } else { limit.files.min(free.files / 10 * 9) };
        }
        Self { limit, ceiling: limit, was_ended: false }
    }

    /// What may be added to the disk before it is worth measuring.
    pub fn first_mark(&self, given: Usage) -> Usage {
        given.plus(self.limit)
    }

    /// Whether the box is to be measured, whatever the disk has given out.
    pub fn is_tight(&self) -> bool {
        self.was_ended
    }

    /// What is enough to know that it holds too much.
    pub fn most(&self) -> Usage {
        if self.was_ended { Usage { bytes: u64::MAX, files: u64::MAX } } else { self.ceiling }
    }

    /// Whether a command is to be ended for what the box holds, and what may be added until the next measuring. After one
    /// that was ended, the next may go on with what there is, to clean up, but not add to it.
    pub fn judge(&mut self, held: Usage) -> (bool, Usage) {
        let is_exceeded = held.exceeds(self.most());
        let with_slack = held.plus(SLACK);
        // What was cleaned up is not given back above the limit.
        self.ceiling = self.limit.at_least(if self.was_ended { with_slack } else { self.ceiling.at_most(with_slack) });
        self.was_ended = is_exceeded;
        (is_exceeded, self.ceiling.minus(held).at_least(SLACK))
    }
}

impl Disk {
    /// The disk of a box that writes to these folders, from now on. It gets at most nine tenths of what is free.
    pub fn new(folders: Vec<PathBuf>, limits: &Limits) -> Self {
        let (mut marks, mut all_free) = (BTreeMap::new(), Vec::new());
        for folder in &folders {
            let (Ok(metadata), Some((given, free))) = (fs::metadata(folder), given_out(folder)) else { continue };
            all_free.push(free);
            marks.entry(metadata.dev()).or_insert((folder.clone(), given));
        }
        let bound = Bound::new(limits, all_free);
        for (_, mark) in marks.values_mut() {
            *mark = bound.first_mark(*mark);
        }
        Self { folders, bound, marks }
    }

    /// Whether a command is to be ended, for the box holds more than it may. `processes`: its processes, for files that
    /// have no name any more.
    pub fn is_exceeded(&mut self, processes: impl FnOnce() -> Vec<u32>) -> bool {
        let past = |(folder, mark): &(PathBuf, Usage)| given_out(folder).is_some_and(|(given, _)| given.exceeds(*mark));
        if !self.bound.is_tight() && !self.marks.values().any(past) {
            return false;
        }
        let held = measure_all(&self.folders, self.bound.most(), processes());
        let (is_exceeded, left) = self.bound.judge(held);
        for (folder, mark) in self.marks.values_mut() {
            if let Some((given, _)) = given_out(folder) {
                *mark = given.plus(left);
            }
        }
        is_exceeded
    }
}

/// What folders hold, and what processes hold open without a name on the same file systems; no more than is needed to
/// know that it is more than `most`.
pub fn measure_all(folders: &[PathBuf], most: Usage, processes: Vec<u32>) -> Usage {
    let mut held = Usage::default();
    for folder in folders {
        measure(folder, most, &mut held);
    }
    let devices: Vec<u64> = folders.iter().filter_map(|folder| Some(fs::metadata(folder).ok()?.dev())).collect();
    for process in processes {
        measure_nameless(process, &devices, &mut held);
    }
    held
}

/// What the file system of `folder` has given out, and what of it is free for us.
pub fn given_out(folder: &Path) -> Option<(Usage, Usage)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let given = Usage {
        bytes: bytes(disk.f_blocks.saturating_sub(disk.f_bfree)),
        files: disk.f_files.saturating_sub(disk.f_ffree),
    };
    Some((given, Usage { bytes: bytes(disk.f_bavail), files: disk.f_favail }))
}

/// Adds what a folder holds; no more than is needed to know that it is too much. Symlinks are not followed.
fn measure(folder: &Path, limit: Usage, held: &mut Usage) {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            // A file of several names is met several times.
            let share = metadata.blocks().saturating_mul(512) / metadata.nlink().max(1);
            let bytes = if metadata.is_dir() { metadata.blocks().saturating_mul(512) } else { share };
            *held = held.plus(Usage { bytes, files: 1 });
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
        if held.exceeds(limit) {
            return;
        }
    }
}

/// Adds the files without a name that a process has open on these file systems.
fn measure_nameless(process: u32, devices: &[u64], held: &mut Usage) {
    for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.nlink() == 0 && metadata.is_file() && devices.contains(&metadata.dev()) {
            *held = held.plus(Usage { bytes: metadata.blocks().saturating_mul(512), files: 1 });
        }
    }
}
