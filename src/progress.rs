//! Views of the event stream: progress on standard error, and the `--record` file.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::event::{Event, Events};
use crate::logging;
use crate::outcome::{self, Conclusion, Outcome, Verdict};

/// The longest text of one progress line, in characters.
const LINE: usize = 160;

/// Progress lines, with a spinner below them on a terminal.
pub struct Progress {
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// Progress on standard error.
    pub fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Self { spinner }
    }

    /// Shows an event, if it is one that a user follows.
    pub fn show(&self, event: &Event, attempt: Option<u32>) {
        if let Event::StageStarted { stage } = event
            && let Some(spinner) = &self.spinner
        {
            spinner.set_message(stage.name());
        }
        if let Some(line) = line_of(event) {
            match attempt {
                Some(number) => self.print(&format!("[attempt {number}] {line}")),
                None => self.print(&line),
            }
        }
    }

    /// Prints one line above the spinner, without the control characters of whoever wrote it.
    pub fn print(&self, line: &str) {
        let line = outcome::printable(&logging::redacted(line)).replace('\n', " ");
        match &self.spinner {
            Some(spinner) => spinner.println(line),
            // Standard error may be closed; progress is not worth failing for.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    /// Removes the spinner.
    pub fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// Events that go to `progress`, and to `record` if it is given: a new file, readable by its owner alone.
pub fn events(progress: std::sync::Arc<Progress>, record: Option<&Path>) -> anyhow::Result<Events> {
    let record = record.map(recorder).transpose()?;
    Ok(Events::with_attempts(move |event, attempt| {
        if let Some(record) = &record {
            record(event, attempt);
        }
        progress.show(event, attempt);
    }))
}

/// Events that go to `record` alone.
pub fn recorded(record: &Path) -> anyhow::Result<Events> {
    Ok(Events::with_attempts(recorder(record)?))
}

/// Writes what a record holds of an event to a new file.
fn recorder(path: &Path) -> anyhow::Result<impl Fn(&Event, Option<u32>) + Send + Sync + 'static> {
    let file = open_record(path)?;
    let started = Instant::now();
    Ok(move |event: &Event, attempt: Option<u32>| {
        // An exchange holds what these say one by one.
        if matches!(event, Event::Message { .. } | Event::Reply { .. }) {
            return;
        }
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = write_record(&mut *file, started, event, attempt) {
            tracing::error!("cannot write the record: {error}");
        }
    })
}

fn open_record(path: &Path) -> anyhow::Result<Mutex<BufWriter<std::fs::File>>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("--record {}: the file cannot be made", path.display()))?;
    Ok(Mutex::new(BufWriter::new(file)))
}

fn write_record(file: &mut impl Write, started: Instant, event: &Event, attempt: Option<u32>) -> std::io::Result<()> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        at_milliseconds: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        #[serde(flatten)]
        event: &'a Event,
    }
    let at_milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut line = serde_json::to_value(Line { at_milliseconds, attempt, event })?;
    let is_changed = Cell::new(false);
    logging::change_texts(&mut line, &|text| {
        let screened = logging::screened(text);
        is_changed.set(is_changed.get() || screened != *text);
        *text = screened;
    });
    if is_changed.get() {
        // A run again from here may differ.
        line["secrets_left_out"] = true.into();
    }
    serde_json::to_writer(&mut *file, &line)?;
    file.write_all(b"\n")?;
    file.flush()
}

/// The line that a user reads of an event; `None` for those that only a record holds.
fn line_of(event: &Event) -> Option<String> {
    let seconds = |milliseconds: &u64| format!("{}.{:02} s", milliseconds / 1000, milliseconds % 1000 / 10);
    match event {
        Event::StageStarted { .. }
        | Event::Message { .. }
        | Event::Reply { .. }
        | Event::Begun(_)
        | Event::Exchange(_)
        | Event::Ended(_) => None,
        Event::StageDone { stage, milliseconds } => Some(format!("✓ {} ({})", stage.name(), seconds(milliseconds))),
        Event::Note { text } => Some(format!("  note: {text}")),
        Event::Call { step, tool, arguments } => {
            Some(format!("  step {step}: {tool} {}", shorten(&summary_of(arguments))))
        }
        Event::CallResult { ok: true, .. } => None,
        Event::CallResult { tool, result, .. } => {
            Some(format!("    {tool}: {}", shorten(result.lines().next().unwrap_or_default())))
        }
        Event::SetupStep { step } => {
            let (name, ending) = (shorten(&step.name), step.ending.describe());
            Some(format!("  setup: {name} {ending} ({})", seconds(&step.milliseconds)))
        }
        Event::Tests { baseline, run } => {
            let tree = if *baseline { "the base" } else { "the result" };
            let (command, ending) = (shorten(&run.command), run.ending.describe());
            Some(format!("  tests on {tree}: `{command}` {ending} ({})", seconds(&run.milliseconds)))
        }
    }
}

/// The arguments of a call in one line: its short texts, without the bodies of files.
fn summary_of(arguments: &serde_json::Value) -> String {
    let Some(object) = arguments.as_object() else { return String::new() };
    let short = object.iter().filter_map(|(name, value)| match value {
        serde_json::Value::String(text) if text.len() <= 80 && !text.contains('\n') => Some(format!("{name}={text}")),
        serde_json::Value::String(text) => Some(format!("{name}=({} characters)", text.chars().count())),
        serde_json::Value::Number(number) => Some(format!("{name}={number}")),
        _ => None,
    });
    short.collect::<Vec<_>>().join(" ")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The last lines for the user: what became of the task, and what to do next.
pub fn closing_lines(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match &outcome.conclusion {
        Conclusion::Verified => "verified: the tests pass on exactly this change".to_owned(),
        Conclusion::NeedsReview => {
            let why = outcome.why_review().unwrap_or_else(|| "a person has to look".into());
            format!("verified: the tests pass on exactly this change; but {why}")
        }
        Conclusion::Unverified => format!("not verified: {}", verdict_in_words(outcome)),
        Conclusion::NoChange => "no change was needed".to_owned(),
        Conclusion::BudgetRanOut { budget } => {
            format!("the {} ran out; raise it with a flag or in the config", budget.describe())
        }
        Conclusion::Failed { .. } => failure_in_words(&outcome.conclusion),
    });
    if let Some(pull_request) = &outcome.pull_request {
        let kind = if pull_request.draft { "draft pull request" } else { "pull request" };
        lines.push(format!("{kind}: {}", pull_request.url));
    }
    lines
}

/// Stage, cause and remedy of a failure; nothing for other conclusions.
pub fn failure_in_words(conclusion: &Conclusion) -> String {
    match conclusion {
        Conclusion::Failed { stage, cause, remedy, .. } => {
            let remedy = if remedy.is_empty() { String::new() } else { format!(". {remedy}") };
            format!("failed in stage `{}`: {cause}{remedy}", stage.name())
        }
        Conclusion::Verified
        | Conclusion::NeedsReview
        | Conclusion::Unverified
        | Conclusion::NoChange
        | Conclusion::BudgetRanOut { .. } => String::new(),
    }
}

fn verdict_in_words(outcome: &Outcome) -> String {
    match &outcome.verdict {
        Some(Verdict::Verified) => "the tests pass, but the model stopped before it was done".to_owned(),
        Some(Verdict::Broken) => "the tests passed on the base and fail on the change".to_owned(),
        Some(Verdict::StillRed) => "the tests failed before the change and still do".to_owned(),
        Some(Verdict::Untested { reason } | Verdict::Inconclusive { reason }) => reason.clone(),
        None => "the tests did not run".to_owned(),
    }
}
