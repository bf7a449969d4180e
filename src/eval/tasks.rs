//! The file of tasks: one JSON object a line, in the fields of SWE-bench.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

/// Bad lines that are named.
const MOST_NAMED: usize = 10;

/// One task. Fields that are not named here are left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance {
    pub instance_id: String,
    /// A folder (seen from the file's own, too), an address, or `OWNER/NAME`.
    pub repo: String,
    pub base_commit: String,
    pub problem_statement: String,
    /// The hidden tests.
    pub test_patch: String,
    /// Lines for `sh -c` that make the tests able to run. Absent: found in the repository.
    #[serde(default)]
    pub setup: Option<Commands>,
    /// Absent: found in the repository.
    #[serde(default)]
    pub test_command: Option<String>,
    #[serde(default)]
    pub language: Option<String>,
    /// Kept for the report; the test command's exit code judges.
    #[serde(default, rename = "FAIL_TO_PASS")]
    pub fail_to_pass: Option<Value>,
    #[serde(default, rename = "PASS_TO_PASS")]
    pub pass_to_pass: Option<Value>,
}

/// One line, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Commands {
    One(String),
    Several(Vec<String>),
}

impl Commands {
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::One(line) if line.trim().is_empty() => Vec::new(),
            Self::One(line) => vec![line.clone()],
            Self::Several(lines) => lines.clone(),
        }
    }
}

/// Reads the whole file, or says which lines are wrong, by their numbers.
pub fn read(path: &Path) -> anyhow::Result<Vec<Instance>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read the tasks of {}", path.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("{} is not UTF-8", path.display()))?;
    parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

/// As [`read`], of a text. Blank lines are skipped.
pub fn parse(text: &str) -> anyhow::Result<Vec<Instance>> {
    let mut instances: Vec<Instance> = Vec::new();
    let mut known = HashSet::new();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match parse_line(line) {
            Ok(instance) if !known.insert(instance.instance_id.clone()) => {
                wrong.push(format!("line {number}: the instance_id `{}` was there before", instance.instance_id));
            }
            Ok(instance) => instances.push(instance),
            Err(reason) => wrong.push(format!("line {number}: {reason}")),
        }
    }
    if wrong.is_empty() && instances.is_empty() {
        bail!("it holds no task");
    }
    if wrong.is_empty() {
        return Ok(instances);
    }
    let more = wrong.len().saturating_sub(MOST_NAMED);
    wrong.truncate(MOST_NAMED);
    let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
    bail!("{}{more}", wrong.join("\n"))
}

fn parse_line(line: &str) -> Result<Instance, String> {
    let instance: Instance = serde_json::from_str(line).map_err(|error| match error.column() {
        // Of a line, the number of its own line says nothing.
        0 => error.to_string(),
        column => {
            let text = error.to_string();
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            format!("{text} (column {column})")
        }
    })?;
    let fields = [
        ("instance_id", &instance.instance_id),
        ("repo", &instance.repo),
        ("base_commit", &instance.base_commit),
        ("problem_statement", &instance.problem_statement),
        ("test_patch", &instance.test_patch),
    ];
    match fields.iter().find(|(_, value)| value.trim().is_empty()) {
        Some((name, _)) => Err(format!("`{name}` is empty")),
        None => Ok(instance),
    }
}
