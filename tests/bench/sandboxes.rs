//! What a sandbox costs: to find, to open, and for each command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use patchwright::sandbox::level::Level;
use patchwright::sandbox::{
    Backend, Choice, Command, Ending, EngineFiles, Limits, SandboxError, Settings, Surroundings,
};

use crate::figures::{Figures, Unit, milliseconds};

const GROUP: &str = "sandbox";
/// Commands are short, so there are more of them.
const COMMANDS_PER_ROUND: u32 = 4;

/// Runs `true` in both kinds of sandbox, and in a container that the files are sent to.
pub async fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let mut remote = settings(Choice::Container);
    remote.engine.files = EngineFiles::Sent;
    for (settings, kind, name, aim) in [
        (settings(Choice::Namespace), "namespace", "namespace: the whole of running `true`", Some(30.0)),
        (settings(Choice::Container), "container", "container: exec of `true`", Some(80.0)),
        (remote, "container, remote", "container, remote: exec of `true`, with the comparison of its files", None),
    ] {
        match Backend::probe(&settings).await {
            Ok(backend) => measure_one(figures, &settings, kind, (name, aim), &backend).await?,
            Err(SandboxError::Unavailable { reason, .. }) if settings.choice == Choice::Container => {
                let reason = if reason.contains("no container engine answers") { "no engine" } else { &reason };
                figures.leave_out(GROUP, name, reason, aim);
            }
            Err(error) => figures.leave_out(GROUP, name, &error.to_string(), aim),
        }
    }
    Ok(())
}

async fn measure_one(
    figures: &mut Figures,
    settings: &Settings,
    kind: &str,
    (name, aim): (&str, Option<f64>),
    backend: &Backend,
) -> anyhow::Result<()> {
    let tree = tempfile::tempdir()?;
    let (mut probes, mut opens, mut runs, mut closes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=figures.rounds() {
        let started = Instant::now();
        Backend::probe(settings).await?;
        let probe = milliseconds(started.elapsed());
        let started = Instant::now();
        let sandbox = backend.open(&Surroundings::of(tree.path())).await?;
        let open = milliseconds(started.elapsed());
        for _ in 0..COMMANDS_PER_ROUND {
            let started = Instant::now();
            let output = sandbox.run(&command()).await?;
            let run = milliseconds(started.elapsed());
            anyhow::ensure!(output.ending == Ending::Exited(0), "`true` ended with {:?}", output.ending);
            if round > 0 {
                runs.push(run);
            }
        }
        let started = Instant::now();
        sandbox.close().await?;
        let close = milliseconds(started.elapsed());
        if round > 0 {
            probes.push(probe);
            opens.push(open);
            closes.push(close);
        }
    }
    figures.add(GROUP, name, Unit::Milliseconds, runs, aim);
    for (what, samples) in [("finding and trying it, once a process", probes), ("open", opens), ("close", closes)] {
        figures.add(GROUP, &format!("{kind}: {what}"), Unit::Milliseconds, samples, None);
    }
    Ok(())
}

pub fn command() -> Command {
    Command {
        line: "true".into(),
        directory: PathBuf::new(),
        environment: BTreeMap::new(),
        timeout: Duration::from_secs(60),
    }
}

pub fn settings(choice: Choice) -> Settings {
    Settings {
        choice,
        limits: Limits {
            memory_bytes: 2 << 30,
            processes: 512,
            file_size_bytes: 1 << 30,
            disk_bytes: 8 << 30,
            disk_files: 1_000_000,
            output_bytes: 64 << 10,
        },
        image: Some(std::env::var("PATCHWRIGHT_TEST_IMAGE").unwrap_or_else(|_| "patchwright-test:latest".into())),
        helper: Path::new(env!("CARGO_BIN_EXE_patchwright")).to_owned(),
        path: std::env::var_os("PATH"),
        home: std::env::var_os("HOME").map(PathBuf::from),
        tool_homes: BTreeMap::new(),
        docker_host: std::env::var("PATCHWRIGHT_TEST_DOCKER_HOST").ok(),
        engine: Default::default(),
        runtime: None,
        minimum_level: Level::Confined,
        sources: Default::default(),
        owner: "patchwright-bench".into(),
    }
}
