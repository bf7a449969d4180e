//! The tools: a closed set, each with a schema, limits, and answers that say what to do next.
//!
//! What a model may send instead of what the schema says (nothing else is bent):
//!
//! - a number or a truth value as a text (`"10"`, `"true"`);
//! - `plan`'s steps as one text, a step a line;
//! - a path that begins with `/workspace/`, which is what commands see;
//! - `null` for an argument that may be left out.

mod edit;
mod look;
mod run;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::model::ToolSpec;
use crate::workspace::{FileError, Files, RelativePath};

pub(super) use run::{never_ended, run};

/// The tools by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Plan,
    Read,
    List,
    Search,
    Replace,
    Write,
    Delete,
    Run,
    Finish,
}

impl Tool {
    pub const ALL: [Tool; 9] = [
        Tool::Plan,
        Tool::Read,
        Tool::List,
        Tool::Search,
        Tool::Replace,
        Tool::Write,
        Tool::Delete,
        Tool::Run,
        Tool::Finish,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Plan => "plan",
            Tool::Read => "read",
            Tool::List => "list",
            Tool::Search => "search",
            Tool::Replace => "replace",
            Tool::Write => "write",
            Tool::Delete => "delete",
            Tool::Run => "run",
            Tool::Finish => "finish",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Tool::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Whether a call must be strict JSON as written: a repaired one could do something else than was meant.
    pub fn is_risky(self) -> bool {
        match self {
            Tool::Replace | Tool::Write | Tool::Delete | Tool::Run => true,
            Tool::Plan | Tool::Read | Tool::List | Tool::Search | Tool::Finish => false,
        }
    }

    fn specification(self) -> ToolSpec {
        let (description, parameters) = match self {
            Tool::Plan => ("State your plan. Call this first, once.", schema::<PlanArguments>()),
            Tool::Read => ("Read a text file, with line numbers.", schema::<ReadArguments>()),
            Tool::List => ("List a folder.", schema::<ListArguments>()),
            Tool::Search => ("Find lines in the repository's files.", schema::<SearchArguments>()),
            Tool::Replace => ("Replace one exact piece of a file.", schema::<ReplaceArguments>()),
            Tool::Write => ("Create a file, or replace a whole file.", schema::<WriteArguments>()),
            Tool::Delete => ("Delete a file.", schema::<DeleteArguments>()),
            Tool::Run => ("Run a shell command at the repository's root.", schema::<RunArguments>()),
            Tool::Finish => ("Say that the task is done. The tests run then.", schema::<FinishArguments>()),
        };
        ToolSpec { name: self.name(), description: description.into(), parameters }
    }
}

/// All tools, as they are sent with each request.
pub fn specifications() -> Vec<ToolSpec> {
    Tool::ALL.into_iter().map(Tool::specification).collect()
}

/// The names in one line, for answers.
pub(super) fn names() -> String {
    Tool::ALL.map(Tool::name).join(", ")
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanArguments {
    #[serde(deserialize_with = "steps")]
    pub steps: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadArguments {
    pub path: String,
    /// First line, from 1
    #[serde(default, deserialize_with = "number")]
    #[schemars(with = "Option<u32>")]
    pub start: Option<u32>,
    /// How many lines; at least 60 come
    #[serde(default, deserialize_with = "number")]
    #[schemars(with = "Option<u32>")]
    pub lines: Option<u32>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListArguments {
    /// A folder; default: the root
    #[serde(default)]
    pub path: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchArguments {
    pub text: String,
    /// A folder or file to search in
    #[serde(default)]
    pub path: Option<String>,
    /// Take text as a regular expression
    #[serde(default, deserialize_with = "truth")]
    #[schemars(with = "Option<bool>")]
    pub regex: Option<bool>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceArguments {
    pub path: String,
    /// Copied exactly from the file, without line numbers; must stand there once
    pub old: String,
    pub new: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteArguments {
    pub path: String,
    /// The whole file
    pub content: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteArguments {
    pub path: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunArguments {
    pub command: String,
    /// In seconds
    #[serde(default, deserialize_with = "number")]
    #[schemars(with = "Option<u32>")]
    pub timeout: Option<u32>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishArguments {
    /// What was changed and why, in a few sentences
    pub summary: String,
    #[serde(default, deserialize_with = "truth")]
    #[schemars(with = "Option<bool>")]
    pub no_change_needed: Option<bool>,
}

/// A call whose arguments fit.
#[derive(Debug, Clone)]
pub enum Action {
    Plan(PlanArguments),
    Read(ReadArguments),
    List(ListArguments),
    Search(SearchArguments),
    Replace(ReplaceArguments),
    Write(WriteArguments),
    Delete(DeleteArguments),
    Run(RunArguments),
    Finish(FinishArguments),
}

impl Action {
    /// Parses a call; the error is the answer to the model.
    pub fn parse(name: &str, arguments: &Map<String, Value>) -> Result<Self, String> {
        let Some(tool) = Tool::named(name) else { return Err(unknown(name)) };
        let arguments = Value::Object(arguments.clone());
        match tool {
            Tool::Plan => fit(tool, arguments).map(Action::Plan),
            Tool::Read => fit(tool, arguments).map(Action::Read),
            Tool::List => fit(tool, arguments).map(Action::List),
            Tool::Search => fit(tool, arguments).map(Action::Search),
            Tool::Replace => fit(tool, arguments).map(Action::Replace),
            Tool::Write => fit(tool, arguments).map(Action::Write),
            Tool::Delete => fit(tool, arguments).map(Action::Delete),
            Tool::Run => fit(tool, arguments).map(Action::Run),
            Tool::Finish => fit(tool, arguments).map(Action::Finish),
        }
    }

    pub fn tool(&self) -> Tool {
        match self {
            Action::Plan(_) => Tool::Plan,
            Action::Read(_) => Tool::Read,
            Action::List(_) => Tool::List,
            Action::Search(_) => Tool::Search,
            Action::Replace(_) => Tool::Replace,
            Action::Write(_) => Tool::Write,
            Action::Delete(_) => Tool::Delete,
            Action::Run(_) => Tool::Run,
            Action::Finish(_) => Tool::Finish,
        }
    }
}

/// What the model reads as the result of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub ok: bool,
    pub text: String,
    /// The call changed a file.
    pub changed: bool,
}

impl Answer {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), changed: false }
    }

    pub(super) fn error(text: impl Into<String>) -> Self {
        Self { ok: false, text: format!("Error: {}", text.into()), changed: false }
    }

    fn changed(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), changed: true }
    }
}

/// Whether a call of this name changes or runs something, or ends the turn.
pub(super) fn acts(name: &str) -> bool {
    Tool::named(name).is_some_and(|tool| tool.is_risky() || tool == Tool::Finish)
}

/// Acts on files. Blocks; for `plan`, `run` and `finish`, which are no file actions, there is nothing to do here.
///
/// The error is fatal: a host that cannot write.
pub fn act_on_files(files: &Files, action: &Action) -> Result<Answer, FileError> {
    answer_of(match action {
        Action::Read(arguments) => look::read(files, arguments),
        Action::List(arguments) => look::list(files, arguments),
        Action::Search(arguments) => look::search(files, arguments),
        Action::Replace(arguments) => edit::replace(files, arguments),
        Action::Write(arguments) => edit::write(files, arguments),
        Action::Delete(arguments) => edit::delete(files, arguments),
        Action::Plan(_) | Action::Run(_) | Action::Finish(_) => Ok(Answer::ok("")),
    })
}

/// The answer to a `write` over a file that the model has not seen; `None`: there is nothing to lose.
pub(super) fn protect_unseen(files: &Files, arguments: &WriteArguments) -> Result<Option<Answer>, FileError> {
    match edit::unseen(files, arguments) {
        Ok(protected) => Ok(protected),
        Err(error) => answer_of(Err(error)).map(Some),
    }
}

/// The path as the file layer spells it, to compare paths by; a text that is no path stays as it is.
pub(super) fn normal(text: &str) -> String {
    path(text).map_or_else(|_| text.to_owned(), |path| path.to_string())
}

fn answer_of(result: Result<Answer, FileError>) -> Result<Answer, FileError> {
    match result {
        Ok(answer) => Ok(answer),
        Err(error @ FileError::DiskFull(_)) => Err(error),
        Err(error) => Ok(Answer::error(error.to_string())),
    }
}

/// A path as the model writes it, also as its commands see it.
fn path(text: &str) -> Result<RelativePath, FileError> {
    Ok(RelativePath::parse(text.strip_prefix("/workspace/").unwrap_or(text))?)
}

/// Like [`path`], where the root may be meant too.
fn folder(text: Option<&str>) -> Result<Option<RelativePath>, FileError> {
    match text.map(|text| text.trim_end_matches('/')) {
        None | Some("" | "." | "/workspace") => Ok(None),
        Some(text) => path(text).map(Some),
    }
}

fn fit<T: DeserializeOwned + JsonSchema>(tool: Tool, arguments: Value) -> Result<T, String> {
    serde_json::from_value(arguments).map_err(|error| {
        let schema = schema::<T>();
        let listed = |field: &str| match schema.get(field) {
            Some(Value::Object(map)) => map.keys().cloned().collect::<Vec<_>>().join(", "),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            Some(_) | None => String::new(),
        };
        let required = match listed("required") {
            required if required.is_empty() => String::new(),
            required => format!(" (needed: {required})"),
        };
        format!("{} takes {}{required}, but: {error}. Make the call again.", tool.name(), listed("properties"))
    })
}

fn unknown(name: &str) -> String {
    let nearest = Tool::ALL
        .map(|tool| (name_likeness(name, tool.name()), tool.name()))
        .into_iter()
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .map(|(_, nearest)| format!(" Did you mean {nearest}?"))
        .unwrap_or_default();
    format!("there is no tool `{}`.{nearest} The tools are {}.", super::text::clip(name, 60), names())
}

/// How alike two names are, from 0 to 1; a name that holds the other one counts as near.
fn name_likeness(left: &str, right: &str) -> f32 {
    let left = left.to_ascii_lowercase();
    if left.contains(right) {
        return 0.75;
    }
    if left.len() > 60 {
        return 0.0;
    }
    similar::TextDiff::from_chars(left.as_str(), right).ratio()
}

/// The schema of `T` without references, without what no model needs.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut value = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(object) = value.as_object_mut() {
        for noise in ["title", "additionalProperties"] {
            object.remove(noise);
        }
        let properties = object.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
            simplify(property);
        }
    }
    value
}

/// `["integer", "null"]` with format and bounds says no more to a model than `integer`.
fn simplify(property: &mut Value) {
    let Some(object) = property.as_object_mut() else { return };
    for noise in ["format", "minimum", "maximum", "default"] {
        object.remove(noise);
    }
    if let Some(Value::Array(types)) = object.get("type")
        && let Some(first) = types.first().cloned()
    {
        object.insert("type".into(), first);
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Loose<T> {
    Value(T),
    Text(String),
    Nothing(()),
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Loose::<u32>::deserialize(deserializer) {
        Ok(Loose::Value(number)) => Ok(Some(number)),
        Ok(Loose::Nothing(())) => Ok(None),
        Ok(Loose::Text(text)) => match text.trim() {
            "" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| serde::de::Error::custom("a whole number is needed")),
        },
        Err(_) => Err(serde::de::Error::custom("a whole number is needed")),
    }
}

fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let wrong = || serde::de::Error::custom("true or false is needed");
    match Loose::<bool>::deserialize(deserializer) {
        Ok(Loose::Value(truth)) => Ok(Some(truth)),
        Ok(Loose::Nothing(())) => Ok(None),
        Ok(Loose::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            "" => Ok(None),
            _ => Err(wrong()),
        },
        Err(_) => Err(wrong()),
    }
}

fn steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Loose::<Vec<String>>::deserialize(deserializer) {
        Ok(Loose::Value(steps)) => Ok(steps),
        Ok(Loose::Text(text)) => Ok(text.lines().map(str::to_owned).collect()),
        Ok(Loose::Nothing(())) | Err(_) => Err(serde::de::Error::custom("steps must be a list of texts")),
    }
}
