//! How often policy and secrets speak up about ordinary work: measured, not asserted. Run by hand:
//!
//! `PATCHWRIGHT_MEASURE=/path/to/repository cargo test --test it policy::measure -- --ignored --nocapture`; a folder that
//! is no repository is read as one change that adds all its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git2::{Delta, DiffFindOptions, FileMode, Repository};
use patchwright::policy::{Change, Class, Entry, FileChange, Level, Policy, Rules};
use patchwright::secrets::{Allowed, Known, Place, Scanner, Text};

#[derive(Default)]
struct Tally {
    changes: usize,
    files: usize,
    blocked: usize,
    reviewed: usize,
    leaking: usize,
    classes: BTreeMap<(Level, String), usize>,
    hits: BTreeMap<String, usize>,
}

#[test]
#[ignore = "a measurement; it needs PATCHWRIGHT_MEASURE"]
fn how_often_ordinary_work_is_stopped() {
    let place = PathBuf::from(std::env::var_os("PATCHWRIGHT_MEASURE").unwrap());
    let known = Known { name: "TOKEN".into(), secret: "Zx9-kQ2/vB7+mN4pL8wR3tY6uJ1".into() };
    let (policy, scanner) = (Policy::new(Rules::default()).unwrap(), Scanner::new(&[known]).unwrap());
    let mut tally = Tally::default();
    if place.join(".git").exists() {
        for (name, change) in commits(&place) {
            tally.count(&name, &change, &policy, &scanner);
        }
    } else {
        let mut files = Vec::new();
        read_below(&place, &place, &mut files);
        tally.count("all", &Change { files, ..Change::default() }, &policy, &scanner);
    }
    println!(
        "{} changes with {} files: {} blocked, {} more to be reviewed, {} stopped for secrets",
        tally.changes, tally.files, tally.blocked, tally.reviewed, tally.leaking
    );
    println!("findings {:#?}\nhits {:#?}", tally.classes, tally.hits);
}

impl Tally {
    fn count(&mut self, name: &str, change: &Change, policy: &Policy, scanner: &Scanner) {
        self.changes += 1;
        self.files += change.files.len();
        let report = policy.judge(change);
        match report.level() {
            Level::Block => self.blocked += 1,
            Level::Review => self.reviewed += 1,
            Level::Note => {}
        }
        for finding in &report.findings {
            let class = match finding.class {
                Class::Path(class) => format!("{class:?}"),
                class => format!("{class:?}"),
            };
            *self.classes.entry((finding.level, class)).or_default() += 1;
            if !matches!(finding.class, Class::Path(_)) && finding.level > Level::Note {
                println!("{name} {}:{:?} {:?}: {}", finding.path, finding.line, finding.class, finding.text);
            }
        }
        let mut leaks = false;
        for file in &change.files {
            let Some(new) = &file.new else { continue };
            let place = Place::File(String::from_utf8_lossy(&file.path).into_owned());
            let base = file.old.as_ref().map(|old| old.bytes.as_slice());
            for hit in scanner.scan(&Text { place, bytes: &new.bytes, base }, &Allowed::default()) {
                leaks = true;
                *self.hits.entry(hit.kind.describe()).or_default() += 1;
                println!("{name} {hit}");
            }
        }
        self.leaking += usize::from(leaks);
    }
}

/// The changes of the commits with one parent, the newest first.
fn commits(place: &Path) -> impl Iterator<Item = (String, Change)> {
    let repository = Repository::open(place).unwrap();
    let ids: Vec<_> = {
        let mut walk = repository.revwalk().unwrap();
        walk.push_head().unwrap();
        walk.take(5_000).map(Result::unwrap).collect()
    };
    ids.into_iter().filter_map(move |id| {
        let commit = repository.find_commit(id).unwrap();
        if commit.parent_count() != 1 {
            return None;
        }
        let (old, new) = (commit.parent(0).unwrap().tree().unwrap(), commit.tree().unwrap());
        let mut diff = repository.diff_tree_to_tree(Some(&old), Some(&new), None).unwrap();
        diff.find_similar(Some(DiffFindOptions::new().renames(true))).unwrap();
        let entry = |file: git2::DiffFile<'_>| {
            let bytes = repository.find_blob(file.id()).map(|blob| blob.content().to_vec()).unwrap_or_default();
            Entry { mode: u32::from(file.mode()), bytes }
        };
        let files = diff.deltas().map(|delta| {
            let (from, to) = (delta.old_file(), delta.new_file());
            let path = |file: &git2::DiffFile<'_>| file.path_bytes().unwrap_or_default().to_vec();
            FileChange {
                path: if delta.status() == Delta::Deleted { path(&from) } else { path(&to) },
                renamed_from: (delta.status() == Delta::Renamed).then(|| path(&from)),
                old: (delta.status() != Delta::Added && from.mode() != FileMode::Unreadable).then(|| entry(from)),
                new: (delta.status() != Delta::Deleted).then(|| entry(to)),
            }
        });
        Some((id.to_string()[..8].to_owned(), Change { files: files.collect(), ..Change::default() }))
    })
}

fn read_below(root: &Path, folder: &Path, files: &mut Vec<FileChange>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read_below(root, &path, files);
        } else if kind.is_file() && entry.metadata().unwrap().len() < 2 << 20 {
            let new = Some(Entry { mode: 0o100_644, bytes: std::fs::read(&path).unwrap() });
            let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned().into_bytes();
            files.push(FileChange { path, renamed_from: None, old: None, new });
        }
    }
}
