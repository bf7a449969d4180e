//! A process of the keeper's user in the box, which commands can neither end nor stop. It tells what can be seen from
//! inside alone: whether anything of a command lives, whether the kernel killed for memory, how full the disk is.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::DumpableBehavior;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::super::SandboxError;
use super::super::cgroup::Observed;
use super::super::disk::given_out;
use super::super::egress::CERTIFICATES;
use super::super::online::SHOWN;
use super::super::plan::WORKSPACE;
use super::super::shape::KEEPER;
use super::line::{Line, Site};
use crate::folders::Usage;

/// The argument, after the helper's, that makes our binary an attendant.
pub const ARGUMENT: &str = "attend";

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The largest file with authorities.
const LARGEST_CERTIFICATES: u64 = 16 << 20;

/// Numbers in an answer.
const NUMBERS: usize = 6;

/// What an attendant sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct Status {
    /// Processes of others than the keeper's user.
    pub processes: usize,
    /// How often the kernel killed for the memory limit, where that can be seen.
    pub memory_kills: Option<u64>,
    /// What the disk behind the working tree has given out, and what is free.
    pub given: Usage,
    pub free: Usage,
}

/// The host's end. Dropped: it ends.
pub struct Attendant(Mutex<Asked>);

struct Asked {
    line: Line,
    /// It was asked and has not answered: what it says next may be that answer, and is not listened to.
    is_late: bool,
}

impl std::fmt::Debug for Attendant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Attendant")
    }
}

impl Attendant {
    /// Starts one, which shows `certificates` to the box's programs.
    ///
    /// # Errors
    /// It does not start or does not answer.
    pub async fn start(site: &Site, certificates: &[u8]) -> Result<Self, SandboxError> {
        let mut line = site.start(KEEPER, &[ARGUMENT]).await?;
        let order = [&(certificates.len() as u64).to_le_bytes(), certificates].concat();
        let sent = async {
            line.to.write_all(&order).await?;
            line.to.flush().await
        };
        match tokio::time::timeout(ANSWER_LIMIT, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(line.complaint.explain("our process in the box does not listen", error)),
            Err(_) => return Err(line.complaint.explain("our process in the box does not listen", "no answer")),
        }
        let attendant = Self::at(line);
        attendant.ask().await?;
        Ok(attendant)
    }

    /// One that was started.
    pub fn at(line: Line) -> Self {
        Self(Mutex::new(Asked { line, is_late: false }))
    }

    /// What it sees now.
    ///
    /// # Errors
    /// It is gone, or does not answer; then it is not asked again.
    pub async fn ask(&self) -> Result<Status, SandboxError> {
        let mut asked = self.0.lock().await;
        let Asked { line, is_late } = &mut *asked;
        // Until it has answered: whoever asks may stop waiting.
        if std::mem::replace(is_late, true) {
            return Err(line.complaint.explain("our process in the box is silent", "it owes an answer"));
        }
        let mut answer = [0; NUMBERS * 8];
        let asked = async {
            line.to.write_all(b"?").await?;
            line.to.flush().await?;
            line.from.read_exact(&mut answer).await
        };
        match tokio::time::timeout(ANSWER_LIMIT, asked).await {
            Ok(Ok(_)) => {
                *is_late = false;
                Ok(Status::decode(&answer))
            }
            Ok(Err(error)) => Err(line.complaint.explain("our process in the box is gone", error)),
            Err(_) => Err(line.complaint.explain("our process in the box is silent", "no answer")),
        }
    }
}

/// The box's end: answers until nobody asks any more.
///
/// # Errors
/// What it is to look at cannot be seen.
pub fn main() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut certificates = Vec::new();
    (&mut from).take(u64::from_le_bytes(length).min(LARGEST_CERTIFICATES)).read_to_end(&mut certificates)?;
    if !certificates.is_empty() {
        let path = Path::new(SHOWN).join(CERTIFICATES);
        std::fs::write(path, certificates).context("the authorities cannot be shown in the box")?;
    }
    let group = Observed::inside();
    let mut question = [0];
    while from.read(&mut question)? == 1 {
        to.write_all(&Status::now(group.as_ref()).encode())?;
        to.flush()?;
    }
    Ok(())
}

impl Status {
    fn now(group: Option<&Observed>) -> Self {
        let (given, free) = given_out(Path::new(WORKSPACE)).unwrap_or_default();
        Self { processes: strangers(), memory_kills: group.map(Observed::memory_kills), given, free }
    }

    fn encode(self) -> Vec<u8> {
        let kills = self.memory_kills.map_or(0, |kills| kills + 1);
        let numbers =
            [self.processes as u64, kills, self.given.bytes, self.given.files, self.free.bytes, self.free.files];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8; NUMBERS * 8]) -> Self {
        let mut numbers =
            bytes.chunks_exact(8).map(|part| part.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)));
        let mut next = || numbers.next().unwrap_or_default();
        Self {
            processes: usize::try_from(next()).unwrap_or(usize::MAX),
            memory_kills: next().checked_sub(1),
            given: Usage { bytes: next(), files: next() },
            free: Usage { bytes: next(), files: next() },
        }
    }
}

/// How many processes there are of others than us. One that has ended and waits to be reaped is none; of one whose first
/// thread has ended the others live on.
fn strangers() -> usize {
    let ours = rustix::process::getuid().as_raw().to_string();
    let is_strange = |status: &String| {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let has_ended = ["Z", "X"].iter().any(|state| field("State:").starts_with(state));
        let is_over = has_ended && field("Threads:").parse().unwrap_or(1) <= 1;
        !is_over && field("Uid:").split_whitespace().next() != Some(ours.as_str())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())))
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
        .filter(is_strange)
        .count()
}
