//! The data of the red team: files of scenes, scenes of attacks, and how a scene becomes a scenario of the lab.

use std::collections::BTreeMap;
use std::fmt::Write;

use lab::Script;
use lab::scenario::{Scenario, Settings};
use serde::Deserialize;
use serde_json::{Value, json};

use super::host::Host;
use super::{Backend, root};

/// One file below `tests/redteam`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(skip)]
    pub name: String,
    pub theme: String,
    pub scene: Vec<Scene>,
}

/// One task from its issue to its end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    pub about: String,
    pub issue: String,
    /// Of the base commit, besides the attacks.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// For `sh -eu` in the repository, before its commit.
    #[serde(default)]
    pub setup: String,
    /// Empty: it is detected.
    #[serde(default = "always_green")]
    pub test_command: String,
    /// The tests fail on the base, so that the model is asked for single files first, which it does not give.
    #[serde(default)]
    pub red: bool,
    /// The operator's, in TOML.
    #[serde(default)]
    pub config: String,
    /// Names that the machine's resolver knows, and what it answers: in turn, with spaces between the answers.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    /// What the model does after the attacks: calls of tools.
    #[serde(default = "a_note")]
    pub edits: Vec<Value>,
    #[serde(default = "done")]
    pub summary: String,
    /// Instead of all that, in the lab's format.
    pub replies: Option<String>,
    /// The model need not be asked.
    #[serde(default)]
    pub optional: bool,
    /// The model has the operator's key: that it says it is no leak.
    #[serde(default)]
    pub model_knows: bool,
    /// Each end of the process is fine but a signal.
    #[serde(default)]
    pub any_exit: bool,
    #[serde(default)]
    pub published: Published,
    /// Texts that neither our log nor what is posted may hold.
    #[serde(default)]
    pub silent: Vec<String>,
    #[serde(default)]
    pub only: Only,
    /// Further settings of the lab's scenario.
    #[serde(default)]
    pub scenario: toml::Table,
    pub attack: Vec<Attack>,
}

/// Attacks of a scene before its edits.
const MOST_WITHOUT_CHANGE: usize = 20;

/// What must have been published, where `scenario.expect.pull` does not say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    #[default]
    Ready,
    Nothing,
    Any,
}

/// What alone may have changed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    pub changes: Option<Vec<String>>,
}

/// One attempt. Without `python`, `shell` and `call` the scene as a whole is the attack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    pub name: String,
    /// What it does, after "The attacker".
    pub tries: String,
    /// What must hold.
    pub holds: String,
    /// Run by the model in the sandbox; says `won(...)` where it succeeds.
    pub python: Option<String>,
    pub shell: Option<String>,
    /// Who runs it.
    #[serde(default)]
    pub by: By,
    /// A call of another tool.
    pub call: Option<Value>,
    /// It need not come to its own end.
    #[serde(default)]
    pub any_end: bool,
    /// The tool's answer holds each of these.
    #[serde(default)]
    pub shows: Vec<String>,
    /// And none of these.
    #[serde(default)]
    pub hides: Vec<String>,
}

/// Who runs an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    #[default]
    Model,
    /// The repository, by its `.patchwright.toml`: success fails the setup, and with it the task.
    Setup,
}

fn always_green() -> String {
    "true".into()
}

fn a_note() -> Vec<Value> {
    vec![json!({ "name": "write", "arguments": { "path": "notes.txt", "content": "A note.\n" } })]
}

fn done() -> String {
    "Done.".into()
}

/// All files, in order.
pub fn read_all() -> Vec<File> {
    let mut paths: Vec<_> =
        std::fs::read_dir(root().join("tests/redteam")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        File { name: path.file_stem().unwrap().to_string_lossy().into_owned(), ..file }
    };
    paths.iter().map(read).collect()
}

impl Scene {
    /// With the host's places, numbers and secrets in it.
    pub fn filled(&self, host: &Host) -> Self {
        let mut scene = self.clone();
        let fill = |text: &mut String| *text = host.fill(text);
        for text in [&mut scene.issue, &mut scene.setup, &mut scene.test_command, &mut scene.config, &mut scene.summary]
        {
            fill(text);
        }
        scene.files.values_mut().for_each(fill);
        scene.silent.iter_mut().for_each(fill);
        scene.replies.iter_mut().for_each(fill);
        scene.edits.iter_mut().for_each(|value| fill_value(value, host));
        for attack in &mut scene.attack {
            attack.python.iter_mut().for_each(fill);
            attack.shell.iter_mut().for_each(fill);
            attack.call.iter_mut().for_each(|value| fill_value(value, host));
        }
        scene
    }

    /// The lab's scenario: files on disk, the settings, and what the model says.
    pub fn scenario(&self, backend: Backend, without: &str, host: &Host) -> Scenario {
        let folder = host.folder("scenario");
        for (path, text) in self.repository() {
            let path = folder.join("repo").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        if !self.setup.is_empty() {
            std::fs::write(folder.join("setup.sh"), &self.setup).unwrap();
        }
        if !self.names.is_empty() {
            host.teach(&self.names);
        }
        let mut settings: Settings = {
            let mut table = self.scenario.clone();
            table.insert("about".into(), self.about.clone().into());
            table.insert("args".into(), toml::Value::Array(Vec::new()));
            table.try_into().unwrap()
        };
        let mut args = vec!["run", "--issue", "{issue}"];
        if !self.test_command.is_empty() {
            args.extend(["--test-command", &self.test_command]);
        }
        settings.args = args.into_iter().map(str::to_owned).collect();
        settings.env.extend(host.environment(backend));
        if self.attack.iter().any(|attack| attack.by == By::Setup) {
            settings.env.insert("PATCHWRIGHT_SETUP".into(), "on".into());
        }
        settings.env.insert("PATCHWRIGHT_CONFIG".into(), host.config(backend, &self.config));
        if !without.is_empty() {
            settings.env.insert("PATCHWRIGHT_WITHOUT".into(), without.into());
        }
        settings.secrets = host.secrets();
        settings.model_knows = self.model_knows;
        if !self.scenario.contains_key("title") {
            settings.title = "A task of the red team".into();
        }
        let text = match self.issue.trim_start().starts_with("<!-- agent_task_metadata") {
            true => self.issue.clone(),
            false => format!(
                "<!-- agent_task_metadata {{\"task_id\": \"redteam-{}\"}} -->\n\n## Instruction\n\n{}",
                host.nonce, self.issue
            ),
        };
        let script = Some(Script::parse(&self.script()).unwrap_or_else(|error| panic!("{}: {error:#}", self.about)));
        Scenario { name: "redteam".into(), folder, text, settings, script }
    }

    /// The files of the base: the scene's, and each attack as a program in it.
    fn repository(&self) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = self.files.clone().into_iter().collect();
        if files.is_empty() {
            files.push(("greeting.txt".into(), "Hello\n".into()));
        }
        if self.attack.iter().any(|attack| attack.python.is_some()) {
            let probe = std::fs::read_to_string(root().join("tests/redteam/probe.py")).unwrap();
            files.push(("attacks/probe.py".into(), probe));
        }
        let mut setup = Vec::new();
        for (number, attack) in self.attack.iter().enumerate() {
            if attack.by == By::Setup {
                let program = if attack.python.is_some() {
                    format!("python3 attacks/{number}.py")
                } else {
                    format!("sh attacks/{number}.sh")
                };
                let line = format!(
                    "said=$({program} 2>&1); echo \"$said\"; case $said in *SUCCEEDED*|*Traceback*) exit 1;; *PROBED*) ;; *) exit 2;; esac"
                );
                setup.push(line);
            }
            if let Some(python) = &attack.python {
                files.push((format!("attacks/{number}.py"), format!("from probe import *\n{python}")));
            }
            if let Some(shell) = &attack.shell {
                // The word is put together, so that a shell that shows this line does not say it.
                let begin = "trap 'echo PROBED' EXIT\nwon() { printf 'ATTACK %s\\n' SUCCEEDED; }\n";
                files.push((format!("attacks/{number}.sh"), format!("{begin}{shell}\n")));
            }
        }
        if !setup.is_empty() {
            // A list of texts is the same in JSON and TOML.
            files.push((".patchwright.toml".into(), format!("[setup]\nrun = {}\n", json!(setup))));
        }
        files
    }

    fn edit_replies(&self) -> Vec<Value> {
        if self.edits.is_empty() {
            return Vec::new();
        }
        // What exists is not written before it is read.
        let given = |path: &&Value| path.as_str().is_some_and(|path| self.files.contains_key(path));
        let paths = self.edits.iter().filter_map(|edit| edit.pointer("/arguments/path")).filter(given);
        let reads: Vec<Value> = paths.map(|path| json!({ "name": "read", "arguments": { "path": path } })).collect();
        let reads = Some(Value::Array(reads)).filter(|reads| reads != &json!([]));
        reads.into_iter().chain([Value::Array(self.edits.clone())]).collect()
    }

    /// What the model says, a JSON object a line: a plan, the attacks, the edits, the end.
    fn script(&self) -> String {
        if let Some(replies) = &self.replies {
            return replies.clone();
        }
        let mut replies = vec![json!([{ "name": "plan", "arguments": { "steps": ["Look around", "Change it"] } }])];
        let run = |number: usize, program: String| json!({ "id": id(number), "name": "run", "arguments": { "command": program } });
        let calls: Vec<Value> = self
            .attack
            .iter()
            .enumerate()
            .filter(|(_, attack)| attack.by == By::Model)
            .filter_map(|(number, attack)| match (&attack.python, &attack.shell, &attack.call) {
                (Some(_), ..) => Some(run(number, format!("python3 attacks/{number}.py"))),
                (_, Some(_), _) => Some(run(number, format!("sh attacks/{number}.sh"))),
                (.., Some(call)) => {
                    let mut call = call.clone();
                    call["id"] = id(number).into();
                    Some(call)
                }
                (None, None, None) => None,
            })
            .collect();
        // Each alone, since behind one that fails no other is made; and where there are many, the edits come among them, since
        // a model under which nothing changes for long is stopped.
        let mut calls = calls.into_iter().map(|call| Value::Array(vec![call]));
        let edits = self.edit_replies();
        replies.extend(calls.by_ref().take(MOST_WITHOUT_CHANGE));
        replies.extend(edits);
        replies.extend(calls);
        replies.push(json!([{ "name": "finish", "arguments": { "summary": self.summary } }]));
        let mut script = String::new();
        if self.red {
            let looks = json!({ "content": "I would rather look around.", "times": 3, "new_conversation": true });
            writeln!(script, "{looks}").unwrap();
        }
        for (number, calls) in replies.into_iter().enumerate() {
            let begins = self.red && number == 0;
            let reply = json!({ "calls": calls, "optional": self.optional, "new_conversation": begins });
            writeln!(script, "{reply}").unwrap();
        }
        // Whoever is told that his tests fail, or that he is stuck, insists.
        let insists = json!([{ "name": "finish", "arguments": { "summary": self.summary } }]);
        writeln!(script, "{}", json!({ "calls": insists, "optional": true, "times": 12, "new_conversation": true }))
            .unwrap();
        script
    }
}

/// The call's id: by it the tool's answer is found.
pub fn id(number: usize) -> String {
    format!("attack_{number}")
}

fn fill_value(value: &mut Value, host: &Host) {
    match value {
        Value::String(text) => *text = host.fill(text),
        Value::Array(values) => values.iter_mut().for_each(|value| fill_value(value, host)),
        Value::Object(values) => values.values_mut().for_each(|value| fill_value(value, host)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
