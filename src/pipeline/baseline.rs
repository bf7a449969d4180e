//! Baseline: the repository's tests on the base, before anything is changed.

use super::setup::Environment;
use super::{Order, Services, evidence};
use crate::event::Event;
use crate::outcome::{Outcome, TestCommand, TestRun};
use crate::workspace::Checkout;

/// What is known of the tests before the change.
pub(super) struct Tests {
    pub command: Option<TestCommand>,
    pub baseline: Option<TestRun>,
    /// What later boxes show besides their tree, with what the tests made on the base.
    pub environment: Environment,
}

/// Finds the test command and runs it on the base, in a folder and a sandbox of its own.
pub(super) async fn run(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    mut environment: Environment,
    outcome: &mut Outcome,
) -> anyhow::Result<Tests> {
    let command = match &order.test_command {
        Some(command) => Some(command.clone()),
        None => evidence::detect(checkout.files().clone()).await?,
    };
    outcome.test_command = command.clone();
    let Some(command) = command else {
        services.events.note("no test command is known for this repository; give one with --test-command");
        return Ok(Tests { command: None, baseline: None, environment });
    };
    let export = checkout.export(checkout.base_tree()).await?;
    let place = environment.around(&export.tree_path(), export.hold());
    let most = services.settings.limits.tests;
    let run = evidence::run_tests_on(services, &place, &command, order.deadline, most, outcome).await?;
    services.events.emit(Event::Tests { baseline: true, run: run.clone() });
    outcome.baseline = Some(run.clone());
    environment.add(checkout.freeze(export).await?);
    Ok(Tests { command: Some(command), baseline: Some(run), environment })
}
