//! Checkout: a temporary working tree of the target at the base commit.

use super::{Delivery, Order, Services};
use crate::outcome::Outcome;
use crate::workspace::{Checkout, Remote};

/// Refreshes the mirror and fills a temporary tree.
pub(super) async fn prepare(services: &Services, order: &Order, outcome: &mut Outcome) -> anyhow::Result<Checkout> {
    let checkout = services.workspace.checkout(&order.remote, order.base.as_deref()).await?;
    if let Delivery::LocalBranch(name) = &order.delivery {
        checkout.check_local_branch(name).await?;
    }
    outcome.base_commit = checkout.base_commit().map(|commit| commit.to_string());
    if checkout.uncommitted_changes() {
        let note = "the folder has uncommitted changes; they are not included. Commit them first if they matter";
        services.events.note(note);
        outcome.notes.push(note.into());
    }
    if let Remote::Url { .. } = order.remote
        && outcome.base_commit.is_none()
    {
        outcome.notes.push("the repository is empty; the change is its first commit".into());
    }
    Ok(checkout)
}
