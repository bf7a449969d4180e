//! The tests' evidence: found for a tree, run on it in a sandbox of its own, and told to the agent.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Services, verify};
use crate::outcome::{Outcome, TestCommand, TestEnding, TestRun, Verdict};
use crate::sandbox::Surroundings;
use crate::workspace::{Files, Kind, RelativePath};

/// Files that are looked at to find the test command.
const LOOKED_AT: usize = 20_000;
/// Bytes of a file that is read to find the test command.
const READ: u64 = 256 * 1024;
/// Even a task whose time is over gives its tests this long: a change that exists deserves a verdict.
const SHORTEST: Duration = Duration::from_secs(10);

/// Finds the test command of a tree.
pub(super) async fn detect(files: Files) -> anyhow::Result<Option<TestCommand>> {
    look_at(files, verify::detect).await
}

/// Looks at a tree's names and small texts.
pub(super) async fn look_at<T: Send + 'static>(
    files: Files,
    look: impl FnOnce(&verify::Listing<'_>) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let found = tokio::task::spawn_blocking(move || {
        let paths = paths_to_look_at(&files)?;
        let read = |path: &str| {
            let path = RelativePath::parse(path).ok()?;
            String::from_utf8(files.read(&path, READ).ok()?).ok()
        };
        anyhow::Ok(look(&verify::Listing { paths: &paths, read: &read }))
    });
    found.await.context("looking at the files broke off")?
}

/// The files of a tree, those at its root and one level below first: a walk that is cut must not miss them.
fn paths_to_look_at(files: &Files) -> anyhow::Result<Vec<String>> {
    let mut paths = std::collections::BTreeSet::new();
    let root = files.list(None, LOOKED_AT)?;
    for entry in &root.entries {
        match entry.kind {
            Kind::File { .. } => drop(paths.insert(entry.name.clone())),
            Kind::Directory => {
                // A name that this layer cannot open holds nothing that could be read.
                let Ok(folder) = RelativePath::parse(&entry.name) else { continue };
                let below = files.list(Some(&folder), LOOKED_AT)?;
                let files = below.entries.into_iter().filter(|entry| matches!(entry.kind, Kind::File { .. }));
                paths.extend(files.map(|file| format!("{}/{}", entry.name, file.name)));
            }
            Kind::Symlink | Kind::Special => {}
        }
    }
    let walk = files.walk(None, LOOKED_AT)?;
    paths.extend(walk.files.into_iter().map(|file| file.path.as_str().to_owned()));
    Ok(paths.into_iter().collect())
}

/// Finds the test command that a change brings along, where the base had none.
pub(super) async fn detect_in_change(files: Files) -> anyhow::Result<Option<TestCommand>> {
    let found = detect(files).await?;
    Ok(found.map(|command| TestCommand {
        reason: format!("{}; the change itself adds these tests, the base has none", command.reason),
        ..command
    }))
}

/// Runs the tests in a sandbox that is opened for it and closed after, within `most`, the operator's limit or less.
pub(super) async fn run_tests_on(
    services: &Services,
    place: &Surroundings,
    command: &TestCommand,
    deadline: Instant,
    most: Duration,
    outcome: &mut Outcome,
) -> anyhow::Result<TestRun> {
    let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST);
    let sandbox = services.backend.open(place).await?;
    outcome.sandbox = Some(sandbox.description().to_owned());
    let run = verify::run_tests(sandbox.as_ref(), command, left.min(most)).await;
    sandbox.close().await?;
    Ok(run?)
}

/// What the agent is told of a verdict that it can do something about; `None` where there is nothing to do.
pub(super) fn feedback(verdict: &Verdict, baseline: Option<&TestRun>, run: Option<&TestRun>) -> Option<String> {
    let opening = match verdict {
        Verdict::Verified | Verdict::Untested { .. } => return None,
        Verdict::Broken if baseline.is_none() => "Not accepted: the tests that come with your change fail.",
        Verdict::Broken => "Not accepted: the tests passed before your change and fail with it.",
        Verdict::StillRed => "Not accepted: the tests failed before your change and still fail.",
        Verdict::Inconclusive { .. } => "Not accepted: the tests could not be run to their end on your change.",
    };
    let run = run?;
    // A test program that is not on this machine is no matter of the change.
    let is_missing = |run: &TestRun| matches!(run.ending, TestEnding::NotFound { .. });
    if is_missing(run) && baseline.is_some_and(is_missing) {
        return None;
    }
    Some(format!("{opening}\n`{}` {}. It printed:\n{}", run.command, run.ending.describe(), run.told()))
}
