//! What happens in a task: into the store in batches, into the metrics and the log, and a pulse for the stall detector.
//!
//! The sink never waits: where the store is slower than the task, events are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use super::Service;
use crate::config::serve::ServeConfig;
use crate::event::{Event, Events};
use crate::logging;
use crate::outcome::{Stage, Usage};
use crate::store::Claim;

/// Events on their way to the store.
const MOST_WAITING: usize = 1024;
/// Events that are written in one transaction.
const BATCH: usize = 128;
/// Bytes of an event beyond which its texts are cut.
const LONGEST_EVENT: usize = 16 * 1024;
/// Bytes of each text of such an event.
const LONGEST_TEXT: usize = 4 * 1024;
/// Writing what is left at the end takes at most this long.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);

/// The writer behind one task's events.
pub(super) struct Recorder {
    writer: JoinHandle<()>,
    pulse: Arc<Pulse>,
}

/// When the task was last heard of.
struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun`.
    last: AtomicU64,
    /// Milliseconds that it may be silent since.
    patience: AtomicU64,
}

enum Line {
    Event(String),
    Spent(Usage),
}

impl Recorder {
    /// The recorder of a claim, and the sink that feeds it.
    pub(super) fn start(service: &Arc<Service>, claim: &Claim) -> (Self, Events) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let patience = AtomicU64::new(milliseconds(service.config.queue.stall));
        let pulse = Arc::new(Pulse { begun: Instant::now(), last: AtomicU64::new(0), patience });
        let writer = tokio::spawn(write(claim.clone(), receiver));
        let events = sink(service.clone(), sender, pulse.clone());
        (Self { writer, pulse }, events)
    }

    /// How long nothing was heard of the task, if that is longer than what it does may take.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.pulse.last.load(Ordering::Relaxed));
        let patience = Duration::from_millis(self.pulse.patience.load(Ordering::Relaxed));
        let silence = self.pulse.begun.elapsed().saturating_sub(last);
        (silence > patience).then_some(silence)
    }

    /// Waits until everything is written; all sinks are gone by now.
    pub(super) async fn finish(mut self) {
        if tokio::time::timeout(LONGEST_FLUSH, &mut self.writer).await.is_err() {
            self.writer.abort();
        }
    }
}

fn sink(service: Arc<Service>, sender: Sender<Line>, pulse: Arc<Pulse>) -> Events {
    let dropped = AtomicU64::new(0);
    Events::with_attempts(move |event, attempt| {
        if event.is_for_records() {
            return;
        }
        pulse.patience.store(milliseconds(patience(&service.config, event)), Ordering::Relaxed);
        pulse.last.store(milliseconds(pulse.begun.elapsed()), Ordering::Relaxed);
        service.metrics.event(event);
        log(event);
        let send = |line: Line| sender.try_send(line).is_err();
        if let Event::Reply { usage: Some(usage), .. } = event
            && send(Line::Spent(*usage))
        {
            tracing::error!("the store is too slow: the tokens of an answer are not on the bill of the day");
        }
        if send(Line::Event(line_of(event, attempt))) && dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("the store is too slow: events of this task are dropped");
        }
    })
}

/// How long a task may be silent after an event: what comes next has a limit of its own, and the operator's is beyond it.
fn patience(config: &ServeConfig, event: &Event) -> Duration {
    let limits = &config.pipeline.limits;
    let step = match event {
        Event::StageStarted { stage } => match stage {
            Stage::Checkout | Stage::Solve | Stage::Commit | Stage::Push => config.workspace.git_timeout,
            Stage::Setup => config.pipeline.setup.limit,
            Stage::Baseline | Stage::Verify => limits.tests,
            Stage::Intake | Stage::PullRequest | Stage::Report => Duration::ZERO,
        },
        // The model is asked next: it may write a long answer, and its own silence is watched where it is read.
        Event::Message { .. } => limits.task,
        Event::Call { .. } => limits.command,
        Event::StageDone { .. }
        | Event::Note { .. }
        | Event::Reply { .. }
        | Event::CallResult { .. }
        | Event::SetupStep { .. }
        | Event::Tests { .. }
        | Event::Begun(_)
        | Event::Exchange(_)
        | Event::Ended(_) => Duration::ZERO,
    };
    config.queue.stall.saturating_add(step)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is told to the operator; never the words of a model or a repository, unless asked for.
fn log(event: &Event) {
    match event {
        Event::StageStarted { stage } => tracing::info!(stage = stage.name(), "begun"),
        Event::StageDone { stage, milliseconds } => tracing::info!(stage = stage.name(), milliseconds, "done"),
        Event::Note { text } => tracing::info!("{text}"),
        Event::SetupStep { step } => {
            tracing::info!(milliseconds = step.milliseconds, "a step of the setup {}", step.ending.describe());
        }
        Event::Tests { baseline, run } => {
            tracing::info!(baseline, milliseconds = run.milliseconds, "the tests: {}", run.ending.describe());
        }
        Event::Reply { step, milliseconds, .. } => tracing::debug!(step, milliseconds, "the model answered"),
        Event::Call { step, tool, .. } => tracing::debug!(step, tool, "call"),
        Event::CallResult { step, tool, ok, milliseconds, .. } => {
            tracing::debug!(step, tool, ok, milliseconds, "result");
        }
        Event::Message { .. } | Event::Begun(_) | Event::Exchange(_) | Event::Ended(_) => {}
    }
}

/// The event as one line of JSON, without secrets, and with long texts cut.
fn line_of(event: &Event, attempt: Option<u32>) -> String {
    let Ok(mut value) = serde_json::to_value(event) else { return String::new() };
    if let Some(attempt) = attempt {
        value["attempt"] = attempt.into();
    }
    logging::change_texts(&mut value, &|text| *text = logging::redacted(text));
    let line = value.to_string();
    if line.len() <= LONGEST_EVENT {
        return line;
    }
    logging::change_texts(&mut value, &cut);
    value.to_string()
}

fn cut(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let omitted = text.len() - end;
        text.truncate(end);
        text.push_str(&format!(" ... ({omitted} bytes left out)"));
    }
}

/// Writes what comes until the last sink is gone.
async fn write(claim: Claim, mut receiver: Receiver<Line>) {
    let mut lines = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut lines, BATCH).await > 0 {
        let mut events = Vec::with_capacity(lines.len());
        for line in lines.drain(..) {
            match line {
                Line::Event(event) => events.push(event),
                Line::Spent(usage) => {
                    if let Err(error) = claim.spend(usage, usage.micros).await {
                        tracing::error!("tokens are not on the bill of the day: {error}");
                    }
                }
            }
        }
        if !events.is_empty()
            && let Err(error) = claim.log(&events).await
        {
            tracing::warn!("events of the task are lost: {error}");
        }
    }
}
