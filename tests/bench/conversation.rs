//! Long conversations: how much of a request the server has in its cache already, whether the window is kept, and what
//! the loop costs beside model and tools.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use lab::{Lab, Script, scenario};
use patchwright::agent::{Agent, Brief, Budgets, Pause, ProfileChoice, ProtocolChoice, Purse};
use patchwright::event::Events;
use patchwright::model::{Call, Model, ModelCard, ModelError, Reply, Request};
use patchwright::outcome::Usage;
use patchwright::sandbox::{Command, Ending, Output, Sandbox, SandboxError};
use patchwright::workspace::Files;
use serde_json::{Value, json};

use crate::figures::{Figures, Unit, milliseconds};
use crate::task::{Kind, run_watched};

const WINDOW: u64 = 16_384;
/// Of the long session: with the plan, the change and the end.
const STEPS: u32 = 200;
/// What one command of it prints.
const OUTPUT: usize = 13_000;
const FILES: usize = 50_000;

/// The share of each request that is, byte for byte, the beginning of the one before.
pub async fn measure_prefix(figures: &mut Figures) -> anyhow::Result<()> {
    let session = || {
        let mut replies = vec![plan()];
        for step in 0..12 {
            replies.push(call("search", &json!({ "text": format!("value_{step}") })));
            replies.push(call("read", &json!({ "path": format!("source/module_{step}.py") })));
            replies.push(match step % 4 {
                3 => note(step),
                _ => call("run", &json!({ "command": format!("grep -c value source/module_{step}.py") })),
            });
        }
        replies.push(call("read", &json!({ "path": "greeting.txt" })));
        replies.extend([change(), finish()]);
        replies
    };
    let told = run(session(), None, 60).await?;
    anyhow::ensure!(told.requests.len() >= 40, "{} requests", told.requests.len());
    figures.add_at_least("prefix", "40 steps: kept from the request before", Unit::Percent, vec![told.share()], 95.0);
    let told = run(session(), Some(WINDOW), 60).await?;
    figures.add("prefix", "the same in a window of 16k", Unit::Percent, vec![told.share()], None);
    figures.add("prefix", "    requests that do not begin as the one before", Unit::Count, vec![told.cuts()], None);
    Ok(())
}

/// A session of 200 steps with 2 MB of outputs in a window of 16k: over the wire, and in this process.
pub async fn measure_window(figures: &mut Figures) -> anyhow::Result<()> {
    const GROUP: &str = "window";
    let told = run(long_session(), Some(WINDOW), STEPS + 50).await?;
    figures.add(
        GROUP,
        "200 steps: requests that the server refused as too long",
        Unit::Count,
        vec![told.refused],
        Some(0.0),
    );
    figures.add(GROUP, "    tokens of the longest request", Unit::Count, vec![told.longest()], Some(WINDOW as f64));
    figures.add(GROUP, "    printed by commands", Unit::Mebibytes, vec![told.printed], None);
    figures.add(GROUP, "    kept from the request before", Unit::Percent, vec![told.share()], None);
    figures.add(GROUP, "    requests that do not begin as the one before", Unit::Count, vec![told.cuts()], None);
    figures.add(GROUP, "    peak memory of the process", Unit::Mebibytes, vec![told.peak], Some(60.0));
    let mut own = Vec::new();
    for _ in 0..figures.rounds().min(5) {
        own.push(in_process().await?);
    }
    figures.add(GROUP, "    a step without model and tools", Unit::Milliseconds, own, Some(5.0));
    Ok(())
}

/// What the first message costs where there are very many files.
pub async fn measure_map(figures: &mut Figures) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for number in 0..FILES {
        let path = folder.path().join(format!("package_{}/part_{}", number % 50, number % 1_000));
        std::fs::create_dir_all(&path)?;
        std::fs::write(path.join(format!("module_{number}.py")), module(number))?;
    }
    let files = Files::open(folder.path())?;
    let (model, sandbox) = (Player::new(Vec::new()), Printer::default());
    let mut times = Vec::new();
    for _ in 0..figures.rounds().min(5) {
        let begun = Instant::now();
        Agent::new(&model, &sandbox, &files, &brief("calculate_41230 is off by one."), budgets(), Events::none())?;
        times.push(milliseconds(begun.elapsed()));
    }
    figures.add("map", "the first message over 50,000 files", Unit::Milliseconds, times, Some(3_000.0));
    Ok(())
}

fn long_session() -> Vec<Value> {
    let work = (0..STEPS - 3).map(|step| match step % 4 {
        0 => call("read", &json!({ "path": format!("logs/{step}.log") })),
        3 if step % 8 == 7 => note(step),
        _ => call("run", &json!({ "command": format!("cat logs/{step}.log") })),
    });
    [plan()].into_iter().chain(work).chain([change(), finish()]).collect()
}

fn plan() -> Value {
    call("plan", &json!({ "steps": ["Look around", "Change the greeting", "Run the tests"] }))
}

/// A change of its own: a run that only looks is ended.
fn note(step: u32) -> Value {
    call("write", &json!({ "path": format!("notes/{step}.txt"), "content": format!("Step {step} was taken.\n") }))
}

fn change() -> Value {
    call("replace", &json!({ "path": "greeting.txt", "old": "Hello", "new": "Good day" }))
}

fn finish() -> Value {
    call("finish", &json!({ "summary": "The greeting is polite." }))
}

/// A line of a script. A request may have become shorter.
fn call(name: &str, arguments: &Value) -> Value {
    json!({ "calls": [{ "name": name, "arguments": arguments }], "new_conversation": true })
}

/// What one session came to.
struct Told {
    requests: Vec<Value>,
    refused: f64,
    /// In MiB.
    printed: f64,
    peak: f64,
}

impl Told {
    /// In percent, over all requests but the first.
    fn share(&self) -> f64 {
        let texts: Vec<String> = self.requests.iter().map(|request| request["messages"].to_string()).collect();
        let (mut kept, mut all) = (0, 0);
        for pair in texts.windows(2) {
            // The bracket that ends the list is none of its beginning.
            let before = pair[0].strip_suffix(']').unwrap_or(&pair[0]);
            kept += before.bytes().zip(pair[1].bytes()).take_while(|(before, now)| before == now).count();
            all += pair[1].len();
        }
        100.0 * kept as f64 / all.max(1) as f64
    }

    fn cuts(&self) -> f64 {
        let cut = |pair: &&[Value]| {
            let (before, now) = (pair[0]["messages"].as_array(), pair[1]["messages"].as_array());
            let (Some(before), Some(now)) = (before, now) else { return true };
            now.len() < before.len() || now[..before.len()] != before[..]
        };
        self.requests.windows(2).filter(cut).count() as f64
    }

    fn longest(&self) -> f64 {
        let tokens = |request: &Value| lab::model::tokens(request);
        self.requests.iter().map(tokens).max().unwrap_or_default() as f64
    }
}

/// Works one task on a local repository with the release binary against the lab's model server.
async fn run(replies: Vec<Value>, window: Option<u64>, steps: u32) -> anyhow::Result<Told> {
    let lab = Lab::start().await?;
    let root = lab.folder().join("operator");
    let repository = root.join("repository");
    fill(&repository)?;
    let lines: Vec<String> = replies.iter().map(Value::to_string).collect();
    let script = Script { context_window: window, ..Script::parse(&lines.join("\n"))? };
    let model = lab.model(script).await?;
    let (record, config) = (root.join("record.jsonl"), root.join("patchwright.toml"));
    // A script has no answer to a question for a summary, which a small model is not asked.
    std::fs::write(&config, "[agent]\nprofile = \"small\"\n")?;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchwright"));
    command
        .args(["run", "--test-command", "true", "--sandbox", "namespace", "--dry-run", "--max-tokens", "100000000"])
        .args(["--task", "Make the greeting polite.", "--max-steps", &steps.to_string(), "--timeout", "10m"])
        .arg("--repo")
        .arg(&repository)
        .arg("--record")
        .arg(&record)
        .arg("--config")
        .arg(&config)
        .env_clear()
        .envs(scenario::environment(&root)?)
        .env("LLM_API_ENDPOINT", model.endpoint())
        .env("LLM_MODEL", model.name())
        .current_dir(&root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let (status, _, peak, errors) = run_watched(command, Kind::Agent).await?;
    anyhow::ensure!(status.success(), "a session ended with {status}:\n{errors}");
    let wrong = model.finish();
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let events = std::fs::read_to_string(&record)?;
    let results = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let prints = |event: &Value| event["event"] == "call" && (event["tool"] == "run" || event["tool"] == "read");
    let asked = results.filter(prints).count();
    let printed = (asked * OUTPUT) as f64 / f64::from(1 << 20);
    Ok(Told { requests: model.requests(), refused: model.refused() as f64, printed, peak })
}

fn fill(repository: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(repository.join("source"))?;
    std::fs::create_dir_all(repository.join("logs"))?;
    std::fs::write(repository.join("greeting.txt"), "Hello\n")?;
    for number in 0..40 {
        std::fs::write(repository.join(format!("source/module_{number}.py")), module(number))?;
    }
    for number in 0..STEPS {
        std::fs::write(repository.join(format!("logs/{number}.log")), log(number))?;
    }
    let own = ["-c", "user.name=B", "-c", "user.email=b@localhost"];
    for arguments in
        [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "--no-gpg-sign", "-m", "Begin"]]
    {
        let status = std::process::Command::new("git").args(own).args(arguments).current_dir(repository).status()?;
        anyhow::ensure!(status.success(), "git {arguments:?}");
    }
    Ok(())
}

fn module(number: usize) -> String {
    let other = number / 2;
    format!(
        "\"\"\"Part {number}.\"\"\"\n\nfrom part import calculate_{other}\n\n\ndef calculate_{number}(value_{number}):\n    \
         total = calculate_{other}(value_{number})\n    for step in range(value_{number}):\n        total += step\n    \
         return total\n\n\nclass Holder{number}:\n    def keep(self, item):\n        self.item = item\n"
    )
}

fn log(number: u32) -> String {
    let mut text = String::with_capacity(OUTPUT + 100);
    let mut line = 0;
    while text.len() < OUTPUT {
        text.push_str(&format!(
            "[{number}:{line:04}] worker {} handled request {:x} in {} ms\n",
            line % 7,
            line * 7_919,
            line % 90
        ));
        line += 1;
    }
    text
}

/// The milliseconds of a step in this process, without what model and sandbox take.
async fn in_process() -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    fill(folder.path())?;
    let files = Files::open(folder.path())?;
    let (model, sandbox) = (Player::new(long_session()), Printer::default());
    let begun = Instant::now();
    let mut agent =
        Agent::new(&model, &sandbox, &files, &brief("Make the greeting polite."), budgets(), Events::none())?;
    let pause = agent.run().await.context("the session broke off")?;
    let whole = begun.elapsed();
    anyhow::ensure!(matches!(pause, Pause::Finish { .. }), "the session ended with {pause:?}");
    let beside = *model.spent.lock().map_err(|_| anyhow::anyhow!("poisoned"))?
        + *sandbox.spent.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    Ok(milliseconds(whole.saturating_sub(beside)) / f64::from(agent.report().steps))
}

fn brief(instruction: &str) -> Brief {
    Brief {
        title: "A task".into(),
        instruction: instruction.into(),
        test_command: None,
        baseline: None,
        prompts: None,
        profile: ProfileChoice::Auto,
        base: None,
        protocol: ProtocolChoice::Native,
    }
}

fn budgets() -> Budgets {
    Budgets {
        steps: STEPS + 50,
        tokens: u64::MAX / 4,
        cost: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(600),
        command: Duration::from_secs(60),
        answer_tokens: 2_000,
        temperature: None,
        attempt: None,
        purse: Purse::default(),
    }
}

/// A model that plays a script and counts three bytes as a token.
struct Player {
    card: ModelCard,
    replies: Mutex<VecDeque<Value>>,
    spent: Mutex<Duration>,
}

impl Player {
    fn new(replies: Vec<Value>) -> Self {
        let card = ModelCard { window: Some(WINDOW), ..ModelCard::named("player-7b") };
        Self { card, replies: Mutex::new(replies.into()), spent: Mutex::default() }
    }
}

#[async_trait]
impl Model for Player {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        let begun = Instant::now();
        let bytes = serde_json::to_string(request.messages).map_or(0, |text| text.len());
        let tools: usize = request.tools.iter().map(|tool| tool.parameters.to_string().len() + 60).sum();
        let prompt = (bytes + tools) as u64 / 3;
        if prompt + u64::from(request.max_tokens) > WINDOW {
            return Err(ModelError::ContextOverflow(format!("{prompt} tokens and {}", request.max_tokens)));
        }
        let last = request.messages.last().map(|message| serde_json::to_string(message).unwrap_or_default());
        if last.is_some_and(|last| last.contains("its older part is thrown away")) {
            let content = "The logs hold nothing of interest. What is left: to change Hello in greeting.txt.".into();
            return Ok(Reply { content, finish_reason: "stop".into(), ..Reply::default() });
        }
        let next = self.replies.lock().ok().and_then(|mut replies| replies.pop_front());
        let Some(next) = next else { return Err(ModelError::Cut("the script is over".into())) };
        let call = &next["calls"][0];
        let reply = Reply {
            calls: vec![Call {
                id: format!("c{}", request.messages.len()),
                name: call["name"].as_str().unwrap_or_default().into(),
                arguments: call["arguments"].to_string(),
            }],
            finish_reason: "tool_calls".into(),
            usage: Some(Usage { prompt_tokens: Some(prompt), completion_tokens: Some(30), ..Usage::default() }),
            ..Reply::default()
        };
        if let Ok(mut spent) = self.spent.lock() {
            *spent += begun.elapsed();
        }
        Ok(reply)
    }
}

/// A sandbox in which each command prints a log.
#[derive(Default)]
struct Printer {
    spent: Mutex<Duration>,
}

#[async_trait]
impl Sandbox for Printer {
    async fn run(&self, command: &Command) -> Result<Output, SandboxError> {
        let begun = Instant::now();
        let number = command
            .line
            .bytes()
            .filter(u8::is_ascii_digit)
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        let head = log(number).into_bytes();
        let duration = begun.elapsed();
        if let Ok(mut spent) = self.spent.lock() {
            *spent += duration;
        }
        Ok(Output { ending: Ending::Exited(0), head, tail: Vec::new(), omitted_bytes: 0, duration })
    }

    fn description(&self) -> &str {
        "a printer"
    }

    async fn close(&self) -> Result<(), SandboxError> {
        Ok(())
    }
}
