//! The service: throughput, webhooks, idling, and a soak. The release binary as a child process against the lab.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::{Lab, scenario};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::figures::{Aim, Figures, Unit, milliseconds};

const DISPATCH: &str = "acme/dispatch";
const TARGET: &str = "acme/small";
const SECRET: &str = "the bench's own webhook secret";
/// Of one phase.
const LIMIT: Duration = Duration::from_secs(600);

/// Seconds a task one at a time, and tasks a second with eight workers.
pub async fn measure_throughput(figures: &mut Figures) -> anyhow::Result<()> {
    const GROUP: &str = "service";
    let mut rates = Vec::new();
    for (workers, tasks) in [(1, 40), (8, 200)] {
        let mut place = Place::new().await?;
        // The mirror is there from here on.
        place.dispatch(1);
        let mut service = place.start(workers, false)?;
        place.until_done(1).await?;
        let begun = Instant::now();
        place.dispatch(tasks);
        place.until_done(1 + tasks).await?;
        let seconds = begun.elapsed().as_secs_f64();
        service.stop().await?;
        place.check(1 + tasks)?;
        match workers {
            1 => {
                let each = seconds * 1e3 / f64::from(tasks);
                figures.add(GROUP, "a task, one at a time", Unit::Milliseconds, vec![each], Some(250.0));
            }
            _ => rates.push(f64::from(tasks) / seconds),
        }
    }
    let rate = rates.first().copied().unwrap_or_default();
    figures.add_ratio(GROUP, "tasks a second, 8 workers", rate, Aim::AtLeast(10.0));
    Ok(())
}

/// How long webhooks wait for their answer and for their task, at 200 a second; and one at a time until it is claimed.
pub async fn measure_webhooks(figures: &mut Figures) -> anyhow::Result<()> {
    const GROUP: &str = "webhooks";
    let mut place = Place::new().await?;
    place.dispatch(1);
    let mut service = place.start(8, true)?;
    place.until_done(1).await?;
    // One at a time: a free worker claims at once.
    let mut claimed = Vec::new();
    for done in 0..40 {
        let sent = now();
        let id = place.dispatch(1).pop().context("no task")?;
        place.until_done(2 + done).await?;
        let row = place.row(&id).await?;
        claimed.push(row["started_at"].as_f64().context("it was never claimed")? - sent);
    }
    figures.add(GROUP, "webhook to claimed, one at a time: p99", Unit::Milliseconds, vec![p99(&claimed)], Some(50.0));
    // 200 a second for three seconds: they queue up behind the workers, so what counts is when they can be claimed.
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let mut sent = Vec::new();
    for _ in 0..600 {
        pace.tick().await;
        let at = now();
        sent.push((place.dispatch(1).pop().context("no task")?, at));
    }
    place.until_done(41 + 600).await?;
    let rows = place.rows().await?;
    let mut admitted = Vec::new();
    for (id, at) in &sent {
        let row = rows.iter().find(|row| row["id"] == id.as_str()).context("a webhook got lost")?;
        admitted.push(row["admitted_at"].as_f64().context("it was never taken in")? - at);
    }
    let name = "webhook to queued, 200 a second: p99";
    figures.add(GROUP, name, Unit::Milliseconds, vec![p99(&admitted)], Some(50.0));
    let lost = place.lab.github.deliveries().iter().filter(|delivery| delivery.status != Some(202)).count();
    figures.add(GROUP, "webhooks not taken in", Unit::Count, vec![lost as f64], Some(0.0));
    service.stop().await?;
    place.check(41 + 600)
}

/// Memory, descriptors and counted requests of a service that has nothing to do, and has had much to do.
pub async fn measure_idle(figures: &mut Figures, finished: u32) -> anyhow::Result<()> {
    const GROUP: &str = "idle";
    let mut place = Place::new().await?;
    place.dispatch(1);
    let mut service = place.start(8, false)?;
    place.until_done(1).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = service.look()?;
    figures.add(GROUP, "memory after the first task", Unit::Mebibytes, vec![first.memory], Some(25.0));
    let before = place.lab.github.token_state(place.lab.github.token()).context("no token")?.used;
    let polls = place.lab.github.exchanges().len();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let used = place.lab.github.token_state(place.lab.github.token()).context("no token")?.used - before;
    let polls = place.lab.github.exchanges().len() - polls;
    figures.add(GROUP, "requests that GitHub counts, while nothing is new", Unit::Count, vec![used as f64], Some(0.0));
    figures.add(GROUP, "requests that it does not count, meanwhile", Unit::Count, vec![polls as f64], None);
    place.dispatch(finished);
    place.until_done(1 + finished).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let last = service.look()?;
    let name = format!("memory after {finished} more tasks");
    figures.add(GROUP, &name, Unit::Mebibytes, vec![last.memory], Some(25.0));
    let name = format!("file descriptors, more after {finished} tasks");
    figures.add(GROUP, &name, Unit::Count, vec![last.descriptors - first.descriptors], Some(4.0));
    let size = place.store_size()?;
    figures.add(GROUP, "the store, KiB a task", Unit::Count, vec![size / 1024.0 / f64::from(1 + finished)], None);
    service.stop().await?;
    place.check(1 + finished)
}

/// Ten minutes of work without a pause: memory and descriptors, minute by minute.
pub async fn soak(figures: &mut Figures, minutes: u32) -> anyhow::Result<()> {
    const GROUP: &str = "soak";
    let mut place = Place::new().await?;
    let mut service = place.start(8, false)?;
    let end = Instant::now() + Duration::from_secs(60) * minutes;
    let (mut looks, mut tasks, mut looked) = (Vec::new(), 0, Instant::now());
    while Instant::now() < end {
        place.dispatch(50);
        tasks += 50;
        place.until_done(tasks).await?;
        if looked.elapsed() >= Duration::from_secs(60) {
            looks.push(service.look()?);
            looked = Instant::now();
        }
    }
    anyhow::ensure!(looks.len() >= 2, "a soak takes at least two minutes");
    figures.add(GROUP, "tasks", Unit::Count, vec![f64::from(tasks)], None);
    figures.add(GROUP, "memory", Unit::Mebibytes, looks.iter().map(|look| look.memory).collect(), None);
    let half = looks.len() / 2;
    let median = |part: &[Look]| crate::figures::median(&part.iter().map(|look| look.memory).collect::<Vec<_>>());
    let growth = median(&looks[half..]) - median(&looks[..half]);
    figures.add(GROUP, "memory, more in the second half", Unit::Mebibytes, vec![growth], Some(2.0));
    figures.add(GROUP, "file descriptors", Unit::Count, looks.iter().map(|look| look.descriptors).collect(), None);
    figures.add(
        GROUP,
        "the store, KiB a task",
        Unit::Count,
        vec![place.store_size()? / 1024.0 / f64::from(tasks)],
        None,
    );
    service.stop().await?;
    place.check(tasks)
}

/// A lab with a dispatch repository and a target, and the folders of an operator.
struct Place {
    lab: Lab,
    root: PathBuf,
    count: u32,
    /// Where the service listens, once it runs.
    port: u16,
}

/// The running service.
struct Service {
    child: Child,
    process: u32,
}

/// What the service holds at a moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Resident, in MiB.
    memory: f64,
    descriptors: f64,
}

impl Place {
    async fn new() -> anyhow::Result<Self> {
        let lab = Lab::start().await?;
        lab.github.repository(DISPATCH).commit("Begin", &[("README.md", "# Tasks\n")]).create().await?;
        let files = [("README.md", "# Small\n"), ("greeting.txt", "Hello\n")];
        lab.github.repository(TARGET).commit("Begin", &files).create().await?;
        let root = lab.folder().join("operator");
        for folder in ["tmp", "home", "cache", "config/patchwright"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let config = format!(
            "[github]\nwrite_spacing_ms = 0\n[sandbox]\nbackend = \"namespace\"\n\
             [repositories.\"{TARGET}\"]\ntest_command = \"true\"\n"
        );
        std::fs::write(root.join("config/patchwright/patchwright.toml"), config)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { lab, root, count: 0, port })
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let github = &self.lab.github;
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command
            .args(arguments)
            .env_clear()
            .envs(scenario::environment(&self.root)?)
            .env("XDG_CONFIG_HOME", self.root.join("config"))
            .env("PATCHWRIGHT_STATE_DIR", self.root.join("state"))
            .env("GITHUB_API_URL", github.api_url())
            .env("GITHUB_SERVER_URL", github.web_url())
            .env("GITHUB_TOKEN", github.token())
            .env("DISPATCH_REPO", DISPATCH)
            .env("TARGET_REPO", TARGET)
            .env("PATCHWRIGHT_LISTEN", format!("127.0.0.1:{}", self.port))
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts the service, which hears of issues by webhooks alone or by polling alone.
    fn start(&self, workers: u32, webhooks: bool) -> anyhow::Result<Service> {
        let log = std::fs::File::create(self.root.join("service.log"))?;
        let mut command = self.command(&["serve"])?;
        command
            .env("MAX_CONCURRENT_TASKS", workers.to_string())
            .env("POLL_INTERVAL_SECONDS", if webhooks { "3600" } else { "1" })
            .stdout(log.try_clone()?)
            .stderr(log);
        if webhooks {
            command.env("GITHUB_WEBHOOK_SECRET", SECRET);
            self.lab.github.add_webhook(&format!("http://127.0.0.1:{}/webhook", self.port), SECRET, &["issues"]);
        }
        let child = command.spawn().context("cannot start patchwright")?;
        let process = child.id().context("it has no process")?;
        Ok(Service { child, process })
    }

    /// Makes `number` issues, each with a patch of its own; their task ids.
    fn dispatch(&mut self, number: u32) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..number {
            self.count += 1;
            let count = self.count;
            let id = format!("{count:08x}-6f0a-4a52-9d5e-{count:012x}");
            let body = format!(
                "<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->\n\n## Instructions\n\nApply this:\n\n```diff\n\
                 --- /dev/null\n+++ b/notes/{count}.txt\n@@ -0,0 +1 @@\n+One.\n```\n"
            );
            let title = format!("Note {count}");
            self.lab.github.create_issue(DISPATCH, lab::github::BOT, &title, Some(&body), &["copilot-agent"]);
            ids.push(id);
        }
        ids
    }

    /// Waits until so many pull requests are open and told of.
    async fn until_done(&self, tasks: u32) -> anyhow::Result<()> {
        let told = |github: &lab::GitHub| {
            let repository = github.repository_state(DISPATCH);
            let issues = repository.iter().flat_map(|repository| repository.issues.values());
            issues.filter(|issue| issue.labels.iter().any(|label| label == "processed")).count() >= tasks as usize
        };
        self.lab.github.until(LIMIT, told).await.with_context(|| {
            let log = std::fs::read_to_string(self.root.join("service.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            format!("{tasks} tasks were not done; the service said:\n{}", tail.join("\n"))
        })
    }

    async fn rows(&self) -> anyhow::Result<Vec<Value>> {
        let output = self.command(&["tasks", "list", "--json", "--limit", "0"])?.output().await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    async fn row(&self, id: &str) -> anyhow::Result<Value> {
        self.rows().await?.into_iter().find(|row| row["id"] == id).context("the queue does not know a task")
    }

    /// Bytes of the database with its log.
    fn store_size(&self) -> anyhow::Result<f64> {
        let mut size = 0;
        for entry in std::fs::read_dir(self.root.join("state"))? {
            size += entry?.metadata()?.len();
        }
        Ok(size as f64)
    }

    /// One pull request for each task, and nothing wrong on the wire.
    fn check(&self, tasks: u32) -> anyhow::Result<()> {
        let pulls = self.lab.github.pulls(TARGET).len();
        anyhow::ensure!(pulls == tasks as usize, "{pulls} pull requests for {tasks} tasks");
        let unexpected = |text: &String| !text.starts_with("nobody read the comment");
        let wire: Vec<String> = self.lab.finish().into_iter().filter(unexpected).collect();
        anyhow::ensure!(wire.is_empty(), "{}", wire.join("\n"));
        Ok(())
    }
}

impl Service {
    fn look(&self) -> anyhow::Result<Look> {
        let process = Path::new("/proc").join(self.process.to_string());
        let status = std::fs::read_to_string(process.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory is told")?;
        let memory = line.trim().strip_suffix(" kB").context("not in kB")?.parse::<f64>()? / 1024.0;
        let descriptors = std::fs::read_dir(process.join("fd"))?.count() as f64;
        Ok(Look { memory, descriptors })
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let process = rustix::process::Pid::from_raw(i32::try_from(self.process)?).context("no process")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await??;
        anyhow::ensure!(status.success(), "after SIGTERM the service ended with {status}");
        Ok(())
    }
}

/// Milliseconds since 1970.
fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    milliseconds(now)
}

fn p99(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
