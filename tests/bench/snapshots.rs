//! What it costs to freeze a tree with much build output, and to open a box that shows it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use patchwright::sandbox::{Backend, Choice, Ending, Home, SandboxError, Surroundings};
use patchwright::workspace::{Remote, Settings, Workspace};

use crate::figures::{Figures, Unit, milliseconds};
use crate::sandboxes;

const GROUP: &str = "snapshot";
/// Of the build output: 1 GB in all.
const FILES: u32 = 50_000;
const BYTES: usize = 20_000;
/// Making the output takes longer than all that is measured.
const MOST_ROUNDS: u32 = 5;

/// Freezes 50,000 files of 1 GB, and opens a box over them.
pub async fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source");
    fs::create_dir(&source)?;
    for (name, text) in [("README.md", "# Big\n"), (".gitignore", "build/\n")] {
        fs::write(source.join(name), text)?;
    }
    for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-qm", "One"]] {
        let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
        lab::git::bytes(&source, &[&identity[..], arguments].concat()).await?;
    }
    let workspace = Workspace::new(Settings {
        git: which::which("git").context("cannot find git")?,
        cache: folder.path().join("cache"),
        temporary: folder.path().join("temporary"),
        git_timeout: Duration::from_secs(300),
        environment: Vec::new(),
    })?;
    let checkout = workspace.checkout(&Remote::Local(source), None).await?;
    let mut freezes = Vec::new();
    let mut layer = None;
    for _ in 0..figures.rounds().min(MOST_ROUNDS) {
        drop(layer.take());
        let export = checkout.export(checkout.base_tree()).await?;
        build(&export.tree_path())?;
        let started = Instant::now();
        layer = Some(checkout.freeze(export).await?);
        freezes.push(milliseconds(started.elapsed()));
    }
    figures.add(GROUP, "freezing 50,000 files, 1 GB", Unit::Milliseconds, freezes, Some(2_000.0));
    let layer = layer.context("there was no round")?;
    for (choice, kind, aim) in [(Choice::Namespace, "namespace", Some(2_000.0)), (Choice::Container, "container", None)]
    {
        let name = format!("{kind}: a box over them, and a first command");
        let backend = match Backend::probe(&sandboxes::settings(choice)).await {
            Ok(backend) => backend,
            Err(SandboxError::Unavailable { reason, .. } | SandboxError::Broken(reason)) => {
                figures.leave_out(GROUP, &name, &reason, aim);
                continue;
            }
        };
        let mut samples = Vec::new();
        for _ in 0..figures.rounds().min(MOST_ROUNDS) {
            let export = checkout.export(checkout.base_tree()).await?;
            let started = Instant::now();
            let around = Surroundings {
                layers: vec![layer.path().to_owned()],
                home: Home::Empty,
                ..Surroundings::of(&export.tree_path())
            };
            let sandbox = backend.open(&around).await?;
            let command = patchwright::sandbox::Command {
                line: "test -e build/499/99 && echo x >> build/0/0".into(),
                ..sandboxes::command()
            };
            let output = sandbox.run(&command).await?;
            samples.push(milliseconds(started.elapsed()));
            anyhow::ensure!(output.ending == Ending::Exited(0), "it ended with {:?}", output.ending);
            sandbox.close().await?;
        }
        figures.add(GROUP, &name, Unit::Milliseconds, samples, aim);
    }
    Ok(())
}

/// What a compiler leaves: 500 folders with 100 files each.
fn build(tree: &Path) -> anyhow::Result<()> {
    let contents = vec![b'x'; BYTES];
    for folder in 0..FILES / 100 {
        let folder = tree.join(format!("build/{folder}"));
        fs::create_dir_all(&folder)?;
        for file in 0..100 {
            fs::write(folder.join(file.to_string()), &contents)?;
        }
    }
    Ok(())
}
