//! A dispatch repository, a target, and the service between them, to be killed and started again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lab::Lab;
use serde_json::Value;

use crate::cli::harness::{Place, kill};

pub const DISPATCH: &str = "acme/dispatch";
pub const TARGET: &str = "acme/small";
/// The service starts, works a task or stops within this time.
const LONGEST: Duration = Duration::from_secs(90);

/// A lab's GitHub, the folders of an operator, and what was dispatched so far.
pub struct Station {
    pub lab: Lab,
    pub place: Place,
    /// Issue numbers by task id.
    pub tasks: BTreeMap<String, u64>,
}

/// A running service. Dropping it kills it.
pub struct Service {
    child: Child,
}

/// What is left of one task, wherever it can be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    pub pull_requests: usize,
    pub started_comments: usize,
    pub finished_comments: usize,
    pub other_comments: usize,
    pub labels: Vec<String>,
    /// Pushes to the task's branch that GitHub took.
    pub branches: usize,
    pub state: String,
}

impl Station {
    /// A dispatch repository and a target whose test command is `true`. `settings` is added to the operator's config.
    pub async fn new(settings: &str) -> Self {
        let lab = Lab::start().await.unwrap();
        lab.github.repository(DISPATCH).commit("Begin", &[("README.md", "# Tasks\n")]).create().await.unwrap();
        let files = [("README.md", "# Small\n"), ("greeting.txt", "Hello\n")];
        lab.github.repository(TARGET).commit("Begin", &files).create().await.unwrap();
        let mut place = Place::at(&lab);
        place.set("DISPATCH_REPO", DISPATCH);
        place.set("TARGET_REPO", TARGET);
        place.set("POLL_INTERVAL_SECONDS", "1");
        place.set("RETRY_DELAY_SECONDS", "1");
        place.set("PATCHWRIGHT_LISTEN", "127.0.0.1:0");
        place.set("XDG_STATE_HOME", place.path("state"));
        place.set("XDG_CONFIG_HOME", place.path("config"));
        place.write(
            "config/patchwright/patchwright.toml",
            &format!(
                "{settings}\n[github]\nwrite_spacing_ms = 0\n[sandbox]\nbackend = \"namespace\"\n\
                 [repositories.\"{TARGET}\"]\ntest_command = \"true\"\n"
            ),
        );
        Self { lab, place, tasks: BTreeMap::new() }
    }

    /// Dispatches a task in the backend's format whose patch adds a file of its own; its id.
    pub fn dispatch(&mut self) -> String {
        let number = self.tasks.len() + 1;
        self.dispatch_text(&format!(
            "Add a note.\n\n```diff\n--- /dev/null\n+++ b/notes/{number}.txt\n@@ -0,0 +1 @@\n+Note {number}\n```"
        ))
    }

    /// Dispatches a task for the model, which is to write `notes/N.txt`.
    pub fn dispatch_to_model(&mut self) -> String {
        let number = self.tasks.len() + 1;
        self.dispatch_text(&format!("Write `Note {number}` into notes/{number}.txt."))
    }

    fn dispatch_text(&mut self, instruction: &str) -> String {
        let number = self.tasks.len() + 1;
        // The first eight characters, which branches are named by, differ.
        let id = format!("{number:08x}-0000-4000-8000-{number:012x}");
        let body = format!(
            "# Agent Task Delegation\n\n**Task ID:** `{id}`\n**User ID:** `user-1`\n\n## Instructions\n\n{instruction}\n\n\
             ---\n\n<!-- agent_task_metadata\n{{\"task_id\": \"{id}\", \"user_id\": \"user-1\", \"provider\": \
             \"github_issue_dispatch\"}}\n-->"
        );
        let title = format!("Add note {number}");
        let issue = self.lab.github.create_issue(DISPATCH, lab::github::BOT, &title, Some(&body), &["copilot-agent"]);
        assert_ne!(issue, 0, "the lab made no issue");
        self.tasks.insert(id.clone(), issue);
        id
    }

    /// Starts the service; `environment` is added to the operator's. What it says goes to `service.log` in the place.
    pub fn start(&self, environment: &[(&str, &str)]) -> Service {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.place.path("service.log")).unwrap();
        let mut command: Command = self.place.command(&["serve"]);
        command.envs(environment.iter().copied()).stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        Service { child: command.spawn().unwrap() }
    }

    /// What the service said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("service.log")).unwrap_or_default()
    }

    /// Waits until the service has come so far `times` that it heeds signals.
    pub async fn until_it_watches(&self, times: usize, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        while self.log().matches("patchwright::service: watching ").count() < times {
            if begun.elapsed() > limit {
                return Err("the service does not start".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The tasks as the queue has them, by id.
    pub fn queue(&self) -> BTreeMap<String, Value> {
        let listed = self.place.run(&["tasks", "list", "--json", "--limit", "0"]);
        assert_eq!(listed.code, Some(0), "{listed:#?}");
        let rows: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
        rows.into_iter().map(|row| (row["id"].as_str().unwrap_or_default().to_owned(), row)).collect()
    }

    /// Waits until each dispatched task has the label of an end and `agent-running` is gone.
    pub async fn until_all_ended(&self, limit: Duration) -> Result<(), String> {
        let ended = |github: &lab::GitHub| {
            self.tasks.values().all(|number| {
                github.issue(DISPATCH, *number).is_some_and(|issue| {
                    let has = |name: &str| issue.labels.iter().any(|label| label == name);
                    (has("processed") || has("agent-failed")) && !has("agent-running")
                })
            })
        };
        self.lab.github.until(limit, ended).await.map_err(|error| format!("not every task ended: {error}"))
    }

    /// Waits until the queue holds no task that is still to be worked or told of.
    pub async fn until_queue_is_done(&self, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let queue = self.queue();
            let open = queue
                .values()
                .filter(|row| matches!(row["state"].as_str(), Some("queued" | "running")) || row["report_due"] == true);
            match open.count() {
                0 if queue.len() >= self.tasks.len() => return Ok(()),
                open if begun.elapsed() > limit => return Err(format!("{open} tasks are still open")),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// What is left of a task on the forge and in the queue.
    pub fn traces(&self, id: &str, queue: &BTreeMap<String, Value>) -> Traces {
        let marker = format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->");
        let of_task = |body: &Option<String>| body.as_deref().is_some_and(|body| body.starts_with(&marker));
        let pulls = self.lab.github.pulls(TARGET);
        let number = self.tasks[id];
        let comments = self.lab.github.comments(DISPATCH, number);
        let count = |part: &str| comments.iter().filter(|comment| comment.body.contains(part)).count();
        let (started, finished) =
            (count("started processing"), count("completed processing") + count("Task processing failed"));
        let mut labels = self.lab.github.issue(DISPATCH, number).map(|issue| issue.labels).unwrap_or_default();
        labels.sort();
        let branch = format!("refs/heads/agent-task-{}", &id[..8]);
        let repository = self.lab.github.repository_state(TARGET).unwrap();
        let folder = repository.path.clone();
        let found = crate::cli::harness::git(&folder, &["for-each-ref", "--format=%(refname)"], b"");
        let found = String::from_utf8(found).unwrap();
        Traces {
            pull_requests: pulls.iter().filter(|pull| of_task(&pull.body)).count(),
            started_comments: started,
            finished_comments: finished,
            other_comments: comments.len() - started - finished,
            labels,
            branches: found.lines().filter(|name| name.starts_with(&branch) || name.contains(id)).count(),
            state: queue.get(id).and_then(|row| row["state"].as_str()).unwrap_or("missing").to_owned(),
        }
    }

    /// Complaints about a task that was to be completed with one pull request.
    pub fn complaints(&self, id: &str, queue: &BTreeMap<String, Value>) -> Vec<String> {
        let have = self.traces(id, queue);
        let want = Traces {
            pull_requests: 1,
            started_comments: 1,
            finished_comments: 1,
            // The status comment.
            other_comments: 1,
            labels: vec!["copilot-agent".into(), "processed".into()],
            branches: 1,
            state: "completed".into(),
        };
        if have == want { Vec::new() } else { vec![format!("task {id} left {have:?}")] }
    }
}

impl Service {
    /// Waits until the process ends by itself, or by a crash point.
    pub async fn ended(&mut self) -> Result<ExitStatus, String> {
        let begun = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return Ok(status),
                None if begun.elapsed() > LONGEST => return Err(format!("alive after {} s", LONGEST.as_secs())),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits for the crash that was armed.
    pub async fn crashed(&mut self) -> Result<(), String> {
        match self.ended().await?.signal() {
            Some(9) => Ok(()),
            _ => Err("the service ended otherwise than by SIGKILL".into()),
        }
    }

    /// Stops it as an operator does.
    pub async fn stop(mut self) -> Result<(), String> {
        kill(self.child.id(), "TERM");
        let status = self.ended().await?;
        if status.code() == Some(0) { Ok(()) } else { Err(format!("after SIGTERM the service ended with {status}")) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
