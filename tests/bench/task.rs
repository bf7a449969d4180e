//! Whole tasks, from the issue to the comment on it: the release binary as a child process against the lab.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::{Lab, Script, scenario};
use serde_json::Value;
use tokio::process::Command;

use crate::figures::{Figures, Unit, milliseconds};
use crate::repository::{self, Large};

const SMALL: &str = "acme/small";
/// Of one run.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at a process's memory. The peak only grows, so only what is allocated after the last look is missed.
const LOOK: Duration = Duration::from_millis(1);

/// How a task is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By a patch in the instruction; no model is asked.
    Patch,
    /// By the agent, with a model that plays a script.
    Agent,
}

/// The wall time of tasks, and where it goes.
pub async fn measure_time(figures: &mut Figures, large: &Large) -> anyhow::Result<()> {
    const GROUP: &str = "task";
    let place = Place::new(large).await?;
    for (repository, what, aim) in
        [(SMALL, "patch mode, small repository", Some(250.0)), (repository::LARGE, "patch mode, 3,000 files", None)]
    {
        let mut tasks = Vec::new();
        for round in 0..=figures.rounds() {
            let task = place.run(repository, Kind::Patch).await?;
            if round > 0 {
                tasks.push(task);
            }
        }
        let mut add = |name: &str, unit, of: &dyn Fn(&Task) -> f64, aim| {
            figures.add(GROUP, name, unit, tasks.iter().map(of).collect(), aim);
        };
        add(&format!("{what}: the whole"), Unit::Milliseconds, &|task| task.wall, aim);
        for part in 0..tasks.first().map_or(0, |task| task.parts.len()) {
            let name = tasks[0].parts[part].0;
            add(&format!("    {name}"), Unit::Milliseconds, &|task| task.parts[part].1, None);
        }
        let name = "    (of these, `true` in the sandbox, twice)";
        add(name, Unit::Milliseconds, &|task| task.tests, None);
        add("    (requests to the REST interface)", Unit::Count, &|task| task.requests, None);
        add("    (requests of git)", Unit::Count, &|task| task.git_requests, None);
    }
    place.finish()
}

/// The peak of the main process's resident memory, without its children.
pub async fn measure_memory(figures: &mut Figures, large: &Large) -> anyhow::Result<()> {
    const GROUP: &str = "memory";
    let place = Place::new(large).await?;
    for (repository, size) in [(SMALL, "small repository"), (repository::LARGE, "3,000 files")] {
        for (kind, name) in [(Kind::Patch, "patch mode"), (Kind::Agent, "agent session")] {
            let mut peaks = Vec::new();
            for _ in 0..figures.rounds().min(7) {
                peaks.push(place.run(repository, kind).await?.peak);
            }
            figures.add(GROUP, &format!("{name}, {size}: peak"), Unit::Mebibytes, peaks, Some(40.0));
        }
    }
    place.finish()
}

/// A lab with both repositories, and the folders of an operator on a clean machine.
struct Place {
    lab: Lab,
    root: PathBuf,
    count: std::cell::Cell<u32>,
}

/// What one task took.
struct Task {
    /// From the start of the process to its end, in milliseconds.
    wall: f64,
    /// The parts that make up `wall`, in milliseconds. What the record tells is in whole ones.
    parts: Vec<(&'static str, f64)>,
    /// The test command, `true`, on base and result; part of `wall`.
    tests: f64,
    requests: f64,
    git_requests: f64,
    /// In MiB.
    peak: f64,
}

impl Place {
    async fn new(large: &Large) -> anyhow::Result<Self> {
        let lab = Lab::start().await?;
        let files = [("README.md", "# Small\n"), ("greeting.txt", "Hello\n"), ("source/main.sh", "cat greeting.txt\n")];
        lab.github.repository(SMALL).commit("Begin", &files).create().await?;
        large.install(&lab).await?;
        let root = lab.folder().join("operator");
        for folder in ["tmp", "home", "cache"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let place = Self { lab, root, count: std::cell::Cell::new(0) };
        // The mirrors are there from here on.
        for repository in [SMALL, repository::LARGE] {
            place.run(repository, Kind::Patch).await?;
        }
        Ok(place)
    }

    fn finish(&self) -> anyhow::Result<()> {
        let wire = self.lab.finish();
        anyhow::ensure!(wire.is_empty(), "{}", wire.join("\n"));
        Ok(())
    }

    /// Works one new issue to a verified pull request.
    async fn run(&self, repository: &str, kind: Kind) -> anyhow::Result<Task> {
        let number = self.count.get();
        self.count.set(number + 1);
        let github = &self.lab.github;
        let issue = github.create_issue(repository, "acme", "Say more", Some(&body(number, kind)), &["copilot-agent"]);
        let record = self.root.join(format!("record-{number}.jsonl"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command
            .args(["run", "--test-command", "true", "--sandbox", "namespace"])
            .args(["--issue", &format!("{repository}#{issue}"), "--record"])
            .arg(&record)
            .env_clear()
            .envs(scenario::environment(&self.root)?)
            .env("GITHUB_API_URL", github.api_url())
            .env("GITHUB_SERVER_URL", github.web_url())
            .env("GITHUB_TOKEN", github.token())
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let model = match kind {
            Kind::Agent => Some(self.lab.model(Script::parse(REPLIES)?).await?),
            Kind::Patch => None,
        };
        if let Some(model) = &model {
            command.env("LLM_API_ENDPOINT", model.endpoint()).env("LLM_MODEL", model.name());
        }
        let before = github.exchanges().len();
        let (status, wall, peak, errors) = run_watched(command, kind).await?;
        anyhow::ensure!(status.success(), "a task ended with {status}:\n{errors}");
        anyhow::ensure!(github.comments(repository, issue).len() == 2, "the issue was not told:\n{errors}");
        if let Some(model) = &model {
            let wrong = model.finish();
            anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
        let exchanges = github.exchanges();
        let git = exchanges[before..].iter().filter(|exchange| exchange.path.contains(".git/")).count();
        let text = std::fs::read_to_string(&record)?;
        let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        Ok(Task {
            wall,
            parts: parts(&events, wall)?,
            tests: tests(&events),
            requests: (exchanges.len() - before - git) as f64,
            git_requests: git as f64,
            peak,
        })
    }
}

/// Runs `command` to its end: its status, its wall time in milliseconds, its memory's peak in MiB, what it said.
pub async fn run_watched(mut command: Command, kind: Kind) -> anyhow::Result<(ExitStatus, f64, f64, String)> {
    let started = Instant::now();
    let child = command.spawn().context("cannot start patchwright")?;
    let pid = child.id().context("it has no process")?;
    let work = async {
        let output = child.wait_with_output().await?;
        anyhow::Ok((output, milliseconds(started.elapsed())))
    };
    let mut work = std::pin::pin!(tokio::time::timeout(LIMIT, work));
    let mut peak = 0.0f64;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            done = &mut work => {
                let (output, wall) = done.with_context(|| format!("{kind:?}: not within {} s", LIMIT.as_secs()))??;
                return Ok((output.status, wall, peak, String::from_utf8_lossy(&output.stderr).into_owned()));
            }
            _ = looks.tick() => peak = peak.max(peak_of(pid).unwrap_or(0.0)),
        }
    }
}

/// The peak of a process's resident memory, in MiB.
fn peak_of(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// Where the wall time went: the stages as the record tells, and what lies before, between and after them.
fn parts(events: &[Value], wall: f64) -> anyhow::Result<Vec<(&'static str, f64)>> {
    const STAGES: [(&str, &str); 9] = [
        ("intake", "intake: is there a pull request?"),
        ("checkout", "checkout"),
        ("setup", "setup: a look at what is needed"),
        ("baseline", "baseline"),
        ("solve", "solve, with verify"),
        ("commit", "commit"),
        ("push", "push"),
        ("pull_request", "pull request"),
        ("report", "report"),
    ];
    let (mut spans, mut told) = (vec![0.0; STAGES.len()], 0.0);
    // The stage that is running or was last, and since when.
    let (mut last, mut since) = ("", 0.0);
    for event in events {
        let stage = event["stage"].as_str().unwrap_or_default();
        let Some(number) = STAGES.iter().position(|(name, _)| *name == stage) else { continue };
        let now = event["at_milliseconds"].as_f64().context("a record without times")?;
        match (event["event"].as_str(), last, stage) {
            (Some("stage_done"), _, _) => spans[number] += now - since,
            (_, "intake", "checkout") => told = now - since,
            _ => {}
        }
        (last, since) = (stage, now);
    }
    let mut parts: Vec<_> = STAGES.iter().map(|(_, name)| *name).zip(spans).collect();
    parts.insert(1, ("comment and labels of the start", told));
    let known: f64 = parts.iter().map(|(_, time)| time).sum();
    parts.push(("start, a trial of the sandbox, end", wall - known));
    Ok(parts)
}

fn tests(events: &[Value]) -> f64 {
    let runs = events.iter().filter(|line| line["event"] == "tests");
    runs.filter_map(|line| line["run"]["milliseconds"].as_f64()).sum()
}

fn body(number: u32, kind: Kind) -> String {
    // The first part names the branch, so it differs from task to task.
    let id = format!("{number:08x}-6f0a-4a52-9d5e-1f3f5c0a7b21");
    let instruction = match kind {
        Kind::Patch => {
            "Apply this:\n\n```diff\n--- /dev/null\n+++ b/notes/more.txt\n@@ -0,0 +1,2 @@\n+One.\n+Two.\n```"
        }
        Kind::Agent => "Write the file notes/more.txt with two lines.",
    };
    format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->\n\n## Instructions\n\n{instruction}\n")
}

const REPLIES: &str = r#"
{"calls": [{"name": "plan", "arguments": {"steps": ["Look around", "Write the file", "Run the tests"]}}]}
{"calls": [{"name": "list", "arguments": {"path": "."}}]}
{"calls": [{"name": "search", "arguments": {"pattern": "more"}}]}
{"calls": [{"name": "write", "arguments": {"path": "notes/more.txt", "content": "One.\nTwo.\n"}}]}
{"calls": [{"name": "read", "arguments": {"path": "notes/more.txt"}}]}
{"calls": [{"name": "run", "arguments": {"command": "cat notes/more.txt"}}], "expect": {"tool": ["Two."]}}
{"calls": [{"name": "finish", "arguments": {"summary": "The file has two lines."}}]}
"#;
