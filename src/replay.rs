//! A recorded run is played again: the same task on the same base, with the recorded answers instead of a model. What is
//! then asked differently, or ends differently, is told.
//!
//! Commands and tests run again, in a sandbox of now: times and addresses in what they print are no difference. Of
//! several attempts, the one that won in the record is the only one that may win now: the answers come at once, and
//! whoever would be the first by that says nothing. How far the others got until then is no difference either.
//!
//! A record may be a stranger's: its limits are held to what the config may say, and its prompts are not read.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::RepositoryArgument;
use crate::config::eval::{ReplayConfig, repository_of};
use crate::event::Ended;
use crate::logging;
use crate::model::record::Record;
use crate::model::replay::{Difference, Replay};
use crate::outcome::{Conclusion, Outcome, printable};
use crate::pipeline::{self, Ending, Order, Services};
use crate::progress::{self, Progress};
use crate::service::assemble;
use crate::{sandbox, workspace};

/// Cleaning up after an interruption takes at most this long.
const GOODBYE: Duration = Duration::from_millis(1500);
/// Removing folders at the normal end takes at most this long.
const LONGEST_REMOVAL: Duration = Duration::from_secs(60);

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    Same,
    Differs,
    /// It did not get to the first question; the reason was told.
    Not,
    Interrupted,
}

/// A record that is ready to be played.
struct Play {
    record: Record,
    model: Arc<Replay>,
    services: Services,
    target: RepositoryArgument,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub same: bool,
    /// Of the record.
    pub requests: usize,
    /// The first one is where the runs part; later ones follow from it.
    pub differences: Vec<Difference>,
    /// Requests that differ in numbers alone.
    pub only_numbers: usize,
    /// Recorded answers that nobody asked for; of several attempts, of the one that counts.
    pub left_over: usize,
    /// How the ends differ; empty if they do not, or if the record has no end.
    pub ending: Vec<EndDifference>,
    /// The record was cut off.
    pub without_end: bool,
    /// Some lines of the record lack what looked like a secret.
    pub secrets_left_out: bool,
}

/// One field of the end.
#[derive(Debug, PartialEq, Serialize)]
pub struct EndDifference {
    pub field: &'static str,
    pub recorded: Value,
    pub now: Value,
}

/// The settings of a record that shape the loop; what is not there is as configured now.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Recorded {
    protocol: Option<pipeline::ProtocolChoice>,
    profile: Option<pipeline::ProfileChoice>,
    max_output_tokens: Option<u32>,
    temperature: Option<f32>,
    review: Option<pipeline::ReviewPolicy>,
    limits: RecordedLimits,
}

/// Times are not played again: the answers come at once.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RecordedLimits {
    steps: Option<u32>,
    tokens: Option<u64>,
    verify_rounds: Option<u32>,
    attempts: Option<u32>,
}

/// Plays a record and prints what came of it.
pub async fn command(
    config: &ReplayConfig,
    progress: &Arc<Progress>,
    interrupted: impl Future<Output = ()>,
    output: &mut impl Write,
) -> anyhow::Result<Played> {
    let mut interrupted = std::pin::pin!(interrupted);
    let play = tokio::select! {
        play = prepare(config, progress) => play?,
        () = &mut interrupted => {
            sandbox::await_removals(GOODBYE).await;
            return Ok(Played::Interrupted);
        }
    };
    let played = tokio::select! {
        played = run(config, &play) => played,
        () = &mut interrupted => {
            play.services.backend.close_all(GOODBYE).await;
            return Ok(Played::Interrupted);
        }
    };
    progress.finish();
    sandbox::await_removals(LONGEST_REMOVAL).await;
    workspace::await_removals(LONGEST_REMOVAL);
    match played {
        Ok(report) => {
            print(&report, config.json, output)?;
            Ok(if report.same { Played::Same } else { Played::Differs })
        }
        Err(error) => {
            progress.print(&format!("error: {error:#}"));
            Ok(Played::Not)
        }
    }
}

/// Reads the record and makes sandbox and workspace ready.
async fn prepare(config: &ReplayConfig, progress: &Arc<Progress>) -> anyhow::Result<Play> {
    let record = Record::read(&config.record)?;
    let recorded = || {
        let place = repository_of(&record.begun.repository, "/".as_ref(), &config.common.forge.server_url);
        place.context("the record's repository is not where it was. Say where it is with --repo")
    };
    let target = config.repository.clone().map_or_else(recorded, Ok)?;
    let model = Arc::new(Replay::new(&record));
    let events = progress::events(Arc::clone(progress), None)?;
    let mut services = assemble::services(&config.common, model.clone(), events).await?;
    apply(&record.begun.settings, &mut services.settings).context("the record cannot be played")?;
    services.settings.winner = record.ended.as_ref().and_then(|ended| ended.attempt);
    Ok(Play { record, model, services, target })
}

fn apply(settings: &Value, current: &mut pipeline::Settings) -> anyhow::Result<()> {
    let recorded = Recorded::deserialize(settings).context("the record's settings cannot be read")?;
    current.protocol = recorded.protocol.unwrap_or(current.protocol);
    current.profile = recorded.profile.unwrap_or(current.profile);
    current.max_output_tokens = recorded.max_output_tokens.unwrap_or(current.max_output_tokens);
    current.temperature = recorded.temperature;
    current.publish.review = recorded.review.unwrap_or_default();
    let (limits, recorded) = (&mut current.limits, recorded.limits);
    limits.steps = recorded.steps.unwrap_or(limits.steps);
    limits.tokens = recorded.tokens.unwrap_or(limits.tokens);
    limits.verify_rounds = recorded.verify_rounds.unwrap_or(limits.verify_rounds);
    limits.attempts = recorded.attempts.unwrap_or(limits.attempts);
    limits.check()
}

/// Plays the record to its end. An error: it did not get to the first question.
async fn run(config: &ReplayConfig, play: &Play) -> anyhow::Result<Report> {
    let Play { record, model, services, target } = play;
    let begun = &record.begun;
    let order = Order {
        test_command: begun.test_command.clone(),
        ..assemble::order_for_diff(&config.common, services, target, begun.task.clone(), begun.base_commit.clone())
            .await?
    };
    let outcome = match pipeline::run_task(services, &order).await {
        Ending::Reported(outcome) | Ending::Unreported { outcome, .. } | Ending::Again { outcome, .. } => outcome,
        Ending::Stopped(error) => return Err(error.into()),
        Ending::Unauthorized => anyhow::bail!("the forge refuses the credentials"),
        Ending::Limited { reason, .. } => anyhow::bail!(reason),
    };
    let ending = record.ended.as_ref().map(|ended| compare(ended, &outcome)).unwrap_or_default();
    let left_over = model.left_over(services.settings.winner);
    if let Conclusion::Failed { .. } = &outcome.conclusion
        && model.left_over(None) == record.requests.len()
        && !ending.is_empty()
    {
        anyhow::bail!("the record cannot be played: {}", progress::failure_in_words(&outcome.conclusion));
    }
    let (numbers, differences): (Vec<Difference>, Vec<Difference>) =
        model.differences().into_iter().partition(|difference| difference.only_numbers);
    Ok(Report {
        same: differences.is_empty() && left_over == 0 && ending.is_empty(),
        requests: record.requests.len(),
        differences,
        only_numbers: numbers.len(),
        left_over,
        ending,
        without_end: record.ended.is_none(),
        secrets_left_out: record.secrets_left_out,
    })
}

/// The fields of the end that differ.
fn compare(recorded: &Ended, now: &Outcome) -> Vec<EndDifference> {
    let text = |value: Option<&'static str>| value.map_or(Value::Null, Value::from);
    let verdict = |verdict: Option<&crate::outcome::Verdict>| text(verdict.map(crate::outcome::Verdict::name));
    let fields = [
        ("conclusion", kind(&recorded.conclusion, "conclusion"), kind(&now.conclusion, "conclusion")),
        ("stop", kind(&recorded.stop, "stop"), kind(&now.stop, "stop")),
        ("tests", verdict(recorded.verdict.as_ref()), verdict(now.verdict.as_ref())),
        ("tree", recorded.tree.clone().into(), now.tree.clone().into()),
        ("attempt", recorded.attempt.into(), now.attempt.into()),
        ("steps", recorded.steps.into(), now.steps.into()),
    ];
    // All attempts' steps, and how far the others got is chance.
    let is_chance = |field: &str| field == "steps" && recorded.attempt.is_some();
    let differs = |(field, recorded, now): &(&str, Value, Value)| recorded != now && !is_chance(field);
    let told = |(field, recorded, now)| EndDifference { field, recorded, now };
    fields.into_iter().filter(differs).map(told).collect()
}

/// Which case of an enum it is: what it says in words may hold places and times.
fn kind(value: &impl Serialize, tag: &str) -> Value {
    serde_json::to_value(value).ok().and_then(|value| value.get(tag).cloned()).unwrap_or_default()
}

/// Tells whether it was the same, and else the first difference.
fn print(report: &Report, json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *output, report)?;
        writeln!(output)?;
        return Ok(output.flush()?);
    }
    let line = |text: &str| printable(&logging::screened(text)).replace('\n', "\\n");
    match report.same {
        true => writeln!(output, "the same: {} requests, and the same end", report.requests)?,
        false => writeln!(output, "it differs")?,
    }
    if let Some(first) = report.differences.first() {
        match first.message {
            Some(message) => writeln!(output, "first in request {}, message {}:", first.request, message + 1)?,
            None => writeln!(output, "first in request {}, in its settings:", first.request)?,
        }
        writeln!(output, "  recorded: {}\n  now:      {}", line(&first.recorded), line(&first.now))?;
        writeln!(output, "{} of {} requests differ", report.differences.len(), report.requests)?;
    }
    if report.left_over > 0 {
        writeln!(output, "{} of {} recorded answers were not asked for", report.left_over, report.requests)?;
    }
    for EndDifference { field, recorded, now } in &report.ending {
        writeln!(output, "{field}: recorded {}, now {}", line(&recorded.to_string()), line(&now.to_string()))?;
    }
    if report.only_numbers > 0 {
        writeln!(output, "{} requests differ in numbers alone, such as times", report.only_numbers)?;
    }
    if report.without_end {
        writeln!(output, "the record was cut off: its end is not compared")?;
    }
    if report.secrets_left_out {
        writeln!(output, "what looked like a secret is not in the record, which may be why it differs")?;
    }
    Ok(output.flush()?)
}
