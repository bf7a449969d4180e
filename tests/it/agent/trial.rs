//! A trial by hand against a real model: `PATCHWRIGHT_TRIAL_ENDPOINT=http://127.0.0.1:18080 cargo test --test it \
//! agent::trial -- --ignored --nocapture`. Commands run as the user `nobody` without a network: Linux and root only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use patchwright::agent::{Agent, Budgets, Pause};
use patchwright::event::{Event, Events};
use patchwright::model::openai::{Settings, connect};
use patchwright::sandbox::{Command, Ending, Output, Sandbox, SandboxError};
use patchwright::workspace::Files;
use tokio::time::Instant;

struct Nobody(PathBuf);

#[async_trait]
impl Sandbox for Nobody {
    async fn run(&self, command: &Command) -> Result<Output, SandboxError> {
        let begun = Instant::now();
        let seconds = command.timeout.as_secs().max(1).to_string();
        let child = tokio::process::Command::new("unshare")
            .args(["--net", "--pid", "--fork", "--kill-child", "setpriv", "--reuid=65534", "--regid=65534"])
            .args(["--clear-groups", "timeout", &seconds, "sh", "-c", &format!("{} 2>&1", command.line)])
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| SandboxError::Broken(error.to_string()))?;
        let ending = match child.status.code() {
            Some(124) => Ending::TimedOut,
            Some(code) => Ending::Exited(code),
            None => Ending::Signalled(9),
        };
        Ok(Output { ending, head: child.stdout, tail: Vec::new(), omitted_bytes: 0, duration: begun.elapsed() })
    }

    fn description(&self) -> &str {
        "nobody"
    }

    async fn close(&self) -> Result<(), SandboxError> {
        Ok(())
    }
}

async fn attempt(name: &str, instruction: &str, prepare: impl Fn(&Path), check: &str) {
    let endpoint = std::env::var("PATCHWRIGHT_TRIAL_ENDPOINT").expect("PATCHWRIGHT_TRIAL_ENDPOINT");
    let settings = Settings { endpoint: Some(endpoint.parse().unwrap()), ..Settings::default() };
    let (model, notes) = connect(&settings).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    open_up(folder.path());
    let begun = Instant::now();
    eprintln!("=== {name} {notes:?}");
    let events = Events::new(move |event| match event {
        Event::Reply { step, reply, usage, milliseconds } => {
            eprintln!("--- {step} {milliseconds} ms {usage:?} {}", reply["finish_reason"]);
            eprintln!("{} {}", reply["content"].as_str().unwrap_or_default(), reply["calls"]);
        }
        Event::CallResult { tool, ok, result, .. } => eprintln!(">>> {tool} {ok}\n{result}"),
        Event::Note { text } => eprintln!("note: {text}"),
        Event::Message { message } if message["role"] == "user" => {
            eprintln!("[user] {}", message["content"].as_str().unwrap())
        }
        _ => {}
    });
    let budgets = Budgets {
        steps: 20,
        tokens: 100_000,
        deadline: begun + Duration::from_secs(600),
        command: Duration::from_secs(120),
        answer_tokens: 1_000,
        temperature: std::env::var("PATCHWRIGHT_TRIAL_TEMPERATURE").ok().map(|text| text.parse().unwrap()),
    };
    let files = Files::open(folder.path()).unwrap();
    let sandbox = Nobody(folder.path().into());
    let brief = super::harness::brief(instruction);
    let mut agent = Agent::new(&model, &sandbox, &files, &brief, budgets, events).unwrap();
    let mut passed = false;
    let mut pause = agent.run().await.unwrap();
    for _ in 0..2 {
        let Pause::Finish { .. } = &pause else { break };
        open_up(folder.path());
        let line = check.to_owned();
        let command = Command {
            line,
            directory: PathBuf::new(),
            environment: Default::default(),
            timeout: Duration::from_secs(20),
        };
        let output = sandbox.run(&command).await.unwrap();
        passed = output.ending == Ending::Exited(0);
        if passed {
            break;
        }
        agent.observe(format!("The tests fail:\n{}", String::from_utf8_lossy(&output.head)));
        pause = agent.run().await.unwrap();
    }
    let report = agent.report();
    let seconds = begun.elapsed().as_secs_f32();
    eprintln!("=== {name}: passed {passed}, {seconds:.1} s, {} steps, {:?}, {pause:?}", report.steps, report.usage);
}

fn open_up(folder: &Path) {
    std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(folder).status().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real model"]
async fn greeting() {
    let prepare = |folder: &Path| {
        std::fs::write(
            folder.join("hello.py"),
            "def greet():\n    return 'Hello, World'\n\n\nif __name__ == '__main__':\n    print(greet())\n",
        )
        .unwrap();
        std::fs::write(folder.join("README.md"), "# Hello\n\nA greeting.\n").unwrap();
    };
    let instruction = "change the greeting in hello.py to 'Hello, Patchwright'";
    attempt(
        "greeting",
        instruction,
        prepare,
        "python3 -c \"import hello; assert hello.greet() == 'Hello, Patchwright', 'greet() gives ' + hello.greet()\"",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real model"]
async fn fizzbuzz() {
    let prepare = |folder: &Path| std::fs::write(folder.join("README.md"), "# Exercises\n").unwrap();
    let instruction = "create fizzbuzz.py with a function and a test";
    attempt("fizzbuzz", instruction, prepare, "test -f fizzbuzz.py && python3 -m unittest *.py").await;
}
