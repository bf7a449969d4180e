//! Runs every scenario below `tests/scenarios` through the real binary. `PATCHWRIGHT_TEST_SCENARIOS=01,patch` runs only
//! those with one of these texts in their name; `PATCHWRIGHT_TEST_BINARY` names another binary.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::scenario::{self, Scenario};

/// What became of one scenario.
enum Ending {
    Passed,
    /// A program that it needs is not here.
    Skipped(String),
    Failed(Vec<String>),
}

#[test]
fn scenarios_end_as_they_say() {
    let folders = wanted(scenario::list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")).unwrap());
    assert!(!folders.is_empty(), "no scenario has such a name");
    let binary = std::env::var_os("PATCHWRIGHT_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_patchwright")), PathBuf::from);
    let threads = std::thread::available_parallelism().map_or(2, |number| number.get()).min(8);
    let (next, endings) = (Mutex::new(folders.iter()), Mutex::new(Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(folder) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                    let (ending, time) = run(&binary, folder);
                    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                    let word = match &ending {
                        Ending::Passed => "ok",
                        Ending::Skipped(_) => "skipped",
                        Ending::Failed(_) => "FAILED",
                    };
                    println!("{:>6.2} s {word:<7} {name}", time.as_secs_f32());
                    endings.lock().unwrap_or_else(PoisonError::into_inner).push((name, ending));
                }
            });
        }
    });
    println!("{} scenarios in {:.1} s", folders.len(), begun.elapsed().as_secs_f32());
    let mut failed = Vec::new();
    for (name, ending) in endings.into_inner().unwrap() {
        match ending {
            Ending::Passed => {}
            Ending::Skipped(program) => {
                eprintln!("SKIPPED: scenario {name} needs {program}");
                assert!(
                    std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(),
                    "scenario {name} needs {program}, which is not here"
                );
            }
            Ending::Failed(wrong) => failed.push(format!("{name}\n    {}", wrong.join("\n").replace('\n', "\n    "))),
        }
    }
    failed.sort();
    assert!(failed.is_empty(), "{} scenarios failed:\n{}", failed.len(), failed.join("\n\n"));
}

fn wanted(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    if let Ok(parts) = std::env::var("PATCHWRIGHT_TEST_SCENARIOS") {
        let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        folders.retain(|folder| parts.split(',').any(|part| name(folder).contains(part)));
    }
    folders
}

fn run(binary: &Path, folder: &Path) -> (Ending, Duration) {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ending = runtime.block_on(async {
        let scenario = match Scenario::load(folder) {
            Ok(scenario) => scenario,
            Err(error) => return Ending::Failed(vec![format!("{error:#}")]),
        };
        if let Some(program) = scenario.missing_program() {
            return Ending::Skipped(program.to_owned());
        }
        let report = match scenario::run(binary, &scenario).await {
            Ok(report) => report,
            Err(error) => return Ending::Failed(vec![format!("{error:#}")]),
        };
        let mut wrong = scenario::check(&report, &scenario);
        match scenario::compare(&report, &scenario) {
            Ok(difference) => wrong.extend(difference),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        if wrong.is_empty() { Ending::Passed } else { Ending::Failed(wrong) }
    });
    (ending, begun.elapsed())
}
