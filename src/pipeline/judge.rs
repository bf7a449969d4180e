//! Judge: what somebody made of a base is tested against tests that they have not seen, in a checkout of its own.

use std::time::Instant;

use anyhow::Context;

use super::{Order, Services, checkout, evidence, setup};
use crate::event::Events;
use crate::outcome::{Diff, Outcome, TestRun};
use crate::workspace::{Checkout, Files, PatchError, Snapshot};

/// A fresh checkout of the base, and the hidden tests as a change of it.
#[derive(Debug)]
pub struct Judge {
    checkout: Checkout,
    hidden: Snapshot,
}

impl Judge {
    /// Checks the base out and reads the patch with the hidden tests, which must apply to it.
    pub async fn new(services: &Services, order: &Order, hidden: &str) -> anyhow::Result<Self> {
        let checkout = checkout::prepare(services, order, &mut scratch(order)).await?;
        let hidden = snapshot_of(&checkout, hidden.as_bytes()).await.context("the test patch does not fit the base")?;
        Ok(Self { checkout, hidden })
    }

    /// Runs the tests on the base with `change`, and the hidden tests over it: a file that they touch is theirs.
    ///
    /// Nothing of the run that made the change is there but the change; what the setup installs is found as it was left.
    pub async fn run(&self, services: &Services, order: &Order, change: &Diff) -> anyhow::Result<TestRun> {
        let services = &Services { events: Events::none(), ..services.clone() };
        let outcome = &mut scratch(order);
        let change = snapshot_of(&self.checkout, &change.0).await.context("the change does not fit the base")?;
        let judged = self.checkout.overlaid(&change, &self.hidden).await?;
        let environment = setup::prepare(services, order, &self.checkout, outcome).await?;
        let export = self.checkout.export(judged.tree()).await?;
        let command = match &order.test_command {
            Some(command) => Some(command.clone()),
            // Not in the change: a manifest of its own could name a command that always passes.
            None => {
                let bare = self.checkout.overlaid(&self.checkout.base_snapshot(), &self.hidden).await?;
                let bare = self.checkout.export(bare.tree()).await?;
                evidence::detect(Files::open(&bare.tree_path())?).await?
            }
        };
        let command = command.context("no test command is known. Give the task a `test_command`")?;
        let most = services.settings.limits.tests;
        let deadline = Instant::now() + most;
        let place = environment.around(&export.tree_path(), export.hold());
        evidence::run_tests_on(services, &place, &command, deadline, most, outcome).await
    }
}

/// Nothing is no patch to git.
async fn snapshot_of(checkout: &Checkout, patch: &[u8]) -> Result<Snapshot, PatchError> {
    if patch.iter().all(u8::is_ascii_whitespace) {
        return Ok(checkout.base_snapshot());
    }
    let mut patch = patch.to_vec();
    if !patch.ends_with(b"\n") {
        patch.push(b'\n');
    }
    checkout.snapshot_of_diff(patch).await
}

/// What a stage notes of a task; nobody reads it here.
fn scratch(order: &Order) -> Outcome {
    Outcome::new(order.task.id.clone(), order.repository.clone())
}
