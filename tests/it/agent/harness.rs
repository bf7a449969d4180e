//! A scripted model and a scripted sandbox, both strict: whatever is not expected fails the test.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use patchwright::agent::tokens::weigh;
use patchwright::agent::{Agent, AgentError, Brief, Budgets, Pause, ProfileChoice, ProtocolChoice, Purse, Report};
use patchwright::event::{Event, Events};
use patchwright::model::{Call, Message, Model, ModelCard, ModelError, Reply, Request};
use patchwright::outcome::Usage;
use patchwright::sandbox::{Command, Ending, Output, Sandbox, SandboxError};
use patchwright::workspace::Files;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What the scripted model does at its next request.
pub enum Turn {
    Reply(Reply),
    /// Comes line by line, until the agent has enough.
    Streamed(&'static str),
    Error(ModelError),
    /// Never answers.
    Hang,
}

/// A reply of native calls; ids are `c0`, `c1`, ... within the reply.
pub fn calls<const N: usize>(calls: [(&str, Value); N]) -> Turn {
    let calls = calls.into_iter().enumerate().map(|(at, (name, arguments))| Call {
        id: format!("c{at}"),
        name: name.into(),
        arguments: match arguments {
            Value::String(raw) => raw,
            other => other.to_string(),
        },
    });
    Turn::Reply(Reply { finish_reason: "tool_calls".into(), calls: calls.collect(), ..says_nothing() })
}

pub fn call(name: &str, arguments: Value) -> Turn {
    calls([(name, arguments)])
}

pub fn says(content: &str) -> Turn {
    Turn::Reply(Reply { content: content.into(), ..says_nothing() })
}

pub fn plan() -> Turn {
    call("plan", json!({ "steps": ["look", "change"] }))
}

pub fn says_nothing() -> Reply {
    Reply { finish_reason: "stop".into(), usage: Some(Usage::default()), ..Reply::default() }
}

pub struct Script {
    turns: Mutex<VecDeque<Turn>>,
    pub card: ModelCard,
    /// How many hundredths of the agent's own estimate the server counts; `None`: it does not tell.
    pub counts: Option<u64>,
    /// The answer to a question for a summary, which is no turn of its own.
    pub summary: Option<&'static str>,
    /// The tools of the last request, each as one text.
    pub tools: Mutex<Vec<String>>,
    /// Of each request.
    pub temperatures: Mutex<Vec<Option<f32>>>,
    /// The messages and the answer's bound of each request.
    pub requests: Mutex<Vec<(Vec<Message>, u32)>>,
}

#[async_trait]
impl Model for Script {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Reply, ModelError> {
        check_request(request.messages);
        self.requests.lock().unwrap().push((request.messages.to_vec(), request.max_tokens));
        self.temperatures.lock().unwrap().push(request.temperature);
        let tools = request.tools.iter().map(|tool| format!("{} {} {}", tool.name, tool.description, tool.parameters));
        *self.tools.lock().unwrap() = tools.collect();
        let last = request.messages.last().map(|last| serde_json::to_string(last).unwrap()).unwrap_or_default();
        if let Some(summary) = self.summary.filter(|_| last.contains("its older part is thrown away")) {
            return Ok(Reply { content: summary.into(), ..says_nothing() });
        }
        let turn = self.turns.lock().unwrap().pop_front();
        match turn.expect("a request that the script has no answer for") {
            Turn::Reply(reply) => Ok(match self.counts {
                Some(hundredths) => {
                    let weight = weigh(&serde_json::to_string(request.messages).unwrap());
                    let usage = Usage { prompt_tokens: Some(weight * hundredths / 100), ..Usage::default() };
                    Reply { usage: Some(usage), ..reply }
                }
                None => reply,
            }),
            Turn::Streamed(text) => {
                let mut ends = text.match_indices('\n').map(|(at, _)| at + 1);
                let enough = |end: &usize| request.enough.is_some_and(|is_enough| is_enough(&text[..*end]));
                let end = ends.find(enough).unwrap_or(text.len());
                Ok(Reply { content: text[..end].into(), ..says_nothing() })
            }
            Turn::Error(error) => Err(error),
            Turn::Hang => std::future::pending().await,
        }
    }
}

/// Every call of the history has exactly one answer, which follows it, and no answer is without its call.
fn check_request(messages: &[Message]) {
    let mut open: VecDeque<&str> = VecDeque::new();
    for message in messages {
        match message {
            Message::Tool { call_id, .. } => {
                assert_eq!(open.pop_front(), Some(call_id.as_str()), "an answer out of order: {messages:#?}");
            }
            Message::Assistant { content, calls } => {
                assert!(open.is_empty(), "calls without an answer: {messages:#?}");
                assert!(!content.is_empty() || !calls.is_empty(), "an empty message");
                for call in calls {
                    serde_json::from_str::<serde_json::Map<String, Value>>(&call.arguments).expect("sent arguments");
                    open.push_back(&call.id);
                }
            }
            Message::System { .. } | Message::User { .. } => assert!(open.is_empty(), "calls without an answer"),
        }
    }
    assert!(open.is_empty(), "calls without an answer: {messages:#?}");
}

/// The exit code of a command that does not end by itself.
pub const ENDLESS: i32 = -1;

/// Expects these lines, in order, and answers each with its exit code and output.
pub struct Shell {
    expected: Mutex<VecDeque<(&'static str, i32, &'static str)>>,
}

#[async_trait]
impl Sandbox for Shell {
    async fn run(&self, command: &Command) -> Result<Output, SandboxError> {
        let next = self.expected.lock().unwrap().pop_front();
        let (line, code, output) = next.unwrap_or_else(|| panic!("an unexpected command: {}", command.line));
        assert_eq!(command.line, line);
        assert!(command.timeout > Duration::ZERO && command.timeout <= Duration::from_secs(600));
        Ok(Output {
            ending: if code == ENDLESS { Ending::TimedOut } else { Ending::Exited(code) },
            head: output.into(),
            tail: Vec::new(),
            omitted_bytes: 0,
            duration: Duration::ZERO,
        })
    }

    fn description(&self) -> &str {
        "scripted"
    }

    async fn close(&self) -> Result<(), SandboxError> {
        Ok(())
    }
}

/// One run with a script, over a folder with one file `a.txt` that holds `one\ntwo\n`.
pub struct Setup {
    pub folder: tempfile::TempDir,
    pub model: Script,
    pub sandbox: Shell,
    pub brief: Brief,
    pub budgets: Budgets,
    pub log: Arc<Mutex<Vec<Event>>>,
}

impl Setup {
    pub fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "one\ntwo\n").unwrap();
        let turns = Mutex::new(turns.into_iter().collect());
        Self {
            folder,
            model: Script {
                turns,
                card: ModelCard::named("script"),
                counts: None,
                summary: None,
                tools: Mutex::default(),
                temperatures: Mutex::default(),
                requests: Mutex::default(),
            },
            sandbox: Shell { expected: Mutex::default() },
            brief: brief("Change two to three."),
            budgets: budgets(),
            log: Arc::default(),
        }
    }

    pub fn commands(self, expected: impl IntoIterator<Item = (&'static str, i32, &'static str)>) -> Self {
        *self.sandbox.expected.lock().unwrap() = expected.into_iter().collect();
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub fn agent(&self) -> Agent<'_> {
        let log = self.log.clone();
        let events = Events::new(move |event| log.lock().unwrap().push(event.clone()));
        let files = Files::open(self.path()).unwrap();
        Agent::new(&self.model, &self.sandbox, &files, &self.brief, self.budgets.clone(), events).unwrap()
    }

    /// Runs until the first pause; every turn and command of the script must have been used by then.
    pub async fn run(&self) -> (Result<Pause, AgentError>, Report) {
        let mut agent = self.agent();
        let pause = agent.run().await;
        self.assert_used();
        (pause, agent.report())
    }

    pub fn assert_used(&self) {
        assert!(self.model.turns.lock().unwrap().is_empty(), "turns are left over");
        assert!(self.sandbox.expected.lock().unwrap().is_empty(), "commands are left over");
    }

    /// The last message of each request.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.model.requests.lock().unwrap();
        let last = requests.iter().filter_map(|(messages, _)| match messages.last()? {
            Message::User { content } | Message::Tool { content, .. } => Some(content.clone()),
            Message::Assistant { .. } | Message::System { .. } => None,
        });
        last.collect()
    }

    /// What the model was told after its turns: all messages of the last request that are no replies, but the first two.
    pub fn told(&self) -> Vec<String> {
        let requests = self.model.requests.lock().unwrap();
        let (messages, _) = requests.last().expect("a request");
        messages[2..]
            .iter()
            .filter_map(|message| match message {
                Message::User { content } | Message::Tool { content, .. } => Some(content.clone()),
                Message::Assistant { .. } | Message::System { .. } => None,
            })
            .collect()
    }
}

pub fn brief(instruction: &str) -> Brief {
    Brief {
        title: "A task".into(),
        instruction: instruction.into(),
        test_command: None,
        baseline: None,
        prompts: None,
        profile: ProfileChoice::Auto,
        base: None,
        protocol: ProtocolChoice::Auto,
    }
}

pub fn budgets() -> Budgets {
    Budgets {
        steps: 20,
        tokens: 100_000,
        cost: None,
        deadline: Instant::now() + Duration::from_secs(60),
        command: Duration::from_secs(120),
        answer_tokens: 2_000,
        temperature: None,
        attempt: None,
        purse: Purse::default(),
    }
}
