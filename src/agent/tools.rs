//! The tools: a closed set, each with a schema, limits, and answers that say what to do next.
//!
//! What a model may send instead of what the schema says (nothing else is bent):
//!
//! - a number or a truth value as a text (`"10"`, `"true"`), and the other way round for what is searched for;
//! - `plan`'s steps as one text, a step a line, or as objects with a text;
//! - a text as a list of its lines, if no line has a line end in it;
//! - a command as a program with its arguments;
//! - a path that begins with `/workspace/`, which is what commands see;
//! - `null` for an argument that may be left out;
//! - the names that other agents' tools and their arguments have ([`foreign`]).

mod arguments;
mod digest;
mod edit;
mod foreign;
mod look;
mod outputs;
mod run;
mod schema;

use serde_json::{Map, Value};

use crate::model::ToolSpec;
use crate::workspace::{FileError, Files, RelativePath};
use schema::{fit, schema};

pub use arguments::{
    DeleteArguments, FinishArguments, ListArguments, PatchArguments, PlanArguments, ReadArguments, ReplaceArguments,
    RunArguments, SearchArguments, WriteArguments,
};
pub use digest::digest;
pub use edit::apply_text;
pub(super) use edit::patched_paths;
pub use outputs::Outputs;
pub(super) use run::{never_ended, run};

/// The tools by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Plan,
    Read,
    List,
    Search,
    Replace,
    Patch,
    Write,
    Delete,
    Run,
    Finish,
}

impl Tool {
    pub const ALL: [Tool; 10] = [
        Tool::Plan,
        Tool::Read,
        Tool::List,
        Tool::Search,
        Tool::Replace,
        Tool::Patch,
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
            Tool::Patch => "patch",
            Tool::Write => "write",
            Tool::Delete => "delete",
            Tool::Run => "run",
            Tool::Finish => "finish",
        }
    }

    /// Whether a call must be strict JSON as written: a repaired one could do something else than was meant.
    pub fn is_risky(self) -> bool {
        match self {
            Tool::Replace | Tool::Patch | Tool::Write | Tool::Delete | Tool::Run => true,
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
            Tool::Patch => ("Change several places or files at once.", schema::<PatchArguments>()),
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

/// A call whose arguments fit.
#[derive(Debug, Clone)]
pub enum Action {
    Plan(PlanArguments),
    Read(ReadArguments),
    List(ListArguments),
    Search(SearchArguments),
    Replace(ReplaceArguments),
    Patch(PatchArguments),
    Write(WriteArguments),
    Delete(DeleteArguments),
    Run(RunArguments),
    Finish(FinishArguments),
}

impl Action {
    /// Parses a call; the error is the answer to the model.
    pub fn parse(name: &str, arguments: &Map<String, Value>) -> Result<Self, String> {
        let (tool, arguments) = foreign::understood(name, arguments)?.ok_or_else(|| unknown(name))?;
        let arguments = Value::Object(arguments);
        match tool {
            Tool::Plan => fit(tool, arguments).map(Action::Plan),
            Tool::Read => fit(tool, arguments).map(Action::Read),
            Tool::List => fit(tool, arguments).map(Action::List),
            Tool::Search => fit(tool, arguments).map(Action::Search),
            Tool::Replace => fit(tool, arguments).map(Action::Replace),
            Tool::Patch => fit(tool, arguments).map(Action::Patch),
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
            Action::Patch(_) => Tool::Patch,
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
    pub(in crate::agent) fn ok(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), changed: false }
    }

    pub(in crate::agent) fn error(text: impl Into<String>) -> Self {
        Self { ok: false, text: format!("Error: {}", text.into()), changed: false }
    }

    fn changed(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), changed: true }
    }
}

/// The tool that a call means; `None`: none of them.
pub(super) fn meant(name: &str, arguments: &Map<String, Value>) -> Option<Tool> {
    foreign::understood(name, arguments).ok().flatten().map(|(tool, _)| tool)
}

/// Acts on files. Blocks; for `plan`, `run` and `finish`, which are no file actions, there is nothing to do here. `page`:
/// the most tokens of a file that one answer shows.
///
/// The error is fatal: a host that cannot write.
pub fn act_on_files(files: &Files, action: &Action, page: u64) -> Result<Answer, FileError> {
    answer_of(match action {
        Action::Read(arguments) => look::read(files, arguments, page),
        Action::List(arguments) => look::list(files, arguments),
        Action::Search(arguments) => look::search(files, arguments),
        Action::Replace(arguments) => edit::replace(files, arguments),
        Action::Patch(arguments) => edit::apply_text(files, &arguments.text, arguments.path.as_deref()),
        Action::Write(arguments) => edit::write(files, arguments),
        Action::Delete(arguments) => edit::delete(files, arguments),
        Action::Plan(_) | Action::Run(_) | Action::Finish(_) => Ok(Answer::ok("")),
    })
}

/// The answer to a `write` over a file that the model has not seen; `None`: there is nothing to lose.
pub(super) fn protect_unseen(
    files: &Files,
    arguments: &WriteArguments,
    page: u64,
) -> Result<Option<Answer>, FileError> {
    match edit::unseen(files, arguments, page) {
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
    super::difference::likeness(&left, right)
}
