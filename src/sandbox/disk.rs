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

/// What a box may hold, as it goes on.
#[derive(Debug)]
pub struct Bound {
    limit: Usage,
    /// The limit, or a little more than what the box held after a command was ended for it. `None`: one was, and what is
    /// measured next is taken as it is, so that the next can clean up.
    ceiling: Option<Usage>,
}

/// The disk of one box.
#[derive(Debug)]
pub struct Disk {
    folders: Vec<PathBuf>,
    bound: Bound,
    /// What the box may take before it is measured again.
    left: Usage,
    /// By file system (its device's number): one of the folders on it, and what it may have given out before the folders
    /// are measured.
    marks: BTreeMap<u64, (PathBuf, Usage)>,
}

impl Bound {
    /// Of a box that gets at most nine tenths of what is free, besides what was copied to it; and what the disk may give
    /// out before it is measured.
    pub fn new(limits: &Limits, free: impl IntoIterator<Item = Usage>, copied: Usage) -> (Self, Usage) {
        let mut limit = Usage { bytes: limits.disk_bytes, files: limits.disk_files };
        for free in free {
            limit.bytes = limit.bytes.min(free.bytes / 10 * 9);
            // Some file systems make files as they are asked for, and tell of none.
            limit.files = if free.files == 0 { limit.files } else { limit.files.min(free.files / 10 * 9) };
        }
        // Another box may show the same without a copy, and both may hold as much of their own.
        let with_copies = limit.plus(copied);
        (Self { limit: with_copies, ceiling: Some(with_copies) }, limit)
    }

    /// What is enough to know that it holds too much.
    pub fn most(&self) -> Usage {
        self.ceiling.unwrap_or(Usage { bytes: u64::MAX, files: u64::MAX })
    }

    /// Whether a command is to be ended for what the box holds (`None`: it cannot be told), and how much more the disk may
    /// give out until the next measuring. After one that was ended, the next may go on with what there is, to clean up, but
    /// not add to it.
    pub fn judge(&mut self, held: Option<Usage>) -> (bool, Usage) {
        let Some(held) = held else {
            // It may hold anything; so it may clean up, and its file system may not fill up any further.
            self.ceiling = None;
            return (true, SLACK);
        };
        let with_slack = held.plus(SLACK);
        let (is_exceeded, lowered) = match self.ceiling {
            Some(ceiling) => (held.exceeds(ceiling), ceiling.at_most(with_slack)),
            None => (false, with_slack),
        };
        // What was cleaned up is not given back above the limit.
        let ceiling = self.limit.at_least(lowered);
        self.ceiling = (!is_exceeded).then_some(ceiling);
        (is_exceeded, ceiling.minus(held).at_least(SLACK))
    }
}

impl Disk {
    /// The disk of a box that writes to these folders, from now on.
    pub fn new(folders: Vec<PathBuf>, limits: &Limits, copied: Usage) -> Self {
        let (mut marks, mut all_free) = (BTreeMap::new(), Vec::new());
        for folder in &folders {
            let (Ok(metadata), Some((given, free))) = (fs::metadata(folder), given_out(folder)) else { continue };
            all_free.push(free);
            marks.entry(metadata.dev()).or_insert((folder.clone(), given));
        }
        let (bound, left) = Bound::new(limits, all_free, copied);
        for (_, mark) in marks.values_mut() {
            *mark = mark.plus(left);
        }
        Self { folders, bound, left, marks }
    }

    /// Whether a command is to be ended, for the box holds more than it may. `processes`: its processes, for files that
    /// have no name any more.
    pub fn is_exceeded(&mut self, processes: impl FnOnce() -> Vec<u32>) -> bool {
        let mut is_past = false;
        for (folder, mark) in self.marks.values_mut() {
            let Some((given, _)) = given_out(folder) else { continue };
            is_past |= given.exceeds(*mark);
            // What others give back is not for this box.
            *mark = mark.at_most(given.plus(self.left));
        }
        is_past && self.look(processes())
    }

    /// After a command was ended for what the box holds, when nothing of it runs any more: what there is may stay until the
    /// next one has cleaned up.
    pub fn settle(&mut self) {
        self.look(Vec::new());
    }

    fn look(&mut self, processes: Vec<u32>) -> bool {
        let (is_exceeded, left) = self.bound.judge(measure(&self.folders, self.bound.most(), processes));
        self.left = left;
        for (folder, mark) in self.marks.values_mut() {
            if let Some((given, _)) = given_out(folder) {
                *mark = given.plus(left);
            }
        }
        is_exceeded
    }
}

/// What folders hold, and what processes hold open without a name on the same file systems; no more than is needed to
/// know that it is more than `most`. `None`: it cannot be told.
pub fn measure(folders: &[PathBuf], most: Usage, processes: Vec<u32>) -> Option<Usage> {
    let mut held = Usage::default();
    for folder in folders {
        held = held.plus(folders::measure(folder, Access::Lend, |more| held.plus(more).exceeds(most))?);
    }
    let devices: Vec<u64> = folders.iter().filter_map(|folder| Some(fs::metadata(folder).ok()?.dev())).collect();
    for process in processes {
        measure_nameless(process, &devices, &mut held);
    }
    Some(held)
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

/// Adds the files without a name that a process has open on these file systems.
fn measure_nameless(process: u32, devices: &[u64], held: &mut Usage) {
    for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.nlink() == 0 && metadata.is_file() && devices.contains(&metadata.dev()) {
            *held = held.plus(Usage { bytes: metadata.blocks().saturating_mul(512), files: 1 });
        }
    }
}
