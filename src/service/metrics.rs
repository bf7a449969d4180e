//! What is counted, for Prometheus. Labels are closed sets: no task, repository or person stands in one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Service;
use crate::event::Event;
use crate::outcome::{Conclusion, Outcome, StepEnding, Usage};
use crate::store::{Filter, State, TaskRecord};

/// Histograms are folded so often, or they grow between two scrapes.
const UPKEEP: Duration = Duration::from_secs(10);
const STAGE_BUCKETS: [f64; 9] = [0.05, 0.2, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];
const TASK_BUCKETS: [f64; 9] = [0.5, 2.0, 10.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 86_400.0];

/// The process's metrics.
pub(super) struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    pub(super) fn install() -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("stage_seconds".into()), &STAGE_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("model_seconds".into()), &STAGE_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("pull_request_seconds".into()), &TASK_BUCKETS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).context("metrics were installed twice")?;
        describe();
        Ok(Self { handle })
    }

    pub(super) fn polled(&self, ok: bool) {
        counter!("patchwright_polls_total", "result" => if ok { "ok" } else { "error" }).increment(1);
    }

    pub(super) fn delivered(&self, status: StatusCode) {
        let result = match status {
            StatusCode::UNAUTHORIZED => "unsigned",
            status if status.is_success() => "accepted",
            _ => "refused",
        };
        counter!("patchwright_deliveries_total", "result" => result).increment(1);
    }

    /// An attempt ended, and will be made again.
    pub(super) fn retried(&self) {
        counter!("patchwright_retries_total").increment(1);
    }

    /// A task ended.
    pub(super) fn ended(&self, task: &TaskRecord, outcome: &Outcome, now: i64) {
        let name = match &outcome.conclusion {
            Conclusion::Verified => "verified",
            Conclusion::NeedsReview => "needs_review",
            Conclusion::Unverified => "unverified",
            Conclusion::NoChange => "no_change",
            Conclusion::BudgetRanOut { .. } => "budget_ran_out",
            Conclusion::Failed { .. } => "failed",
        };
        counter!("patchwright_tasks_ended_total", "outcome" => name).increment(1);
        if outcome.pull_request.as_ref().is_some_and(|pull_request| !pull_request.existed) {
            // A webhook without a time counts from its admission.
            let begun = if task.created_at > 0 { task.created_at } else { task.admitted_at };
            let seconds = now.saturating_sub(begun).max(0) as f64 / 1000.0;
            histogram!("patchwright_dispatch_to_pull_request_seconds").record(seconds);
        }
    }

    /// What a task does.
    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::StageDone { stage, milliseconds } => {
                histogram!("patchwright_stage_seconds", "stage" => stage.name()).record(*milliseconds as f64 / 1000.0);
            }
            Event::Reply { usage, milliseconds, .. } => {
                histogram!("patchwright_model_seconds").record(*milliseconds as f64 / 1000.0);
                let Usage { prompt_tokens, completion_tokens, .. } = usage.unwrap_or_default();
                counter!("patchwright_model_tokens_total", "kind" => "prompt").increment(prompt_tokens.unwrap_or(0));
                counter!("patchwright_model_tokens_total", "kind" => "completion")
                    .increment(completion_tokens.unwrap_or(0));
            }
            Event::CallResult { tool, .. } if tool == "run" => counter!("patchwright_commands_total").increment(1),
            Event::Tests { .. } => counter!("patchwright_test_runs_total").increment(1),
            Event::SetupStep { step } => {
                let went_well = matches!(step.ending, StepEnding::Done).to_string();
                counter!("patchwright_setup_steps_total", "done" => went_well).increment(1);
            }
            Event::StageStarted { .. }
            | Event::Note { .. }
            | Event::Message { .. }
            | Event::Call { .. }
            | Event::CallResult { .. }
            | Event::Begun(_)
            | Event::Exchange(_)
            | Event::Ended(_) => {}
        }
    }

    /// Everything as text, with what is only known at this moment.
    pub(super) async fn render(&self, service: &Service) -> String {
        if let Err(error) = refresh(service).await {
            tracing::warn!("the store cannot be counted: {error}");
        }
        self.handle.render()
    }
}

/// The model's server did not answer a request.
pub(super) fn model_failed() {
    counter!("patchwright_model_errors_total").increment(1);
}

/// Folds histograms until the service stops.
pub(super) async fn keep_up(service: Arc<Service>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => service.metrics.handle.run_upkeep(),
            () = service.stop.cancelled() => return,
        }
    }
}

async fn refresh(service: &Service) -> anyhow::Result<()> {
    let counts = service.store.counts().await?;
    let states = [
        ("queued", counts.queued),
        ("running", counts.running),
        ("completed", counts.completed),
        ("failed", counts.failed),
        ("dead", counts.dead),
        ("cancelled", counts.cancelled),
        ("refused", counts.refused),
    ];
    for (state, count) in states {
        gauge!("patchwright_tasks", "state" => state).set(count as f64);
    }
    gauge!("patchwright_queue_depth").set(counts.ready as f64);
    gauge!("patchwright_queue_oldest_seconds").set(counts.oldest_ready as f64 / 1000.0);
    let running = service.store.list(&Filter { states: vec![State::Running], limit: 0 }).await?;
    let limit = i64::try_from(service.config.pipeline.limits.task.as_millis()).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::now().as_millisecond();
    let overdue = running.iter().filter(|task| task.started_at.is_some_and(|started| now - started > limit)).count();
    gauge!("patchwright_tasks_overdue").set(overdue as f64);
    let spent = service.store.spent_today(None).await?;
    gauge!("patchwright_spent_tokens_today").set(spent.tokens as f64);
    if service.config.budget.price.is_some() {
        gauge!("patchwright_spent_cost_today").set(spent.micros as f64 / 1e6);
    }
    gauge!("patchwright_paused").set(if service.health.is_paused() { 1.0 } else { 0.0 });
    let limits = service.forge.limits();
    counter!("patchwright_github_requests_total").absolute(limits.requests);
    counter!("patchwright_github_not_modified_total").absolute(limits.not_modified);
    counter!("patchwright_github_failures_total").absolute(limits.failures);
    if let Some(remaining) = limits.remaining {
        gauge!("patchwright_github_remaining").set(remaining as f64);
    }
    Ok(())
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("patchwright_tasks", "Tasks in the store, by state");
    describe_gauge!("patchwright_queue_depth", "Tasks that could begin now");
    describe_gauge!("patchwright_queue_oldest_seconds", "How long the oldest of them waits");
    describe_gauge!("patchwright_tasks_overdue", "Tasks whose attempt runs longer than their limit");
    describe_gauge!(
        "patchwright_paused",
        "1 while nothing new is begun: budgets, disk, or credentials that are refused"
    );
    describe_gauge!("patchwright_spent_tokens_today", "Tokens since midnight UTC");
    describe_gauge!(
        "patchwright_spent_cost_today",
        "Cost since midnight UTC of the answers whose tokens are known, where prices are configured"
    );
    describe_gauge!("patchwright_github_remaining", "Requests left of GitHub's primary limit");
    describe_counter!("patchwright_github_requests_total", "Requests to GitHub");
    describe_counter!("patchwright_github_not_modified_total", "Requests that GitHub answered with 304, uncounted");
    describe_counter!("patchwright_github_failures_total", "Requests to GitHub that failed");
    describe_counter!("patchwright_polls_total", "Passes over a dispatch repository, by result");
    describe_counter!("patchwright_deliveries_total", "Webhooks, by result");
    describe_counter!("patchwright_tasks_ended_total", "Tasks that ended, by outcome");
    describe_counter!("patchwright_retries_total", "Attempts that failed for transient reasons");
    describe_counter!("patchwright_commands_total", "Commands of the model in the sandbox");
    describe_counter!("patchwright_test_runs_total", "Runs of tests in the sandbox");
    describe_counter!("patchwright_egress_total", "Requests and tunnels of boxes, by the egress proxy's verdict");
    describe_counter!("patchwright_egress_bytes_total", "What they sent and received");
    describe_counter!("patchwright_model_tokens_total", "Tokens as the model's server counted them");
    describe_counter!("patchwright_model_errors_total", "Requests that the model's server did not answer");
    describe_histogram!("patchwright_model_seconds", "One answer of the model");
    describe_counter!("patchwright_setup_steps_total", "Commands that made tests able to run, by whether they did");
    describe_histogram!("patchwright_stage_seconds", "One stage of a task");
    describe_histogram!(
        "patchwright_dispatch_to_pull_request_seconds",
        "From the issue's creation to the pull request"
    );
}
