//! What people ask of the queue and tell it: `patchwright tasks`. It works on the database, whether the service runs or
//! not.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::outcome::printable;
use crate::store::{self, Filter, State, Store, TaskRecord};

/// Characters of a cell that holds free text.
const LONGEST_CELL: usize = 60;
/// Characters of a value in an event's line.
const LONGEST_VALUE: usize = 160;
/// Names in an error about a beginning that is not unique.
const MOST_NAMES: u32 = 5;
const EVENTS_AT_ONCE: u32 = 500;
/// How often a followed task is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// Opens the service's database; a file is not made here, since an empty one would hide a wrong path.
pub async fn open(settings: &store::Settings) -> anyhow::Result<Store> {
    if let store::Settings::Sqlite { path } = settings
        && !path.exists()
    {
        bail!(
            "there is no database at {}: no service has run with this state folder. Name the service's own with \
             PATCHWRIGHT_STATE_DIR or the config key `state`",
            path.display()
        );
    }
    Ok(Store::open(settings).await?)
}

/// Prints the newest tasks.
pub async fn list(store: &Store, filter: &Filter, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    let records = store.list(filter).await?;
    if json {
        let records: Vec<Value> = records.iter().map(in_json).collect::<Result<_, _>>()?;
        return print_json(output, &Value::Array(records));
    }
    let mut rows = vec![["TASK", "STATE", "PRIORITY", "TRIES", "ADMITTED (UTC)", "ISSUE", "ABOUT"].map(str::to_owned)];
    for record in &records {
        rows.push([
            name(record),
            state_of(record),
            format!("{:?}", record.priority).to_ascii_lowercase(),
            record.attempt.to_string(),
            minute(record.admitted_at),
            line(&record.issue.to_string(), LONGEST_CELL),
            line(if record.reason.is_empty() { &record.title } else { &record.reason }, LONGEST_CELL),
        ]);
    }
    print_table(output, &rows)
}

/// Prints all that is known of a task, but for its events.
pub async fn show(store: &Store, wanted: &str, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    let record = find(store, wanted).await?;
    let journal = store.journal(record.key).await?;
    if json {
        let mut value = in_json(&record)?;
        let journal: Vec<Value> = journal
            .iter()
            .map(|(at, entry)| Ok(json!({ "at": at, "entry": serde_json::to_value(entry)? })))
            .collect::<serde_json::Result<_>>()?;
        value["body"] = record.body.clone().into();
        value["journal"] = journal.into();
        return print_json(output, &value);
    }
    let time = |time: Option<i64>| time.map(minute).unwrap_or_default();
    let lease = record
        .lease_owner
        .as_deref()
        .map(|owner| format!("{} until {}", line(owner, LONGEST_VALUE), time(record.lease_expires)));
    let mut rows = vec![
        ["task".to_owned(), name(&record)],
        ["title".to_owned(), line(&record.title, LONGEST_VALUE)],
        ["issue".to_owned(), line(&record.issue.to_string(), LONGEST_VALUE)],
        ["author".to_owned(), line(&record.author, LONGEST_VALUE)],
        ["target".to_owned(), record.target.as_ref().map(|t| line(&t.to_string(), LONGEST_VALUE)).unwrap_or_default()],
        ["state".to_owned(), state_of(&record)],
        ["reason".to_owned(), line(&record.reason, LONGEST_VALUE)],
        ["to be stopped".to_owned(), line(record.cancel.as_deref().unwrap_or_default(), LONGEST_VALUE)],
        ["tries".to_owned(), record.attempt.to_string()],
        ["held by".to_owned(), lease.unwrap_or_default()],
        ["pull request".to_owned(), line(record.pull_request.as_deref().unwrap_or_default(), LONGEST_VALUE)],
        ["admitted".to_owned(), minute(record.admitted_at)],
        ["started".to_owned(), time(record.started_at)],
        ["ended".to_owned(), time(record.ended_at)],
    ];
    rows.retain(|[_, value]| !value.is_empty());
    for (at, entry) in &journal {
        rows.push([minute(*at), entry.name()]);
    }
    print_table(output, &rows)
}

/// Queues a task that has ended again.
pub async fn retry(store: &Store, wanted: &str, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    let record = find(store, wanted).await?;
    if !store.retry(record.key, "somebody asked for another try").await? {
        let why = match record.state {
            State::Queued => "it is queued already",
            State::Running => "it is being worked. Cancel it first, or wait for its end",
            State::Completed => "it is completed and has a pull request. Edit its issue or make a new one",
            State::Refused => "it was refused. Edit its issue, or allow its author and target",
            State::Failed | State::Dead | State::Cancelled => "it has changed meanwhile. Try again",
        };
        bail!("task {} cannot be tried again: {why}", name(&record));
    }
    answer(store, &record, "is queued again", json, output).await
}

/// Stops a task that waits or runs.
pub async fn cancel(
    store: &Store,
    wanted: &str,
    reason: Option<&str>,
    json: bool,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let record = find(store, wanted).await?;
    if record.state.is_end() {
        bail!("task {} cannot be cancelled: it is {} already", name(&record), record.state.name());
    }
    let words = match store.cancel(record.key, reason.unwrap_or("cancelled by the operator")).await? {
        State::Cancelled => "is cancelled",
        State::Running => "is being stopped",
        State::Queued | State::Completed | State::Failed | State::Dead | State::Refused => {
            bail!("task {} cannot be cancelled: its outcome stands already", name(&record))
        }
    };
    answer(store, &record, words, json, output).await
}

/// Prints a task's events; `follow`: until it has ended and is reported.
pub async fn logs(
    store: &Store,
    wanted: &str,
    follow: bool,
    json: bool,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let key = find(store, wanted).await?.key;
    let mut seen = 0;
    loop {
        // Asked before its events are read: what comes after its end is not missed.
        let is_over = match store.by_key(key).await? {
            Some(record) => record.state.is_end() && !record.report_due,
            None => true,
        };
        loop {
            let events = store.events(key, seen, EVENTS_AT_ONCE).await?;
            let Some((last, ..)) = events.last() else { break };
            seen = *last;
            for (number, at, event) in &events {
                let event = serde_json::from_str(event).unwrap_or_else(|_| Value::String(event.clone()));
                match json {
                    true => writeln!(output, "{}", json!({ "number": number, "at": at, "event": event }))?,
                    false => writeln!(output, "{}  {}", second(*at), event_line(&event))?,
                }
            }
            output.flush()?;
        }
        if is_over || !follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

/// Removes tasks that ended more than `older` ago.
pub async fn prune(store: &Store, older: Duration, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    let removed = store.prune(older).await?;
    match json {
        true => print_json(output, &json!({ "removed": removed })),
        false => Ok(writeln!(output, "removed {removed} {}", if removed == 1 { "task" } else { "tasks" })?),
    }
}

async fn find(store: &Store, wanted: &str) -> anyhow::Result<TaskRecord> {
    let mut found = store.matching(wanted, MOST_NAMES).await?;
    let shown = line(wanted, LONGEST_CELL);
    match found.len() {
        0 => bail!("no task is called `{shown}`; `patchwright tasks list` shows them"),
        1 => found.pop().context("the task is gone"),
        _ => {
            let names: Vec<String> = found.iter().map(name).collect();
            bail!("several tasks begin with `{shown}`: {}. Give more of the name", names.join(", "))
        }
    }
}

/// Says what became of a task.
async fn answer(
    store: &Store,
    record: &TaskRecord,
    words: &str,
    json: bool,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let now = store.by_key(record.key).await?.context("the task was removed meanwhile")?;
        return print_json(output, &in_json(&now)?);
    }
    Ok(writeln!(output, "task {} {words}", name(record))?)
}

/// The record with its outcome as JSON, not as text that holds JSON.
fn in_json(record: &TaskRecord) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(record)?;
    if let Some(outcome) = &record.outcome
        && let Ok(outcome) = serde_json::from_str::<Value>(outcome)
    {
        value["outcome"] = outcome;
    }
    Ok(value)
}

/// What a task is called here: its id, or its issue where it has none.
fn name(record: &TaskRecord) -> String {
    record.id.as_ref().map_or_else(|| line(&record.issue.to_string(), LONGEST_CELL), ToString::to_string)
}

fn state_of(record: &TaskRecord) -> String {
    let unreported = record.report_due && record.state.is_end();
    format!("{}{}", record.state.name(), if unreported { ", unreported" } else { "" })
}

/// One event on one line: its name, then its values.
fn event_line(event: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => line(text, LONGEST_VALUE),
        other => line(&other.to_string(), LONGEST_VALUE),
    };
    let Value::Object(fields) = event else { return text(event) };
    let event = fields.get("event").map(text);
    let values = fields.iter().filter(|(key, _)| *key != "event");
    let words = values.map(|(key, value)| format!("{}={}", line(key, LONGEST_CELL), text(value)));
    event.into_iter().chain(words).collect::<Vec<_>>().join("  ")
}

/// Foreign text on one line that a terminal can show, cut after `longest` characters.
fn line(text: &str, longest: usize) -> String {
    let shown = printable(text);
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(longest) {
        Some(_) => words.chars().take(longest - 1).chain(['…']).collect(),
        None => words,
    }
}

fn minute(time: i64) -> String {
    in_format(time, "%Y-%m-%d %H:%M")
}

fn second(time: i64) -> String {
    in_format(time, "%Y-%m-%d %H:%M:%S")
}

/// In UTC; what is no time is shown as it is.
fn in_format(time: i64, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(time) {
        Ok(timestamp) => timestamp.strftime(format).to_string(),
        Err(_) => time.to_string(),
    }
}

fn print_table<const COLUMNS: usize>(output: &mut impl Write, rows: &[[String; COLUMNS]]) -> anyhow::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(output, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(output.flush()?)
}

fn print_json(output: &mut impl Write, value: &Value) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *output, value)?;
    writeln!(output)?;
    Ok(output.flush()?)
}
