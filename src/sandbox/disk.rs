//! Bounds what the commands of a box write into folders of the host's disk: bytes, and files.
//!
//! A file system tells cheaply how much it has given out. Only when that grew by more than the box has left are the box's
//! folders measured, since others write there too; so a bomb is seen within a look, and ordinary work costs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Limits;
use crate::folders::{self, Access, Usage};

/// How much more a box that is at its limit may hold: below that, it is not measured again.
const SLACK: Usage = Usage { bytes: 16 << 20, files: 1024 };

/// The disk of one box.
#[derive(Debug)]
pub struct Disk {
    folders: Vec<PathBuf>,
    limit: Usage,
    /// The limit, or a little more than what the box held when it was over the limit.
    ceiling: Usage,
    /// The last command was ended for it.
    was_ended: bool,
    /// By file system (its device's number): one of the folders on it, and what it may have given out before the folders
    /// are measured.
    marks: BTreeMap<u64, (PathBuf, Usage)>,
}

impl Disk {
    /// The disk of a box that writes to these folders, from now on. It gets at most nine tenths of what is free, besides
    /// what was copied to it.
    pub fn new(folders: Vec<PathBuf>, limits: &Limits, copied: Usage) -> Self {
        let mut limit = Usage { bytes: limits.disk_bytes, files: limits.disk_files };
        let mut marks = BTreeMap::new();
        for folder in &folders {
            let (Ok(metadata), Some((given, free))) = (fs::metadata(folder), given_out(folder)) else { continue };
            limit.bytes = limit.bytes.min(free.bytes / 10 * 9);
            // Some file systems make files as they are asked for, and tell of none.
            limit.files = if free.files == 0 { limit.files } else { limit.files.min(free.files / 10 * 9) };
            marks.entry(metadata.dev()).or_insert((folder.clone(), given));
        }
        for (_, mark) in marks.values_mut() {
            *mark = mark.plus(limit);
        }
        // Another box may show the same without a copy, and both may hold as much of their own.
        let limit = limit.plus(copied);
        Self { folders, limit, ceiling: limit, was_ended: false, marks }
    }

    /// Whether a command is to be ended, for the box holds more than it may. `processes`: its processes, for files that
    /// have no name any more. After one that was ended, the next may go on with what there is, to clean up, but not add
    /// to it.
    pub fn is_exceeded(&mut self, processes: impl FnOnce() -> Vec<u32>) -> bool {
        let past = |(folder, mark): &(PathBuf, Usage)| given_out(folder).is_some_and(|(given, _)| given.exceeds(*mark));
        if !self.was_ended && !self.marks.values().any(past) {
            return false;
        }
        let bound = if self.was_ended { Usage { bytes: u64::MAX, files: u64::MAX } } else { self.ceiling };
        let mut held = Usage::default();
        for folder in &self.folders {
            match folders::measure(folder, Access::Lend, |more| held.plus(more).exceeds(bound)) {
                Some(more) => held = held.plus(more),
                None => {
                    // It may hold anything; so it may clean up, and its file system may not fill up any further.
                    self.mark(SLACK);
                    return true;
                }
            }
        }
        for process in processes() {
            measure_nameless(process, self.marks.keys().copied().collect(), &mut held);
        }
        let is_exceeded = held.exceeds(bound);
        let with_slack = held.plus(SLACK);
        // What was cleaned up is not given back above the limit.
        self.ceiling = self.limit.at_least(if self.was_ended { with_slack } else { self.ceiling.at_most(with_slack) });
        self.was_ended = is_exceeded;
        self.mark(self.ceiling.minus(held).at_least(SLACK));
        is_exceeded
    }

    /// The folders are measured again when a file system has given out so much more.
    fn mark(&mut self, left: Usage) {
        for (folder, mark) in self.marks.values_mut() {
            if let Some((given, _)) = given_out(folder) {
                *mark = given.plus(left);
            }
        }
    }
}

/// What the file system of `folder` has given out, and what of it is free for us.
fn given_out(folder: &Path) -> Option<(Usage, Usage)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let given = Usage {
        bytes: bytes(disk.f_blocks.saturating_sub(disk.f_bfree)),
        files: disk.f_files.saturating_sub(disk.f_ffree),
    };
    Some((given, Usage { bytes: bytes(disk.f_bavail), files: disk.f_favail }))
}

/// Adds the files without a name that a process has open on these file systems.
fn measure_nameless(process: u32, devices: Vec<u64>, held: &mut Usage) {
    for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.nlink() == 0 && metadata.is_file() && devices.contains(&metadata.dev()) {
            *held = held.plus(Usage { bytes: metadata.blocks().saturating_mul(512), files: 1 });
        }
    }
}
