//! A run as text, with everything that differs from run to run made the same, for a snapshot.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::Scenario;
use super::run::Report;
use crate::github::Exchange;

static CHANGING: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
        (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{40}\b", "HASH"),
        (r"\b\d+(\.\d+)? ?(ms|s|seconds|min|µs)\b", "DURATION"),
        (r"\b[\d,.]+k? tokens\b", "N tokens"),
        (r"127\.0\.0\.1:\d+", "HOST"),
        (r"\bpid \d+", "pid N"),
    ]
    .into_iter()
    .filter_map(|(pattern, name)| Some((Regex::new(pattern).ok()?, name)))
    .collect()
});

/// The transcript: progress, the talk with the model, the requests to GitHub, the end.
pub fn render(report: &Report, scenario: &Scenario) -> String {
    let mut text = format!("# {}\n\n$ patchwright {}\n", scenario.settings.about, scenario.settings.args.join(" "));
    // What others left behind on this machine, containers for one, is no matter of this run.
    for line in report.stderr.lines().filter(|line| !line.contains("leftovers of runs that were killed")) {
        text.push_str(&format!("! {line}\n"));
    }
    text.push_str(&format!("exit {}\n", report.exit.map_or("killed".into(), |code| code.to_string())));
    if !report.model_requests.is_empty() {
        text.push_str("\n# The model\n");
        render_model(&report.model_requests, &mut text);
    }
    if !report.exchanges.is_empty() {
        text.push_str("\n# GitHub\n");
        render_exchanges(&report.exchanges, &mut text);
    }
    normalise(&text, &report.names)
}

/// Compares with `transcript.snap`; with `UPDATE_SNAPSHOTS=1` in the environment, writes it instead. The difference,
/// or `None`. A scenario without a snapshot has none to differ from.
pub fn compare(report: &Report, scenario: &Scenario) -> anyhow::Result<Option<String>> {
    let path = scenario.folder.join("transcript.snap");
    let now = render(report, scenario);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(path, now)?;
        return Ok(None);
    }
    if !path.exists() {
        return Ok(None);
    }
    let before = std::fs::read_to_string(path)?;
    if before == now {
        return Ok(None);
    }
    let diff = similar::TextDiff::from_lines(&before, &now);
    Ok(Some(diff.unified_diff().header("transcript.snap", "this run").to_string()))
}

/// How many requests git makes for one command differs with its version: those in a row become one line.
fn render_exchanges(exchanges: &[Exchange], text: &mut String) {
    let git = |exchange: &Exchange| exchange.path.contains(".git/");
    for group in exchanges.chunk_by(|left, right| git(left) && git(right)) {
        let Some(exchange) = group.first() else { continue };
        if git(exchange) {
            let pushes = group.iter().any(|exchange| exchange.path.ends_with("/git-receive-pack"));
            text.push_str(if pushes { "git push\n" } else { "git fetch\n" });
            continue;
        }
        let query: Vec<String> = exchange.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let status = exchange.status.map_or("no answer".into(), |status| status.to_string());
        text.push_str(&format!("{} {}{query} {status}\n", exchange.method, exchange.path));
    }
}

fn render_model(requests: &[Value], text: &mut String) {
    let mut seen = 0;
    for (index, request) in requests.iter().enumerate() {
        let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let from = if messages.len() >= seen { seen } else { 0 };
        text.push_str(&format!("request {}\n", index + 1));
        for message in &messages[from..] {
            let role = message["role"].as_str().unwrap_or_default();
            let content = message["content"].as_str().unwrap_or_default();
            // The prompts have snapshots of their own.
            if role != "system" && !(role == "user" && seen == 0) {
                text.push_str(&format!("  {role}: {}\n", short(content)));
            } else {
                text.push_str(&format!("  {role}\n"));
            }
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                let name = function["name"].as_str().unwrap_or_default();
                text.push_str(&format!("  -> {name} {}\n", short(function["arguments"].as_str().unwrap_or_default())));
            }
        }
        seen = messages.len();
    }
}

/// What a command says of the machine at such a length differs by a line from run to run.
const MANY: usize = 50;

fn short(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let kept: String = line.chars().take(100).collect();
    let more = text.lines().count().saturating_sub(1);
    match (kept.len() < line.len(), more) {
        (false, 0) => kept,
        (true, 0) => format!("{kept}..."),
        (_, more) if more < MANY => format!("{kept} (+{more} lines)"),
        (_, _) => format!("{kept} (+many lines)"),
    }
}

fn normalise(text: &str, names: &[(String, &'static str)]) -> String {
    let mut text = text.to_owned();
    for (changing, name) in names {
        text = text.replace(changing.as_str(), name);
    }
    for (pattern, name) in CHANGING.iter() {
        text = pattern.replace_all(&text, *name).into_owned();
    }
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
