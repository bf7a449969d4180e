//! The set of bugs is what it says: hidden tests fail before the fix and pass with it, and visible ones do as stated.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use lab::bugs::{Bug, Level, Visible, all};

use crate::cli::harness::{git, skip};

/// Lays the bug out in `folder`, and says whether its tests pass.
fn passes(bug: &Bug, folder: &Path, fixed: bool, hidden: bool) -> bool {
    copy(&bug.folder.join("repo"), folder);
    if fixed {
        let patch = std::fs::read(bug.folder.join("fix.patch")).unwrap();
        git(folder, &["apply", "-"], &patch);
    }
    if hidden {
        copy(&bug.folder.join("hidden"), folder);
    }
    let output = Command::new("sh")
        .args(["-c", &bug.task.test_command])
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.status.success()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn check(bug: &Bug) -> Result<(), String> {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    if passes(bug, &at("visible"), false, false) != (bug.task.visible == Visible::Passes) {
        return Err(format!("{}: the visible tests do not do what task.toml says", bug.name));
    }
    if passes(bug, &at("base"), false, true) {
        return Err(format!("{}: the hidden tests pass without the fix", bug.name));
    }
    match passes(bug, &at("fixed"), true, true) {
        true => Ok(()),
        false => Err(format!("{}: the hidden tests fail with the fix", bug.name)),
    }
}

fn has(program: &str) -> bool {
    which::which(program).is_ok()
}

#[test]
fn hidden_tests_tell_a_fix_from_none() {
    let (known, unknown): (Vec<Bug>, Vec<Bug>) = all().unwrap().into_iter().partition(|bug| {
        let programs: &[&str] = match bug.task.language.as_str() {
            "python" => &["python3"],
            "javascript" => &["node"],
            "c" => &["make", "cc"],
            "java" => &["make", "javac", "java"],
            "shell" => &["sh", "awk"],
            other => panic!("{}: {other} is a language that this test does not know", bug.name),
        };
        programs.iter().all(|program| has(program))
    });
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(|bug| bug.name.as_str()).collect();
        skip("hidden_tests_tell_a_fix_from_none", &format!("no programs for {}", names.join(", ")));
    }
    let (next, wrong) = (Mutex::new(known.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(|| {
                loop {
                    let Some(bug) = next.lock().unwrap().next() else { break };
                    if let Err(complaint) = check(bug) {
                        wrong.lock().unwrap().push(complaint);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_set_is_broad_and_small() {
    let bugs = all().unwrap();
    assert!(bugs.len() >= 30, "only {} bugs", bugs.len());
    let languages: BTreeSet<&str> = bugs.iter().map(|bug| bug.task.language.as_str()).collect();
    assert!(languages.len() >= 5, "{languages:?}");
    for level in [Level::Easy, Level::Medium, Level::Hard] {
        assert!(bugs.iter().any(|bug| bug.task.level == level), "none is {level:?}");
    }
    for visible in [Visible::Passes, Visible::Fails] {
        assert!(bugs.iter().filter(|bug| bug.task.visible == visible).count() >= 10, "few whose visible {visible:?}");
    }
    let files = |bug: &Bug| {
        let walk = ignore::WalkBuilder::new(bug.folder.join("repo")).standard_filters(false).build();
        walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file())).count()
    };
    for bug in &bugs {
        assert!((2..=8).contains(&files(bug)), "{} has {} files", bug.name, files(bug));
        // What the floor is told is exactly what the fix changes.
        let patch = std::fs::read_to_string(bug.folder.join("fix.patch")).unwrap();
        let mut fixed: Vec<&str> = patch.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
        fixed.sort_unstable();
        assert_eq!(bug.task.files, fixed, "{}", bug.name);
        assert!(!fixed.iter().any(|file| file.contains("test")), "{}: the fix changes tests", bug.name);
    }
}
