//! The formats of issue text.
//!
//! ```text
//! backend:  "# Agent Task Delegation" header "## Instructions" instruction "---" metadata
//! guide:    metadata anywhere, an instruction in it, or a section, or a list item
//! ```

use serde_json::{Map, Value};

use super::comments::{first_metadata, last_metadata_start, metadata_at_start, remove_comments, text_of};
use super::fences::{Kind, Line, lines, patches};
use super::{IssueReference, Rejection, RepositoryName, Task, TaskId};

/// The longest text that is read: 10 MiB.
pub const MAX_TEXT_BYTES: usize = 10 * 1024 * 1024;

const BACKEND_HEADING: &str = "# Agent Task Delegation";
const BACKEND_INSTRUCTIONS: &str = "\n## Instructions\n";
/// The title that the backend gives to a task without an instruction.
const BACKEND_EMPTY_TITLE: &str = "Agent Task";

/// The longest title: what the forge takes is 256 characters, with a prefix of ours.
const MAX_TITLE_CHARACTERS: usize = 200;
/// The longest title that is made from an instruction's first line.
const MAX_MADE_TITLE_CHARACTERS: usize = 72;

/// Parses an issue's title and body.
///
/// `Empty` if there is no body. A body that starts with the backend's heading is read as the backend writes it: the id
/// stands before all user text and nothing in the instruction can change it. Any other body is read as people write it.
pub fn parse_issue(title: &str, body: Option<&str>, issue: IssueReference) -> Result<Task, Rejection> {
    let body = body.filter(|body| !body.trim().is_empty()).ok_or(Rejection::Empty)?;
    check_length(body)?;
    let body = body.replace("\r\n", "\n");
    let first_line = body.split('\n').next().unwrap_or_default();
    let parts = if first_line.trim_end() == BACKEND_HEADING { backend(&body)? } else { guide(&body)? };
    finish(title, parts, issue)
}

/// Takes a whole text as the instruction; its first line that shows is the title.
pub fn from_command_line(text: &str, id: TaskId) -> Result<Task, Rejection> {
    check_length(text)?;
    let raw = text.replace("\r\n", "\n");
    let patches = patches(&raw)?;
    let instruction = trimmed(&remove_comments(&raw));
    if instruction.is_empty() && patches.is_empty() {
        return Err(Rejection::Malformed(
            "The task has no instruction. Say in one sentence or more what is to be done.".into(),
        ));
    }
    let title = made_title(&instruction);
    Ok(Task { id, title, instruction, patches, target: None, issue: None })
}

/// What a format yields. `instruction` is as it was written, comments and all.
struct Parts {
    id: TaskId,
    instruction: Option<String>,
    target: Option<RepositoryName>,
}

fn finish(title: &str, parts: Parts, issue: IssueReference) -> Result<Task, Rejection> {
    let title = shortened(&one_line(&remove_comments(title)), MAX_TITLE_CHARACTERS);
    let raw = parts.instruction.unwrap_or_default();
    let patches = patches(&raw)?;
    let mut instruction = trimmed(&remove_comments(&raw));
    if instruction.is_empty() && patches.is_empty() {
        if title.eq_ignore_ascii_case(BACKEND_EMPTY_TITLE) || !title.contains(char::is_alphanumeric) {
            return Err(Rejection::Malformed(
                "The task has no instruction that shows (HTML comments do not count). Write what is to be done below \
                 a line `## Instructions`."
                    .into(),
            ));
        }
        instruction = title.clone();
    }
    let title = if title.is_empty() { made_title(&instruction) } else { title };
    Ok(Task { id: parts.id, title, instruction, patches, target: parts.target, issue: Some(issue) })
}

/// Reads the backend's own format.
///
/// 1. The last metadata comment is the backend's: it was appended after all user text.
/// 2. The header ends at the first `## Instructions`; the id in it stands before all user text. Both must agree.
/// 3. The instruction is all that stands between header and metadata.
fn backend(body: &str) -> Result<Parts, Rejection> {
    let malformed = |reason: &str| {
        Rejection::Malformed(format!(
            "This looks like a delegated task, but {reason}. Leave the parts around the instruction as they were \
             written, or dispatch the task again."
        ))
    };
    let start = last_metadata_start(body).ok_or_else(|| malformed("its metadata comment is missing"))?;
    let metadata =
        metadata_at_start(&body[start..]).ok_or_else(|| malformed("its metadata comment holds no JSON object"))?;
    let before_metadata = body[..start].trim_end();
    let before_metadata = before_metadata.strip_suffix("\n---").unwrap_or(before_metadata);
    let (header, instruction) = match before_metadata.find(BACKEND_INSTRUCTIONS) {
        Some(at) => (&before_metadata[..at], Some(before_metadata[at + BACKEND_INSTRUCTIONS.len()..].to_owned())),
        None => (before_metadata, None),
    };
    let id = header
        .lines()
        .find_map(|line| line.strip_prefix("**Task ID:**"))
        .and_then(|value| TaskId::parse(without_ticks(value)))
        .ok_or_else(|| malformed("its `**Task ID:**` line is missing or holds no id"))?;
    if text_of(&metadata, "task_id") != Some(id.as_str()) {
        return Err(malformed("the id in its metadata comment is not the one in its `**Task ID:**` line"));
    }
    let written_target = || {
        lines(instruction.as_deref()?).filter(|line| line.kind == Kind::Text).find_map(|line| {
            labelled(line.text, "Target Repository").and_then(|value| RepositoryName::parse(without_ticks(value)))
        })
    };
    let target = match metadata_target(&metadata)? {
        Some(target) => Some(target),
        None => header.lines().find_map(target_line).or_else(written_target),
    };
    Ok(Parts { id, instruction, target })
}

/// Reads what people write after the guide, and what other tools write.
fn guide(body: &str) -> Result<Parts, Rejection> {
    let metadata = first_metadata(body).ok_or_else(|| {
        Rejection::Malformed(
            "There is no metadata comment with a task id. Add an HTML comment that holds `agent_task_metadata`, a space \
             and `{\"task_id\": \"an-id-of-your-own\"}`, and a section `## Instructions`."
                .into(),
        )
    })?;
    let id = text_of(&metadata, "task_id").and_then(TaskId::parse).ok_or_else(|| {
        Rejection::Malformed(
            "The task id in the metadata comment is not usable. An id is 4 to 64 letters, digits, `-` and `_`.".into(),
        )
    })?;
    let target = match metadata_target(&metadata)? {
        Some(target) => Some(target),
        None => guide_target(body)?,
    };
    let instruction = text_of(&metadata, "instruction")
        .map(|text| text.replace("\r\n", "\n"))
        .or_else(|| instruction_section(body).filter(|text| shows(text)))
        .or_else(|| instruction_item(body).filter(|text| shows(text)));
    Ok(Parts { id, instruction, target })
}

/// The text below `## Instruction` or `## Instructions`, up to the next `## `, without the lines that name the target.
fn instruction_section(body: &str) -> Option<String> {
    let is_heading = |line: &Line<'_>| line.kind == Kind::Text && line.text.starts_with("## ");
    let mut section = lines(body).skip_while(|line| !(is_heading(line) && is_instruction_heading(line.text)));
    section.next()?;
    let mut text = String::new();
    for line in section.take_while(|line| !is_heading(line)) {
        if line.kind != Kind::Text || labelled(line.text, "Target Repository").is_none() {
            text.push_str(line.text);
            text.push('\n');
        }
    }
    Some(text)
}

fn is_instruction_heading(line: &str) -> bool {
    let words = line.trim_start_matches("## ").trim().trim_end_matches('#').trim_end();
    let words = words.strip_suffix(':').unwrap_or(words).trim_end();
    words.eq_ignore_ascii_case("instruction") || words.eq_ignore_ascii_case("instructions")
}

/// The text of `- **Instruction**: ...` with the indented lines that follow.
fn instruction_item(body: &str) -> Option<String> {
    let is_marked =
        |line: &Line<'_>| line.kind == Kind::Text && line.text.trim_start().starts_with(['-', '*', '+', '_']);
    let mut rest = lines(body);
    let mut text = rest.find_map(|line| labelled(line.text, "Instruction").filter(|_| is_marked(&line)))?.to_owned();
    for line in rest.take_while(|line| line.text.trim().is_empty() || line.text.starts_with([' ', '\t'])) {
        text.push('\n');
        text.push_str(line.text);
    }
    Some(text)
}

/// `**Target:**` with a repository, else `Target Repository:`, which must then be one.
fn guide_target(body: &str) -> Result<Option<RepositoryName>, Rejection> {
    let text_lines = || lines(body).filter(|line| line.kind == Kind::Text);
    if let Some(target) = text_lines().find_map(|line| target_line(line.text)) {
        return Ok(Some(target));
    }
    match text_lines().find_map(|line| labelled(line.text, "Target Repository").filter(|value| !value.is_empty())) {
        Some(value) => repository(value).map(Some),
        None => Ok(None),
    }
}

fn metadata_target(metadata: &Map<String, Value>) -> Result<Option<RepositoryName>, Rejection> {
    match metadata.get("target_repo") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => repository(text).map(Some),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            repository("a value that is no text").map(Some)
        }
    }
}

/// A repository that the text names must be one: falling back to another would change the wrong repository.
fn repository(value: &str) -> Result<RepositoryName, Rejection> {
    let value = without_ticks(value);
    RepositoryName::parse(value).ok_or_else(|| {
        Rejection::Malformed(format!(
            "The target repository `{}` is not a repository's name. Write it as `owner/name`.",
            shortened(&one_line(&value.replace('`', "")), 100)
        ))
    })
}

/// The repository in a line like "**Target:** issue `owner/name#42`"; `None` if the line is another or names none.
fn target_line(line: &str) -> Option<RepositoryName> {
    let value = line.trim().strip_prefix("**Target:**")?.trim();
    let reference = match value.split_once('`') {
        Some((_, ticked)) => ticked.split('`').next()?,
        None => value.rsplit(char::is_whitespace).next()?,
    };
    IssueReference::parse(reference).map(|issue| issue.repository).or_else(|| RepositoryName::parse(reference))
}

/// The value of a line `label: value`, be the label plain, bold (colon inside or outside) or a list item, in any case.
fn labelled<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    let line = line.trim();
    let line = ["- ", "* ", "+ "].iter().find_map(|marker| line.strip_prefix(marker)).unwrap_or(line).trim_start();
    let unbold = |text: &'a str| text.strip_prefix("**").or_else(|| text.strip_prefix("__")).unwrap_or(text);
    let line = unbold(line);
    if !line.get(..label.len())?.eq_ignore_ascii_case(label) {
        return None;
    }
    let rest = unbold(line[label.len()..].trim_start()).trim_start();
    Some(unbold(rest.strip_prefix(':')?.trim_start()).trim())
}

fn check_length(text: &str) -> Result<(), Rejection> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(Rejection::Malformed(format!(
        "The text is {} bytes long; at most {MAX_TEXT_BYTES} are read. Shorten it, or put the long part into a file of \
         the repository and name that file.",
        text.len()
    )))
}

fn shows(text: &str) -> bool {
    !remove_comments(text).trim().is_empty()
}

fn without_ticks(value: &str) -> &str {
    value.trim().trim_matches('`').trim()
}

/// Without blank lines before and white space behind; the first line keeps its indentation.
fn trimmed(text: &str) -> String {
    let text = text.trim_end();
    let blank = text.len() - text.trim_start().len();
    let line_start = text[..blank].rfind('\n').map_or(0, |newline| newline + 1);
    text[line_start..].to_owned()
}

/// A title from the first line that says something and is no fence.
fn made_title(instruction: &str) -> String {
    lines(instruction)
        .filter(|line| line.kind == Kind::Text)
        .map(|line| one_line(line.text.trim_start_matches(['#', ' ', '\t'])))
        .find(|line| line.contains(char::is_alphanumeric))
        .map_or_else(|| "Apply the given patch".into(), |line| shortened(&line, MAX_MADE_TITLE_CHARACTERS))
}

/// White space and control characters become single spaces.
fn one_line(text: &str) -> String {
    let spaced = text.replace(char::is_control, " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `limit` characters; what was cut ends in an ellipsis.
fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit - 1).chain(['…']).collect(),
    }
}
