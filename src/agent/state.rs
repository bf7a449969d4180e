//! The state of the files as a hash, kept up to date with little reading.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::workspace::{FileError, Files, RelativePath, Walk, Walked};

/// In a tree of at most this many bytes each file is read at the beginning, so that one that is put back is known again.
const MOST_BYTES_AT_FIRST: u64 = 4 << 20;
/// Longer files count by their length and time alone.
const MOST_FILE_BYTES: u64 = 8 << 20;

/// What is known of the files.
#[derive(Debug)]
pub(super) struct State {
    files: HashMap<String, Entry>,
    /// The sum of all entries' hashes, with their paths.
    sum: u64,
    beginning: u64,
    round: u64,
}

#[derive(Debug)]
struct Entry {
    length: u64,
    modified: i128,
    hash: u64,
    /// The last walk that found it.
    round: u64,
}

impl State {
    /// The files as they are at the beginning of a run.
    pub(super) fn new(files: &Files, walk: &Walk) -> Self {
        let reads = walk.files.iter().map(|file| file.length).sum::<u64>() <= MOST_BYTES_AT_FIRST;
        let mut state = Self { files: HashMap::new(), sum: 0, beginning: 0, round: 0 };
        for file in &walk.files {
            let contents = if reads { contents_hash(files, &file.path) } else { None };
            state.put(file, contents.unwrap_or(file.length));
        }
        state.beginning = state.sum;
        state
    }

    /// The state as one number.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// The files cannot be looked at: a state like none before.
    pub(super) fn is_unknown(&mut self) {
        self.sum = self.sum.wrapping_add(1);
    }

    pub(super) fn has_changed(&self) -> bool {
        self.sum != self.beginning
    }

    /// Takes in what a walk found; only files with another length or time are read.
    pub(super) fn update(&mut self, files: &Files, walk: &Walk) {
        self.round += 1;
        for file in &walk.files {
            let known = self.files.get_mut(file.path.as_str());
            match known.filter(|entry| entry.length == file.length && entry.modified == file.modified) {
                Some(entry) => entry.round = self.round,
                None => {
                    let hash = contents_hash(files, &file.path).unwrap_or(file.length);
                    self.put(file, hash);
                }
            }
        }
        let (sum, round) = (&mut self.sum, self.round);
        self.files.retain(|path, entry| {
            let stays = entry.round == round;
            if !stays {
                *sum = sum.wrapping_sub(mark(path, entry.hash));
            }
            stays
        });
    }

    /// Takes in one file that was edited.
    pub(super) fn update_one(&mut self, files: &Files, path: &str) -> Result<(), FileError> {
        let relative = RelativePath::parse(path)?;
        match contents_hash(files, &relative) {
            // Whatever a walk finds next differs from this, and is read.
            Some(hash) => self.put(&Walked { path: relative, length: 0, modified: i128::MIN }, hash),
            None => {
                if let Some(entry) = self.files.remove(path) {
                    self.sum = self.sum.wrapping_sub(mark(path, entry.hash));
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, file: &Walked, hash: u64) {
        let entry = Entry { length: file.length, modified: file.modified, hash, round: self.round };
        let path = file.path.as_str();
        self.sum = self.sum.wrapping_add(mark(path, hash));
        if let Some(before) = self.files.insert(path.to_owned(), entry) {
            self.sum = self.sum.wrapping_sub(mark(path, before.hash));
        }
    }
}

/// A hash of anything.
pub(super) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn mark(path: &str, hash: u64) -> u64 {
    hash_of((path, hash))
}

fn contents_hash(files: &Files, path: &RelativePath) -> Option<u64> {
    files.read(path, MOST_FILE_BYTES).ok().map(hash_of)
}
