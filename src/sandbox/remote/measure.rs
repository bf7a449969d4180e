//! Measuring what a box holds on disk, as the commands' own user, who alone may look everywhere.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rustix::process::DumpableBehavior;
use tokio::io::AsyncReadExt;

use super::super::Limits;
use super::super::disk::{self, Bound};
use super::super::plan::{HOME, WORKSPACE};
use super::attendant::Status;
use super::line::Site;
use crate::folders::Usage;

/// The argument, after the helper's, that makes our binary measure.
pub const ARGUMENT: &str = "measure";

/// How long measuring may take; a box that hinders it holds too much.
const LIMIT: Duration = Duration::from_secs(20);

/// The disk of one box, as far as its own engine tells.
#[derive(Debug)]
pub struct RemoteDisk {
    bound: Bound,
    /// What the box may take before it is measured again.
    left: Usage,
    /// What the disk may have given out before.
    mark: Usage,
}

/// The longest answer, in bytes: two numbers.
const MOST_SAID: u64 = 64;

impl RemoteDisk {
    /// Of a box that was just begun.
    pub fn new(limits: &Limits, status: &Status, copied: Usage) -> Self {
        let (bound, left) = Bound::new(limits, [status.free], copied);
        Self { bound, left, mark: status.given.plus(left) }
    }

    /// Whether a command is to be ended, for the box holds more than it may.
    pub async fn is_exceeded(&mut self, status: &Status, site: &Site, user: &str) -> bool {
        let is_past = status.given.exceeds(self.mark);
        // What others give back is not for this box.
        self.mark = self.mark.at_most(status.given.plus(self.left));
        is_past && self.look(status, site, user).await
    }

    /// After a command was ended for what the box holds, when nothing of it runs any more: what there is may stay until the
    /// next one has cleaned up.
    pub async fn settle(&mut self, status: &Status, site: &Site, user: &str) {
        self.look(status, site, user).await;
    }

    async fn look(&mut self, status: &Status, site: &Site, user: &str) -> bool {
        // The end of a command ends all of its user's processes: the first may have gone with it.
        let twice = async {
            match measured(site, user).await {
                None => measured(site, user).await,
                held => held,
            }
        };
        let held = tokio::time::timeout(LIMIT, twice).await.ok().flatten();
        let (is_exceeded, left) = self.bound.judge(held);
        self.left = left;
        self.mark = status.given.plus(left);
        is_exceeded
    }
}

async fn measured(site: &Site, user: &str) -> Option<Usage> {
    let line = site.start(user, &[ARGUMENT]).await.ok()?;
    let mut said = String::new();
    // A command of the same user, or the engine, may have written it.
    line.from.take(MOST_SAID).read_to_string(&mut said).await.ok()?;
    let (bytes, files) = said.trim().split_once(' ')?;
    Some(Usage { bytes: bytes.parse().ok()?, files: files.parse().ok()? })
}

/// Prints bytes and files.
///
/// # Errors
/// Nobody listens.
pub fn main() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let device = |folder: &PathBuf| std::fs::metadata(folder).map(|metadata| metadata.dev()).ok();
    let mut folders = [WORKSPACE, HOME].map(PathBuf::from).to_vec();
    // An empty home is in memory.
    folders.retain(|folder| device(folder) == device(&PathBuf::from(WORKSPACE)));
    let held = disk::measure(&folders, Usage { bytes: u64::MAX, files: u64::MAX }, processes);
    let Some(held) = held else { anyhow::bail!("what the box holds cannot be told") };
    Ok(writeln!(std::io::stdout(), "{} {}", held.bytes, held.files)?)
}
