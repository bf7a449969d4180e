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
        let mut service = place.start(workers, Hearing::Polls)?;
        place.until_done(1).await?;
        let begun = Instant::now();
        place.dispatch(tasks);
        place.until_done(1 + tasks).await?;
        let seconds = begun.elapsed().as_secs_f64();
        service.stop().await?;
        place.check()?;
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

/// How long webhooks wait for their answer and for their task: one at a time, and at 200 a second of which one in forty
/// is a task, so that there is always a free worker; and with a burst of tasks, which queue up behind the workers.
pub async fn measure_webhooks(figures: &mut Figures) -> anyhow::Result<()> {
    const GROUP: &str = "webhooks";
    const RATE: u32 = 200;
    const TASK_EACH: u32 = 40;
    const SECONDS: u32 = 20;
    let mut place = Place::new().await?;
    place.dispatch(1);
    let mut service = place.start(8, Hearing::Webhooks)?;
    place.until_done(1).await?;
    let mut sent = Vec::new();
    for _ in 0..40 {
        sent.push((place.dispatch_one(), now()));
        place.until_done(place.count).await?;
    }
    let claimed = place.waited(&sent, "started_at").await?;
    figures.add(GROUP, "webhook to claimed, one at a time: p99", Unit::Milliseconds, vec![p99(&claimed)], Some(50.0));
    sent.clear();
    let bystander = place.lab.github.create_issue(DISPATCH, lab::github::BOT, "Not a task", Some("Talk."), &[]);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
    for tick in 0..RATE * SECONDS {
        pace.tick().await;
        if tick % TASK_EACH == 0 {
            sent.push((place.dispatch_one(), now()));
        } else {
            let text = format!("Talk number {tick}.");
            place.lab.github.edit_issue(DISPATCH, bystander, lab::github::BOT, &text);
        }
    }
    place.until_done(place.count).await?;
    let claimed = place.waited(&sent, "started_at").await?;
    figures.add(GROUP, "webhook to claimed, 200 a second: p99", Unit::Milliseconds, vec![p99(&claimed)], Some(50.0));
    sent.clear();
    // 200 tasks a second for three seconds: more than can be worked, so what counts is when they stand in the queue.
    for _ in 0..600 {
        pace.tick().await;
        sent.push((place.dispatch_one(), now()));
    }
    place.until_done(place.count).await?;
    let queued = place.waited(&sent, "admitted_at").await?;
    let name = "600 tasks in three seconds, webhook to queued: p99";
    figures.add(GROUP, name, Unit::Milliseconds, vec![p99(&queued)], None);
    let deliveries = place.lab.github.deliveries();
    let answered: Vec<f64> = deliveries.iter().filter_map(|one| one.answered_in).map(milliseconds).collect();
    figures.add(GROUP, "answer to a webhook: median", Unit::Milliseconds, answered.clone(), Some(10.0));
    figures.add(GROUP, "answer to a webhook: p99", Unit::Milliseconds, vec![p99(&answered)], None);
    let lost = deliveries.iter().filter(|delivery| delivery.status != Some(202)).count();
    figures.add(GROUP, "webhooks not taken in", Unit::Count, vec![lost as f64], Some(0.0));
    service.stop().await?;
    place.check()
}

/// Memory, descriptors and counted requests of a service that has nothing to do, and has had much to do.
pub async fn measure_idle(figures: &mut Figures, finished: u32) -> anyhow::Result<()> {
    const GROUP: &str = "idle";
    let mut place = Place::new().await?;
    // Each worker has been at work.
    place.dispatch(20);
    let mut service = place.start(8, Hearing::Polls)?;
    place.until_done(20).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = service.look()?;
    figures.add(GROUP, "memory after the first 20 tasks", Unit::Mebibytes, vec![first.memory], Some(25.0));
    let before = place.lab.github.counts();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = place.lab.github.counts();
    let counted = (after.counted - before.counted) as f64;
    figures.add(GROUP, "requests that GitHub counts, while nothing is new", Unit::Count, vec![counted], Some(0.0));
    let unchanged = (after.unchanged - before.unchanged) as f64;
    figures.add(GROUP, "requests that it does not count, meanwhile", Unit::Count, vec![unchanged], None);
    place.work(finished, Duration::MAX).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let last = service.look()?;
    let name = format!("memory after {finished} more tasks");
    figures.add(GROUP, &name, Unit::Mebibytes, vec![last.memory], Some(25.0));
    let name = format!("file descriptors, more after {finished} tasks");
    figures.add(GROUP, &name, Unit::Count, vec![last.descriptors - first.descriptors], None);
    service.stop().await?;
    place.check()
}

/// What very many polls leave behind: a hundred dispatch repositories, each looked at once a second.
pub async fn measure_polls(figures: &mut Figures, polls: usize) -> anyhow::Result<()> {
    const GROUP: &str = "polls";
    let mut place = Place::new().await?;
    for number in 0..100 {
        let name = format!("acme/dispatch-{number}");
        place.lab.github.repository(&name).commit("Begin", &[("README.md", "# Tasks\n")]).create().await?;
        place.watched.push(name);
    }
    let mut service = place.start(8, Hearing::Polls)?;
    let mut looks = Vec::new();
    // Two requests a poll: issues and comments.
    for part in 1..=10 {
        let enough = polls * 2 * part / 10;
        let done = |github: &lab::GitHub| github.counts().unchanged >= enough;
        place.until(done).await?;
        looks.push(service.look()?);
    }
    let counted = place.lab.github.counts().counted as f64;
    figures.add(GROUP, "polls", Unit::Count, vec![polls as f64], None);
    figures.add(GROUP, "requests that GitHub counted, of 202 first ones", Unit::Count, vec![counted], Some(210.0));
    figures.add(GROUP, "memory", Unit::Mebibytes, looks.iter().map(|look| look.memory).collect(), Some(25.0));
    let growth = looks[9].memory - looks[1].memory;
    figures.add(GROUP, "memory, more after the second tenth", Unit::Mebibytes, vec![growth], Some(1.0));
    let growth = looks[9].descriptors - looks[1].descriptors;
    figures.add(GROUP, "file descriptors, more after the second tenth", Unit::Count, vec![growth], Some(0.0));
    service.stop().await?;
    place.check()
}

/// Reading in a dispatch repository that has very many open tasks, while none may begin.
pub async fn measure_backlog(figures: &mut Figures, open: u32) -> anyhow::Result<()> {
    const GROUP: &str = "backlog";
    let mut place = Place::new().await?;
    place.dispatch(open);
    place.more_config = "[service]\nfree_mib = 1000000000\n".into();
    let begun = Instant::now();
    let mut service = place.start(8, Hearing::Polls)?;
    while place.rows().await?.len() < open as usize {
        anyhow::ensure!(begun.elapsed() < LIMIT, "the backlog was not read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed();
    let counted = place.lab.github.counts().counted as f64;
    let name = format!("{open} open tasks: read");
    figures.add(GROUP, &name, Unit::Milliseconds, vec![milliseconds(seconds)], None);
    let pages = f64::from(open.div_ceil(100));
    figures.add(GROUP, "requests that GitHub counted", Unit::Count, vec![counted], Some(pages + 5.0));
    figures.add(GROUP, "memory", Unit::Mebibytes, vec![service.look()?.memory], None);
    service.stop().await?;
    place.check_wire()
}

/// Minutes of work without a pause: memory, descriptors and the store, minute by minute.
pub async fn soak(figures: &mut Figures, minutes: u32) -> anyhow::Result<()> {
    const GROUP: &str = "soak";
    let mut place = Place::new().await?;
    let mut service = place.start(8, Hearing::Polls)?;
    let begun = Instant::now();
    let (mut looks, mut stores, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..minutes {
        let (minute, before) = (Instant::now(), place.count);
        place.work(u32::MAX, Duration::from_secs(60)).await?;
        rates.push(f64::from(place.count - before) / minute.elapsed().as_secs_f64());
        looks.push(service.look()?);
        stores.push(place.store_size()? / 1024.0 / f64::from(place.count));
    }
    let tasks = f64::from(place.count);
    figures.add(GROUP, "tasks", Unit::Count, vec![tasks], None);
    figures.add_ratio(GROUP, "tasks a second", tasks / begun.elapsed().as_secs_f64(), Aim::None);
    figures.add(GROUP, "tasks a second, minute by minute", Unit::Count, rates, None);
    figures.add(GROUP, "memory", Unit::Mebibytes, looks.iter().map(|look| look.memory).collect(), None);
    let half = looks.len() / 2;
    let median = |part: &[Look]| crate::figures::median(&part.iter().map(|look| look.memory).collect::<Vec<_>>());
    let growth = median(&looks[half..]) - median(&looks[..half]);
    figures.add(GROUP, "memory, more in the second half", Unit::Mebibytes, vec![growth], Some(2.0));
    figures.add(GROUP, "file descriptors", Unit::Count, looks.iter().map(|look| look.descriptors).collect(), None);
    figures.add(GROUP, "the store, KiB a task, minute by minute", Unit::Count, stores, None);
    service.stop().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pruned = place.command(&["tasks", "prune", "--older-than", "1s"])?.output().await?;
    anyhow::ensure!(pruned.status.success(), "{}", String::from_utf8_lossy(&pruned.stderr));
    figures.add(GROUP, "the store after `tasks prune`, KiB", Unit::Count, vec![place.store_size()? / 1024.0], None);
    place.check()
}

/// A lab with a dispatch repository and a target, and the folders of an operator.
struct Place {
    lab: Lab,
    root: PathBuf,
    /// Tasks dispatched so far.
    count: u32,
    /// Of those, the ones whose issues were closed when they were done.
    closed: u32,
    /// Dispatch repositories, the first one with the tasks.
    watched: Vec<String>,
    more_config: String,
    /// Where the service listens, once it runs.
    port: u16,
}

/// How the service hears of issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Webhooks,
    Polls,
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
        // What is measured here is not what the forge allows in an hour.
        lab.github.set_limit(lab.github.token(), 100_000_000, 86_400);
        let root = lab.folder().join("operator");
        for folder in ["tmp", "home", "cache", "config/patchwright"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { lab, root, count: 0, closed: 0, watched: vec![DISPATCH.into()], more_config: String::new(), port })
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let config = format!(
            "{}\n[github]\nwrite_spacing_ms = 0\n[sandbox]\nbackend = \"namespace\"\n\
             [repositories.\"{TARGET}\"]\ntest_command = \"true\"\n",
            self.more_config
        );
        Ok(std::fs::write(self.root.join("config/patchwright/patchwright.toml"), config)?)
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
            .env("DISPATCH_REPO", self.watched.join(","))
            .env("TARGET_REPO", TARGET)
            .env("PATCHWRIGHT_LISTEN", format!("127.0.0.1:{}", self.port))
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts the service, which hears of issues in one way alone.
    fn start(&self, workers: u32, hearing: Hearing) -> anyhow::Result<Service> {
        self.write_config()?;
        let log = std::fs::File::create(self.root.join("service.log"))?;
        let mut command = self.command(&["serve"])?;
        let webhooks = hearing == Hearing::Webhooks;
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

    /// Makes one issue with a patch; its task id.
    fn dispatch_one(&mut self) -> String {
        self.dispatch(1).pop().unwrap_or_default()
    }

    /// Dispatches `tasks`, or as many as are worked in `time`, so that there are always some that wait; the issues are
    /// closed when they are done, as people do. Waits for the last one.
    async fn work(&mut self, tasks: u32, time: Duration) -> anyhow::Result<()> {
        let (begun, last) = (Instant::now(), self.count.saturating_add(tasks));
        while self.count < last && begun.elapsed() < time {
            self.close_done()?;
            let waiting = self.count - self.closed;
            self.dispatch(40_u32.saturating_sub(waiting).min(last - self.count));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.until_done(self.count).await?;
        self.close_done()
    }

    /// Closes the open issues that are told of, and deletes their branches, as a forge does when it merges: a push
    /// reads all branches that there are.
    fn close_done(&mut self) -> anyhow::Result<()> {
        let github = &self.lab.github;
        let done = |repository: &lab::github::Repository| -> Vec<(u64, String)> {
            let issues = repository.issues.values().filter(|issue| issue.open && is_told(issue));
            issues.map(|issue| (issue.number, issue.title.clone())).collect()
        };
        let done = github.look(DISPATCH, done).unwrap_or_default();
        let target = github.look(TARGET, |repository| repository.path.clone()).context("there is no target")?;
        for (number, title) in &done {
            github.close_issue(DISPATCH, *number, lab::github::BOT);
            let count: u32 = title.trim_start_matches("Note ").parse()?;
            let branch = target.join(format!("refs/heads/agent-task-{count:08x}"));
            std::fs::remove_file(&branch).with_context(|| format!("there is no {}", branch.display()))?;
        }
        self.closed += u32::try_from(done.len()).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Waits until so many pull requests are open and told of.
    async fn until_done(&self, tasks: u32) -> anyhow::Result<()> {
        let told = |repository: &lab::github::Repository| repository.issues.values().filter(|one| is_told(one)).count();
        self.until(|github| github.look(DISPATCH, told).is_some_and(|told| told >= tasks as usize)).await
    }

    /// Waits, and looks every few milliseconds: looking after each request would slow down what is measured.
    async fn until(&self, done: impl Fn(&lab::GitHub) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !done(&self.lab.github) {
            if begun.elapsed() > LIMIT {
                let log = std::fs::read_to_string(self.root.join("service.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                anyhow::bail!("not within {} s; the service said:\n{}", LIMIT.as_secs(), tail.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Milliseconds from the sending of each task to a moment of its row.
    async fn waited(&self, sent: &[(String, f64)], moment: &str) -> anyhow::Result<Vec<f64>> {
        let rows = self.rows().await?;
        let row = |id: &String| rows.iter().find(|row| row["id"] == id.as_str()).context("a webhook got lost");
        sent.iter().map(|(id, at)| Ok(row(id)?[moment].as_f64().context("it never came to that")? - at)).collect()
    }

    async fn rows(&self) -> anyhow::Result<Vec<Value>> {
        let output = self.command(&["tasks", "list", "--json", "--limit", "0"])?.output().await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
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
    fn check(&self) -> anyhow::Result<()> {
        let pulls = self.lab.github.pulls(TARGET).len();
        anyhow::ensure!(pulls == self.count as usize, "{pulls} pull requests for {} tasks", self.count);
        self.check_wire()
    }

    fn check_wire(&self) -> anyhow::Result<()> {
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

/// Whether an issue says that its task was done.
fn is_told(issue: &lab::github::Issue) -> bool {
    issue.labels.iter().any(|label| label == "processed")
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
