//! What a record says of a task, so that it can be run again. Pure.

use serde_json::{Value, json};

use super::{Order, Services, Settings};
use crate::event::{Begun, Ended, Event, RECORD_FORMAT};
use crate::outcome::Outcome;
use crate::workspace::Remote;

/// The task on its base, and what shapes the loop.
pub(super) fn begun(services: &Services, order: &Order, outcome: &Outcome) -> Event {
    let repository = match &order.remote {
        Remote::Local(folder) => folder.display().to_string(),
        Remote::Url { url, .. } => url.to_string(),
    };
    Event::Begun(Box::new(Begun {
        format: RECORD_FORMAT,
        patchwright: env!("CARGO_PKG_VERSION").into(),
        task: order.task.clone(),
        repository,
        base_commit: outcome.base_commit.clone(),
        test_command: order.test_command.clone(),
        // A card is texts and numbers.
        model: services.model.as_ref().and_then(|model| serde_json::to_value(model.card()).ok()),
        settings: shaping(&services.settings),
    }))
}

/// The settings that shape the loop.
pub fn shaping(settings: &Settings) -> Value {
    let limits = &settings.limits;
    json!({
        "protocol": settings.protocol,
        "profile": settings.profile,
        "max_output_tokens": settings.max_output_tokens,
        "temperature": settings.temperature,
        "review": settings.publish.review,
        "limits": {
            "task_seconds": limits.task.as_secs(),
            "test_seconds": limits.tests.as_secs(),
            "command_seconds": limits.command.as_secs(),
            "steps": limits.steps,
            "tokens": limits.tokens,
            "cost_micros": limits.cost.map(|cost| cost.micros),
            "verify_rounds": limits.verify_rounds,
            "attempts": limits.attempts,
        },
    })
}

/// What the task came to.
pub(super) fn ended(outcome: &Outcome) -> Event {
    Event::Ended(Box::new(Ended {
        conclusion: outcome.conclusion.clone(),
        stop: outcome.stop.clone(),
        verdict: outcome.verdict.clone(),
        tree: outcome.tree.clone(),
        attempt: outcome.attempt,
        steps: outcome.steps,
        usage: outcome.usage,
        milliseconds: outcome.milliseconds,
    }))
}
