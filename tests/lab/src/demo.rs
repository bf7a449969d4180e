//! `cargo demo`: one task, from the issue to the pull request, for people to watch. Everything is real but the
//! remote ends: GitHub is the lab's, and so is the model unless another one is asked for.

mod screen;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::github::{BOT, GitHub, Issue};
use crate::model::Script;
use crate::scenario::environment;
use crate::{Lab, Model, git};
use screen::Screen;

/// The repository of the demonstration.
pub const REPOSITORY: &str = "acme/durations";

/// The id of its task.
pub const TASK_ID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// What the demonstration is asked to do.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// An OpenAI-compatible endpoint, as in http://127.0.0.1:11434/v1; default: the recorded model
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The model's name at that endpoint
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub model: Option<String>,
    /// Leave the lab's folder (repositories, caches) where it is, and say where
    #[arg(long)]
    pub keep: bool,
    /// auto, container or namespace; default: what patchwright chooses
    #[arg(long, value_name = "KIND")]
    pub sandbox: Option<String>,
    /// A patchwright to run, instead of building one
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
}

/// Runs the demonstration; `true` if it ended with a verified pull request.
///
/// 1. Build the production binary.
/// 2. Start the lab, with a repository whose test fails and an issue that asks for the fix.
/// 3. Run `patchwright run --issue`, and pass on what it says.
/// 4. Show the diff, the pull request, the comments, and whether all is as promised.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let screen = Screen::new();
    let binary = match &options.binary {
        Some(binary) => binary.canonicalize().with_context(|| format!("cannot find {}", binary.display()))?,
        None => build(&screen).await?,
    };
    let lab = Lab::start().await?;
    let issue = seed(&lab.github).await?;
    let recorded = match options.endpoint {
        Some(_) => None,
        None => Some(recorded_model(&lab).await?),
    };
    let (endpoint, name) = match (&recorded, &options.endpoint) {
        (Some(model), _) => (model.endpoint(), Some(model.name().to_owned())),
        (None, endpoint) => (endpoint.clone().unwrap_or_default(), options.model.clone()),
    };
    screen.title("One task, from the issue to the pull request");
    screen.field("GitHub", &format!("{} (the lab's, on this machine)", lab.github.web_url()));
    let kind = if recorded.is_some() { "recorded" } else { "real" };
    screen.field("Model", &format!("{} at {endpoint} ({kind})", name.as_deref().unwrap_or("the endpoint's own")));
    screen.field("Program", &binary.display().to_string());
    let seeded = lab.github.issue(REPOSITORY, issue).context("the issue is gone")?;
    screen.heading(&format!("The issue {REPOSITORY}#{issue}: {}", one_line(&seeded.title)));
    screen.block(seeded.body.as_deref().unwrap_or_default());

    let started = Instant::now();
    let arguments = arguments(options, issue, &endpoint, name.as_deref());
    screen.heading(&format!("$ patchwright {}", arguments.join(" ")));
    let (code, stdout) = watch(&binary, &arguments, &lab, options, &screen).await?;
    let elapsed = started.elapsed();

    show(&lab, issue, &screen).await?;
    let mut wrong = judge(&lab.github, code, stdout.trim());
    if let Some(model) = &recorded {
        wrong.extend(model.finish());
    }
    wrong.extend(lab.finish());
    conclude(&screen, &wrong, &lab, code, elapsed);
    if options.keep {
        screen.field("Kept", &lab.keep().display().to_string());
    }
    Ok(wrong.is_empty())
}

/// Runs the lab in the foreground, with the demonstration's repository and issue, until interrupted.
pub async fn serve() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let issue = seed(&lab.github).await?;
    let model = recorded_model(&lab).await?;
    println!("export GITHUB_API_URL={}", lab.github.api_url());
    println!("export GITHUB_SERVER_URL={}", lab.github.web_url());
    println!("export GITHUB_TOKEN={}", lab.github.token());
    println!("export LLM_API_ENDPOINT={}", model.endpoint());
    println!("export LLM_MODEL={}", model.name());
    eprintln!("The lab runs. Elsewhere, with these variables set: patchwright run --issue {REPOSITORY}#{issue}");
    eprintln!("The recorded model plays its part once. Ctrl-C ends the lab.");
    tokio::signal::ctrl_c().await?;
    for violation in lab.finish().into_iter().chain(model.finish()) {
        eprintln!("{violation}");
    }
    Ok(())
}

/// The folder with the demonstration's data.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

async fn seed(github: &GitHub) -> anyhow::Result<u64> {
    github.repository(REPOSITORY).folder(&data().join("repo")).create().await?;
    let body = std::fs::read_to_string(data().join("issue.md")).context("cannot read the demonstration's issue")?;
    let title = "`durations::parse(\"1h30m\")` answers 1800: it forgets the hour. Durations of several units must ...";
    Ok(github.create_issue(REPOSITORY, "acme", title, Some(body.trim_end()), &["copilot-agent"]))
}

async fn recorded_model(lab: &Lab) -> anyhow::Result<Model> {
    let replies = std::fs::read_to_string(data().join("replies.jsonl")).context("cannot read the recorded replies")?;
    let model = lab.model(Script::parse(&replies)?).await?;
    lab.github.secrets().iter().for_each(|secret| model.add_secret(secret));
    Ok(model)
}

/// Builds the production binary as cargo would for a user, and returns where it is.
async fn build(screen: &Screen) -> anyhow::Result<PathBuf> {
    screen.passing("Building patchwright; the first time takes a few minutes ...");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "patchwright", "--bin", "patchwright"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cargo could not build patchwright:\n{said}");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let binary = artifacts
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == "patchwright")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    binary.context("cargo built no patchwright")
}

fn arguments(options: &Options, issue: u64, endpoint: &str, model: Option<&str>) -> Vec<String> {
    let mut arguments = vec!["run".to_owned(), "--issue".into(), format!("{REPOSITORY}#{issue}")];
    arguments.extend(["--endpoint".into(), endpoint.to_owned()]);
    if let Some(model) = model {
        arguments.extend(["--model".into(), model.to_owned()]);
    }
    if let Some(sandbox) = &options.sandbox {
        arguments.extend(["--sandbox".into(), sandbox.clone()]);
    }
    arguments
}

/// Runs the program, and passes on its progress line by line as it comes. Its exit code and standard output.
async fn watch(
    binary: &Path,
    arguments: &[String],
    lab: &Lab,
    options: &Options,
    screen: &Screen,
) -> anyhow::Result<(Option<i32>, String)> {
    let root = lab.folder().join("run");
    let environment = environment(&root)?;
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .env("GITHUB_API_URL", lab.github.api_url())
        .env("GITHUB_SERVER_URL", lab.github.web_url())
        .env("GITHUB_TOKEN", lab.github.token())
        .current_dir(&root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if options.endpoint.is_some()
        && let Some(key) = std::env::var_os("LLM_API_KEY")
    {
        command.env("LLM_API_KEY", key);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
    let progress = child.stderr.take().context("the program has no standard error")?;
    let mut lines = BufReader::new(progress).lines();
    let pass_on = async {
        while let Ok(Some(line)) = lines.next_line().await {
            screen.line(&line);
        }
    };
    let mut stdout = child.stdout.take().context("the program has no standard output")?;
    let mut printed = Vec::new();
    let collect = tokio::io::AsyncReadExt::read_to_end(&mut stdout, &mut printed);
    // A Ctrl-C reaches the program too, since it is in the same process group; it then ends by itself.
    let interrupted = async { while tokio::signal::ctrl_c().await.is_ok() {} };
    let status = tokio::select! {
        (status, (), _) = async { tokio::join!(child.wait(), pass_on, collect) } => status?,
        () = interrupted => anyhow::bail!("interrupted"),
    };
    Ok((status.code(), String::from_utf8_lossy(&printed).into_owned()))
}

async fn show(lab: &Lab, issue: u64, screen: &Screen) -> anyhow::Result<()> {
    let repository = lab.github.repository_state(REPOSITORY).context("the repository is gone")?;
    for pull in lab.github.pulls(REPOSITORY) {
        let Some(details) = &pull.pull else { continue };
        screen.heading("The diff");
        let range = format!("{}...{}", repository.default_branch, details.head);
        screen.diff(&git::text(&repository.path, &["diff", "--no-color", &range]).await?);
        let kind = if details.draft { "draft" } else { "ready for review" };
        screen.heading(&format!("The pull request #{}: {} ({kind})", pull.number, pull.title));
        screen.field("From", &format!("{} at {}", details.head, &details.head_commit[..10]));
        screen.field("Onto", &details.base);
        screen.block(pull.body.as_deref().unwrap_or_default());
    }
    screen.heading("The comments on the issue");
    for comment in lab.github.comments(REPOSITORY, issue) {
        screen.field(&comment.author, "");
        screen.block(&comment.body);
    }
    let labels = lab.github.issue(REPOSITORY, issue).map(|issue| issue.labels.join(", "));
    screen.field("Labels", &labels.unwrap_or_default());
    Ok(())
}

/// What is not as promised, in words.
fn judge(github: &GitHub, code: Option<i32>, stdout: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if code != Some(0) {
        wrong.push(format!(
            "patchwright ended with {}",
            code.map_or("a signal".into(), |code| format!("exit code {code}"))
        ));
    }
    let pulls: Vec<Issue> = github.pulls(REPOSITORY);
    let [pull] = pulls.as_slice() else {
        wrong.push(format!("there are {} pull requests, not one", pulls.len()));
        return wrong;
    };
    let Some(details) = &pull.pull else { return wrong };
    if details.draft {
        wrong.push("the pull request is a draft".into());
    }
    let metadata = format!("<!-- agent_task_metadata {{\"task_id\": \"{TASK_ID}\"}} -->");
    if details.opened_body.as_deref().unwrap_or_default().lines().next() != Some(&metadata) {
        wrong.push("the pull request's first line does not name the task".into());
    }
    if pull.author != BOT {
        wrong.push(format!("the pull request was opened by {}", pull.author));
    }
    let address = format!("{}/{REPOSITORY}/pull/{}", github.web_url(), pull.number);
    if stdout != address {
        wrong.push(format!("standard output is `{stdout}`, not the pull request's address"));
    }
    wrong
}

fn conclude(screen: &Screen, wrong: &[String], lab: &Lab, code: Option<i32>, elapsed: Duration) {
    screen.heading("The end");
    let requests = lab.github.exchanges();
    let of_git = requests.iter().filter(|exchange| exchange.path.contains(".git/")).count();
    screen.field("Took", &format!("{:.1} s", elapsed.as_secs_f64()));
    screen.field("Requests", &format!("{} to GitHub's interface, {of_git} of git", requests.len() - of_git));
    screen.field("Exit code", &code.map_or("none".into(), |code| code.to_string()));
    if wrong.is_empty() {
        screen.good("A verified pull request is open.");
    } else {
        screen.bad("This is not a verified pull request:");
        wrong.iter().for_each(|wrong| screen.line(&format!("- {wrong}")));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
