//! The red team: hostile repositories, issues, dependencies and models try what `tests/redteam` says, through the real
//! binary and the whole way of a task, on both backends. `PATCHWRIGHT_TEST_REDTEAM=03,policy` runs only the files with
//! one of these texts in their name.
//!
//! A secret that is planted wherever secrets are must be seen nowhere afterwards: not in what was pushed, posted, logged,
//! printed, sent to the model or left behind.

mod defences;
mod door;
mod host;
mod judge;
mod scene;
mod table;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::cli::harness::{BINARY, skip};
use host::Host;
use scene::{File, Scene};

/// Where the repository's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Namespace,
    Container,
    /// A container that the files are sent to, as to an engine elsewhere.
    Remote,
}

#[test]
fn attacks_in_namespaces() {
    run_all(Backend::Namespace, "", &wanted(scene::read_all()));
}

#[test]
fn attacks_in_containers() {
    match std::env::var_os("PATCHWRIGHT_TEST_DOCKER_HOST") {
        Some(_) => run_all(Backend::Container, "", &wanted(scene::read_all())),
        None => skip("redteam::attacks_in_containers", "PATCHWRIGHT_TEST_DOCKER_HOST names no engine"),
    }
}

/// The themes in which it matters that a box has its folders, its way out and our processes for itself.
#[test]
fn attacks_in_containers_elsewhere() {
    let mut files = scene::read_all();
    files.retain(|file| ["outside", "network", "names", "bombs"].iter().any(|theme| file.name.contains(theme)));
    match std::env::var_os("PATCHWRIGHT_TEST_DOCKER_HOST") {
        Some(_) => run_all(Backend::Remote, "", &wanted(files)),
        None => skip("redteam::attacks_in_containers_elsewhere", "PATCHWRIGHT_TEST_DOCKER_HOST names no engine"),
    }
}

fn wanted(mut files: Vec<File>) -> Vec<File> {
    if let Ok(parts) = std::env::var("PATCHWRIGHT_TEST_REDTEAM") {
        files.retain(|file| parts.split(',').any(|part| file.name.contains(part)));
    }
    assert!(!files.is_empty(), "no file has such a name");
    files
}

/// Runs every scene and fails with all that went wrong.
fn run_all(backend: Backend, without: &str, files: &[File]) {
    let begun = Instant::now();
    let wrong = complaints(backend, without, files);
    let attacks: usize = files.iter().flat_map(|file| &file.scene).map(|scene| scene.attack.len()).sum();
    println!("{attacks} attacks in {backend:?}: {:.1} s", begun.elapsed().as_secs_f32());
    assert!(wrong.is_empty(), "{} scenes of {backend:?} went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What went wrong, scene by scene, with the defence `without` switched off.
fn complaints(backend: Backend, without: &str, files: &[File]) -> Vec<String> {
    let scenes: Vec<(&File, &Scene)> =
        files.iter().flat_map(|file| file.scene.iter().map(move |scene| (file, scene))).collect();
    let (next, found) = (Mutex::new(scenes.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((file, scene)) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                    let begun = Instant::now();
                    let wrong = attempt(backend, without, scene);
                    let word = if wrong.is_empty() { "held" } else { "FAILED" };
                    println!(
                        "{:>6.2} s {word:<6} {backend:?} {}: {}",
                        begun.elapsed().as_secs_f32(),
                        file.name,
                        scene.about
                    );
                    if !wrong.is_empty() {
                        let wrong = wrong.join("\n    ");
                        found
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("{}: {}\n    {wrong}", file.name, scene.about));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort();
    found
}

/// One scene: the host is set up, the binary runs, everything is looked at.
fn attempt(backend: Backend, without: &str, scene: &Scene) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let host = Host::new();
        let scene = scene.filled(&host);
        let mut scenario = scene.scenario(backend, without, &host);
        match lab::scenario::run(&host.program(), &scenario).await {
            Ok(report) => judge::judge(&scene, &mut scenario, &report, &host),
            Err(error) => vec![format!("it could not run: {error:#}")],
        }
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn binary() -> PathBuf {
    PathBuf::from(BINARY)
}
