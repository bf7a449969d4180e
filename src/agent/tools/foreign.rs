//! The names that other agents' tools have: a model that knows them by heart is understood where the meaning is the same.
//!
//! A closed table: a name that is in none of the lists is unknown. Case, `_` and `-` do not count, nor does what stands
//! before a dot (`functions.read_file`). An argument is renamed only if the tool has none of its own name; one that asks
//! for what the tool does not do (`replace_all`) is refused, and one that changes nothing (`explanation`) is left out.

use serde_json::{Map, Number, Value};

use super::Tool;

/// Names of tools, besides our own.
const NAMES: [(Tool, &[&str]); 10] = [
    (Tool::Plan, &["updateplan", "makeplan", "createplan", "todowrite", "writetodos", "updatetodolist"]),
    (
        Tool::Read,
        &["readfile", "view", "viewfile", "openfile", "cat", "getfile", "getfilecontents", "showfile", "readfiles"],
    ),
    (Tool::List, &["ls", "listdir", "listdirectory", "listfiles", "listfolder", "dir"]),
    (
        Tool::Search,
        &[
            "grep",
            "grepsearch",
            "searchfiles",
            "searchcode",
            "codesearch",
            "searchfilecontent",
            "ripgrep",
            "rg",
            "findinfiles",
        ],
    ),
    (
        Tool::Replace,
        &[
            "edit",
            "editfile",
            "strreplace",
            "stringreplace",
            "searchreplace",
            "searchandreplace",
            "replaceinfile",
            "replacestring",
        ],
    ),
    (Tool::Patch, &["applypatch", "applydiff", "patchfile", "udiff"]),
    (Tool::Write, &["writefile", "writetofile", "createfile", "create", "savefile", "newfile", "overwritefile"]),
    (Tool::Delete, &["deletefile", "removefile", "remove", "rm"]),
    (
        Tool::Run,
        &[
            "bash",
            "sh",
            "shell",
            "runcommand",
            "executecommand",
            "execute",
            "exec",
            "terminal",
            "runterminalcmd",
            "runterminalcommand",
            "runshellcommand",
            "executebash",
            "localshell",
            "command",
            "runbash",
            "executeshell",
        ],
    ),
    (
        Tool::Finish,
        &["submit", "done", "complete", "attemptcompletion", "taskcomplete", "taskdone", "finalanswer", "stop"],
    ),
];

/// One tool with an argument `command` that says which of ours is meant.
const EDITORS: [&str; 4] = ["strreplaceeditor", "strreplacebasededittool", "texteditor", "editor"];

/// Arguments by our names.
const ARGUMENTS: [(Tool, &str, &[&str]); 22] = [
    (Tool::Plan, "steps", &["plan", "todos", "tasks", "items"]),
    (Tool::Read, "path", PATHS),
    (Tool::Read, "start", &["offset", "start_line", "line_start", "startline", "from"]),
    (Tool::Read, "lines", &["limit", "num_lines", "count", "line_count"]),
    (Tool::List, "path", PATHS),
    (Tool::Search, "text", &["query", "pattern", "needle", "search", "search_term", "regex_pattern", "term"]),
    (Tool::Search, "path", PATHS),
    (Tool::Search, "regex", &["is_regex", "use_regex", "isregexp"]),
    (Tool::Replace, "path", PATHS),
    (
        Tool::Replace,
        "old",
        &["old_string", "old_str", "old_text", "oldstring", "old_content", "search", "find", "original"],
    ),
    (
        Tool::Replace,
        "new",
        &["new_string", "new_str", "new_text", "newstring", "new_content", "replace", "replacement", "updated"],
    ),
    (Tool::Patch, "text", &["patch", "diff", "input", "patch_text", "content", "blocks"]),
    (Tool::Patch, "path", PATHS),
    (Tool::Write, "path", PATHS),
    (Tool::Write, "content", &["contents", "file_text", "text", "code", "body", "data", "file_content", "new_content"]),
    (Tool::Delete, "path", PATHS),
    (Tool::Run, "command", &["cmd", "script", "code", "bash", "shell", "input", "command_line", "commands"]),
    (Tool::Run, "timeout", &["timeout_seconds", "timeout_sec", "timeout_secs"]),
    (Tool::Finish, "summary", &["message", "result", "answer", "final_answer", "text", "output", "description"]),
    (Tool::Finish, "no_change_needed", &["no_changes_needed"]),
    (Tool::Search, "path", &["include_path"]),
    (Tool::List, "path", &["relative_path"]),
];

const PATHS: &[&str] = &[
    "file_path",
    "filepath",
    "filename",
    "file_name",
    "file",
    "target_file",
    "absolute_path",
    "directory",
    "dir",
    "folder",
];

/// Arguments that say nothing about what is to be done.
const IDLE: [&str; 8] =
    ["explanation", "description", "reason", "reasoning", "thought", "security_risk", "instructions", "comment"];

/// Arguments that ask for something else than the tool does, unless they have this value.
const UNLESS: [(&str, &str); 5] = [
    ("replace_all", "false"),
    ("expected_replacements", "1"),
    ("background", "false"),
    ("is_background", "false"),
    ("run_in_background", "false"),
];

/// A tool, and its arguments by our names.
pub(super) type Understood = (Tool, Map<String, Value>);

/// The tool that a name means, and its arguments by our names; `None`: the name is in no list. The error is the answer to
/// the model.
pub(super) fn understood(name: &str, arguments: &Map<String, Value>) -> Result<Option<Understood>, String> {
    let plain = plain(name);
    let own = Tool::ALL.into_iter().find(|tool| tool.name() == plain);
    let mut arguments = arguments.clone();
    let tool = if let Some(tool) = own {
        tool
    } else if EDITORS.contains(&plain.as_str()) {
        editor(name, &mut arguments)?
    } else {
        let Some((tool, _)) = NAMES.iter().find(|(_, names)| names.contains(&plain.as_str())) else { return Ok(None) };
        *tool
    };
    let tool = match tool {
        // Tools of these names also take a whole diff, or a whole file.
        Tool::Replace if !has_any(&arguments, &["old"], Tool::Replace) && has_diff(&arguments) => Tool::Patch,
        Tool::Replace
            if own.is_none()
                && arguments.contains_key("content")
                && !has_any(&arguments, &["old", "new"], Tool::Replace) =>
        {
            Tool::Write
        }
        tool => tool,
    };
    rename(tool, &mut arguments)?;
    if own.is_none() {
        complete(tool, &plain, &mut arguments);
    }
    Ok(Some((tool, arguments)))
}

/// The last part of a name in small letters, without `_` and `-`.
fn plain(name: &str) -> String {
    let last = name.trim().rsplit(['.', ':', '/']).next().unwrap_or(name);
    last.chars().filter(|letter| !matches!(letter, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

fn has_any(arguments: &Map<String, Value>, names: &[&str], tool: Tool) -> bool {
    let ours = |name: &&str| names.contains(name);
    let foreign =
        ARGUMENTS.iter().filter(|(of, name, _)| *of == tool && ours(name)).flat_map(|(_, _, others)| others.iter());
    names.iter().chain(foreign).any(|name| arguments.contains_key(*name))
}

fn has_diff(arguments: &Map<String, Value>) -> bool {
    ["diff", "patch", "blocks"].iter().any(|name| arguments.contains_key(*name))
}

/// Gives the arguments our names.
fn rename(tool: Tool, arguments: &mut Map<String, Value>) -> Result<(), String> {
    for (_, name, others) in ARGUMENTS.iter().filter(|(of, ..)| *of == tool) {
        for other in *others {
            if !arguments.contains_key(*name)
                && let Some(value) = arguments.shift_remove(*other)
            {
                arguments.insert((*name).to_owned(), value);
            }
        }
    }
    for (name, harmless) in UNLESS {
        let Some(value) = arguments.shift_remove(name) else { continue };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !text.eq_ignore_ascii_case(harmless) && !value.is_null() {
            return Err(format!("{} has no {name}; nothing was done. Make the call without it.", tool.name()));
        }
    }
    for name in IDLE {
        arguments.shift_remove(name);
    }
    Ok(())
}

/// What a foreign tool says in another way.
fn complete(tool: Tool, name: &str, arguments: &mut Map<String, Value>) {
    match tool {
        Tool::Read => lines_of_range(arguments),
        Tool::Search if name.contains("grep") || name == "rg" => {
            arguments.entry("regex").or_insert(Value::Bool(true));
        }
        Tool::Finish => {
            arguments.entry("summary").or_insert_with(|| Value::String(String::new()));
        }
        Tool::Plan
        | Tool::List
        | Tool::Search
        | Tool::Replace
        | Tool::Patch
        | Tool::Write
        | Tool::Delete
        | Tool::Run => {}
    }
}

/// `view_range: [2, 9]` or `end_line: 9` as a start and a number of lines.
fn lines_of_range(arguments: &mut Map<String, Value>) {
    if let Some(Value::Array(range)) = arguments.shift_remove("view_range")
        && let [first, last] = &range[..]
        && let (Some(first), Some(last)) = (first.as_i64(), last.as_i64())
    {
        arguments.insert("start".into(), Value::Number(first.max(1).into()));
        if last >= first {
            arguments.insert("end_line".into(), Value::Number(Number::from(last)));
        }
    }
    let end = ["end_line", "line_end", "endline", "to"].iter().find_map(|name| arguments.shift_remove(*name));
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    if let Some(end) = end.as_ref().and_then(number) {
        let start = arguments.get("start").and_then(number).unwrap_or(1);
        arguments.entry("lines").or_insert(Value::Number(Number::from((end - start + 1).max(1))));
    }
}

/// The tool that an editor's command means.
fn editor(name: &str, arguments: &mut Map<String, Value>) -> Result<Tool, String> {
    let command = arguments.shift_remove("command");
    match command.as_ref().and_then(Value::as_str).unwrap_or_default() {
        "view" => Ok(Tool::Read),
        "create" => Ok(Tool::Write),
        "str_replace" => Ok(Tool::Replace),
        other => Err(format!(
            "{name} has no command `{}` here; nothing was done. Call read, write or replace.",
            super::super::text::clip(other, 40)
        )),
    }
}
