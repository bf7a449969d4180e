//! The results: one JSON object a line, appended as instances finish. Whatever ends the program, the lines stay.
//!
//! They hold what tasks, models and repositories say, so that all files are their owner's alone.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::Usage;

/// The file in a folder of results.
pub const FILE: &str = "results.jsonl";
/// The mode of all files.
const OWNERS: u32 = 0o600;

/// What became of one run of one instance. Other programs may write such lines, too: what they do not know is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub instance_id: String,
    pub model: String,
    pub profile: String,
    /// Our version, and a hash of all settings and prompts that shape a run; empty: not told.
    #[serde(default)]
    pub settings: String,
    /// From 1.
    #[serde(default = "first")]
    pub run: u32,
    pub status: Status,
    /// Why it is not resolved, in words.
    #[serde(default)]
    pub reason: String,
    /// Why the agent stopped, in a word: `finished`, `budget_ran_out (time)`, `stuck`, ...
    #[serde(default)]
    pub stop: String,
    /// What the pipeline made of it, by the tests that the agent could see.
    #[serde(default)]
    pub conclusion: String,
    #[serde(default)]
    pub usage: Usage,
    /// In millionths of the operator's currency; `None`: unknown.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    #[serde(default)]
    pub steps: u32,
    /// From the order to the outcome.
    #[serde(default)]
    pub seconds: f64,
    /// Of the hidden tests.
    #[serde(default)]
    pub judge_seconds: f64,
    /// How the hidden tests ended, in words, and the end of what they printed.
    #[serde(default)]
    pub judged: Option<String>,
    #[serde(default)]
    pub excerpt: String,
    #[serde(default)]
    pub changed_files: Vec<String>,
    #[serde(default)]
    pub language: Option<String>,
    /// Files below the folder.
    #[serde(default)]
    pub diff: Option<String>,
    #[serde(default)]
    pub record: Option<String>,
    #[serde(default, rename = "FAIL_TO_PASS", skip_serializing_if = "Option::is_none")]
    pub fail_to_pass: Option<Value>,
    #[serde(default, rename = "PASS_TO_PASS", skip_serializing_if = "Option::is_none")]
    pub pass_to_pass: Option<Value>,
}

fn first() -> u32 {
    1
}

/// Whether the hidden tests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Resolved,
    /// They pass, and the change is one that a person has to look at first: it may be what makes them pass.
    ForReview,
    Unresolved,
    /// The world was in the way, and nothing is said of the model: it is tried again with the next start.
    Error,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub instance_id: String,
    pub model: String,
    pub profile: String,
    pub settings: String,
    pub run: u32,
}

impl Row {
    pub fn key(&self) -> Key {
        Key {
            instance_id: self.instance_id.clone(),
            model: self.model.clone(),
            profile: self.profile.clone(),
            settings: self.settings.clone(),
            run: self.run,
        }
    }

    /// Whether it is counted: an error is only where the model was never asked, for what it does may be the cause.
    pub fn counts(&self) -> bool {
        self.status != Status::Error || self.steps > 0
    }
}

/// A folder of results that is written to, by one process at a time.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
    file: File,
    rows: Vec<Row>,
}

impl Results {
    /// Opens the folder, or makes it. A last line that was cut off in writing is taken out.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("the folder of results {} cannot be used", folder.display());
        make_folder(folder).with_context(cannot)?;
        let path = folder.join(FILE);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(OWNERS).open(&path);
        let file = file.with_context(cannot)?;
        file.set_permissions(Permissions::from_mode(OWNERS)).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another eval writes to {}. Wait for it, or name another folder", folder.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        let mut results = Self { folder: folder.to_owned(), file, rows: Vec::new() };
        let mut text = String::new();
        results.file.read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            results.file.set_len(whole as u64)?;
            results.file.seek(SeekFrom::End(0))?;
        }
        results.rows = parse(&text[..whole]).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(results)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The last word on each key.
    pub fn rows(&self) -> Vec<Row> {
        latest(self.rows.clone())
    }

    /// Whether there is a result, so that it is not to be done again.
    pub fn holds(&self, key: &Key) -> bool {
        let last = self.rows.iter().rev().find(|row| row.key() == *key);
        last.is_some_and(|row| row.status != Status::Error)
    }

    /// Adds a line, which is on the disk when this returns.
    pub fn append(&mut self, row: Row) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&row)?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).context("a result cannot be written")?;
        self.rows.push(row);
        Ok(())
    }
}

/// Makes a folder that is its owner's alone; one that is there stays as it is.
pub(super) fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that is its owner's alone, whatever it was before.
pub(super) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNERS).open(path)?;
    file.set_permissions(Permissions::from_mode(OWNERS))?;
    file.write_all(bytes)
}

/// Reads the results of a folder without holding it.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("there are no results at {}", path.display()))?;
    // The last line may be in the making.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let rows = parse(&text[..whole]).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(latest(rows))
}

fn parse(text: &str) -> anyhow::Result<Vec<Row>> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| serde_json::from_str(line).with_context(|| format!("line {number}"))).collect()
}

/// The last row of each key, in the order of the first ones.
fn latest(rows: Vec<Row>) -> Vec<Row> {
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut kept: Vec<Row> = Vec::new();
    for row in rows {
        match places.get(&row.key()) {
            Some(place) => kept[*place] = row,
            None => {
                places.insert(row.key(), kept.len());
                kept.push(row);
            }
        }
    }
    kept
}
