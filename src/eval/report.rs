//! Results as a table, as JSON, and as one page of HTML that needs nothing else. Rendering is pure.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use serde_json::json;

use super::results::{self, Row, Status};
use super::statistics::Interval;
use super::summary::{Group, groups, label};
use crate::outcome::printable;

pub const JSON: &str = "report.json";
pub const PAGE: &str = "report.html";
const TEMPLATE: &str = include_str!("report.html");
/// Characters of a reason in the table.
const LONGEST_REASON: usize = 120;

/// Writes both reports beside the results; each is whole at any time.
pub fn write(folder: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(&value(rows))?;
    for (name, text) in [(JSON, json), (PAGE, page(rows)?)] {
        let half = folder.join(format!(".{name}.new"));
        let written = results::write(&half, text.as_bytes()).and_then(|()| std::fs::rename(&half, folder.join(name)));
        written.with_context(|| format!("{name} cannot be written to {}", folder.display()))?;
    }
    Ok(())
}

/// The figures and all rows.
pub fn value(rows: &[Row]) -> serde_json::Value {
    json!({ "groups": groups(rows), "rows": rows })
}

/// The table for a terminal: the figures, why runs stopped, and what was not resolved.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        [
            "MODEL",
            "PROFILE",
            "SETTINGS",
            "RESOLVED",
            "RATE",
            "95 %",
            "FOR REVIEW",
            "TOKENS IN",
            "CACHED",
            "OUT",
            "COST",
            "S EACH",
            "STEPS",
        ]
        .map(str::to_owned),
    ];
    let groups = groups(rows);
    for group in &groups {
        lines.push([
            printable(&group.model),
            printable(&group.profile),
            printable(&group.settings),
            format!("{}/{}", group.resolved, group.count),
            group.rate.map_or_else(|| "-".into(), percent),
            interval(group.interval),
            group.for_review.to_string(),
            tokens(group.prompt_tokens),
            tokens(group.cached_tokens),
            tokens(group.completion_tokens),
            cost(group.cost_micros),
            group.mean_seconds.map_or_else(|| "-".into(), |seconds| format!("{seconds:.1}")),
            group.mean_steps.map_or_else(|| "-".into(), |steps| format!("{steps:.1}")),
        ]);
    }
    let mut text = columns(&lines);
    for group in &groups {
        let stops: Vec<String> =
            group.stops.iter().map(|(stop, count)| format!("{} {count}", printable(stop))).collect();
        let errors = if group.errors > 0 { format!("; not to be run: {}", group.errors) } else { String::new() };
        let _ = write!(text, "\n{}: {}{errors}", printable(&group.label()), stops.join(", "));
    }
    let open: Vec<&Row> = rows.iter().filter(|row| row.status != Status::Resolved).collect();
    if !open.is_empty() {
        text.push_str("\n\nNot resolved:\n");
        let line = |row: &&Row| [name_of(row, groups.len() > 1), shorten(&row.reason)];
        text.push_str(&columns(&open.iter().map(line).collect::<Vec<_>>()));
    }
    text.push('\n');
    text
}

fn name_of(row: &Row, several: bool) -> String {
    let run = if row.run > 1 { format!(" run {}", row.run) } else { String::new() };
    let who = if several { format!(" ({})", label(&row.model, &row.profile, &row.settings)) } else { String::new() };
    printable(&format!("{}{run}{who}", row.instance_id))
}

fn columns<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |line: &[String; COLUMNS]| {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

fn shorten(text: &str) -> String {
    let words = printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// The page. Whatever a task, a model or a test said is a value of the template, and escaped there.
pub fn page(rows: &[Row]) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::Html);
    let groups = groups(rows);
    let shown: Vec<Shown<'_>> = groups.iter().map(Shown::of).collect();
    let page = Page { groups: shown, instances: instances(rows, &groups), open: open(rows) };
    environment.render_str(TEMPLATE, Serde(page)).context("the page cannot be rendered")
}

/// What the template shows.
#[derive(Serialize)]
struct Page<'a> {
    groups: Vec<Shown<'a>>,
    instances: Vec<Instance<'a>>,
    open: Vec<&'a Row>,
}

/// A group in words.
#[derive(Serialize)]
struct Shown<'a> {
    group: &'a Group,
    rate: String,
    interval: String,
    percent: f64,
    low: f64,
    high: f64,
    prompt: String,
    cached: String,
    completion: String,
    cost: String,
    seconds: String,
    steps: String,
}

impl<'a> Shown<'a> {
    fn of(group: &'a Group) -> Self {
        let of_hundred = |share: f64| (share * 1000.0).round() / 10.0;
        let unknown = || "unknown".to_owned();
        Self {
            rate: group.rate.map_or_else(unknown, percent),
            interval: interval(group.interval),
            percent: of_hundred(group.rate.unwrap_or(0.0)),
            low: of_hundred(group.interval.low),
            high: of_hundred(group.interval.high),
            prompt: tokens(group.prompt_tokens),
            cached: tokens(group.cached_tokens),
            completion: tokens(group.completion_tokens),
            cost: cost(group.cost_micros),
            seconds: group.mean_seconds.map_or_else(unknown, |seconds| format!("{seconds:.1}")),
            steps: group.mean_steps.map_or_else(unknown, |steps| format!("{steps:.1}")),
            group,
        }
    }
}

/// One instance, and how each group's runs of it ended.
#[derive(Serialize)]
struct Instance<'a> {
    id: &'a str,
    cells: Vec<Vec<&'a Row>>,
}

fn instances<'a>(rows: &'a [Row], groups: &[Group]) -> Vec<Instance<'a>> {
    let mut ids: Vec<&str> = Vec::new();
    for row in rows {
        if !ids.contains(&row.instance_id.as_str()) {
            ids.push(&row.instance_id);
        }
    }
    let runs = |id: &str, group: &Group| -> Vec<&'a Row> {
        rows.iter().filter(|row| row.instance_id == id && group.holds(row)).collect()
    };
    let cells = |id: &str| groups.iter().map(|group| runs(id, group)).collect();
    ids.into_iter().map(|id| Instance { id, cells: cells(id) }).collect()
}

fn open(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| row.status != Status::Resolved).collect()
}

/// `55.6 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `40 to 70 %`.
pub fn interval(interval: Interval) -> String {
    format!("{:.0} to {:.0} %", interval.low * 100.0, interval.high * 100.0)
}

/// `12,345`; unknown is unknown.
fn tokens(count: Option<u64>) -> String {
    let Some(count) = count else { return "unknown".into() };
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cost(micros: Option<u64>) -> String {
    micros.map_or_else(|| "unknown".into(), |micros| format!("{:.4}", micros as f64 / 1e6))
}
