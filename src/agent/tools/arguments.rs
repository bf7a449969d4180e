//! The arguments of each tool, and what a model may send in another type.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanArguments {
    #[serde(deserialize_with = "steps")]
    pub steps: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadArguments {
    /// Also `output:1`, what a command printed
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
    #[serde(deserialize_with = "word")]
    #[schemars(with = "String")]
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
    #[serde(deserialize_with = "lines")]
    #[schemars(with = "String")]
    pub old: String,
    #[serde(deserialize_with = "lines")]
    #[schemars(with = "String")]
    pub new: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchArguments {
    /// A unified diff, or search and replace blocks
    #[serde(deserialize_with = "lines")]
    #[schemars(with = "String")]
    pub text: String,
    /// The file, if text names none
    #[serde(default)]
    pub path: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteArguments {
    pub path: String,
    /// The whole file
    #[serde(deserialize_with = "lines")]
    #[schemars(with = "String")]
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
    #[serde(deserialize_with = "command")]
    #[schemars(with = "String")]
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
    #[serde(deserialize_with = "lines")]
    #[schemars(with = "String")]
    pub summary: String,
    #[serde(default, deserialize_with = "truth")]
    #[schemars(with = "Option<bool>")]
    pub no_change_needed: Option<bool>,
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
    let wrong = || serde::de::Error::custom("steps must be a list of texts");
    match Value::deserialize(deserializer)? {
        Value::Array(steps) => steps.iter().map(step).collect::<Option<_>>().ok_or_else(wrong),
        Value::String(text) => Ok(text.lines().map(str::to_owned).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(wrong()),
    }
}

/// A step that is a text, or has one by a usual name.
fn step(step: &Value) -> Option<String> {
    match step {
        Value::String(text) => Some(text.clone()),
        Value::Object(step) => {
            let text =
                ["step", "description", "content", "task", "title", "text"].iter().find_map(|key| step.get(*key));
            text.and_then(Value::as_str).map(str::to_owned)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// A text, or a list of its lines without line ends.
fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let wrong = || serde::de::Error::custom("a text is needed, or a list of lines");
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Array(lines) => {
            let text = |line: &Value| line.as_str().filter(|line| !line.contains('\n')).map(str::to_owned);
            let lines: Vec<String> = lines.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?;
            Ok(lines.join("\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(wrong()),
    }
}

/// A text, or a number or truth value as one.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(serde::de::Error::custom("a text is needed")),
    }
}

/// A line of the shell, or a program with its arguments.
fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let wrong = || serde::de::Error::custom("command must be a text");
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?;
            Ok(match words[..] {
                ["bash" | "sh" | "/bin/bash" | "/bin/sh", "-c" | "-lc", line] => line.to_owned(),
                ref words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(wrong()),
    }
}

/// A word as the shell takes it for what it is.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./=:,+@%".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
