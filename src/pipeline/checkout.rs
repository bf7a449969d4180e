//! Checkout: a temporary working tree of the target at the base commit.

use anyhow::bail;

use super::{Delivery, Order, Services};
use crate::forge::ForgeError;
use crate::outcome::Outcome;
use crate::task::RepositoryName;
use crate::workspace::{Checkout, Remote};

/// Refreshes the mirror and fills a temporary tree.
pub(super) async fn prepare(services: &Services, order: &Order, outcome: &mut Outcome) -> anyhow::Result<Checkout> {
    let checkout = services.workspace.checkout(&remote(services, order).await?, order.base.as_deref()).await?;
    if let Delivery::LocalBranch(name) = &order.delivery {
        checkout.check_local_branch(name).await?;
    }
    outcome.base_commit = checkout.base_commit().map(|commit| commit.to_string());
    if checkout.uncommitted_changes() {
        let note = "the folder has uncommitted changes; they are not included. Commit them first if they matter";
        services.events.note(note);
        outcome.notes.push(note.into());
    }
    if let Delivery::PullRequest(repository) = &order.delivery {
        check_mergeable(repository, order, &checkout)?;
    }
    if outcome.base_commit.is_none() {
        outcome.notes.push("the repository is empty; the change is its first commit".into());
    }
    Ok(checkout)
}

/// The remote, with the token that git uses now: an App's own is renewed while a task runs.
pub(super) async fn remote(services: &Services, order: &Order) -> Result<Remote, ForgeError> {
    match (&order.remote, &order.repository) {
        (Remote::Url { url, .. }, Some(_)) => {
            Ok(Remote::Url { url: url.clone(), token: services.forge.git_token().await? })
        }
        // Elsewhere than on the forge, its token has no business.
        (Remote::Url { .. } | Remote::Local(_), _) => Ok(order.remote.clone()),
    }
}

/// A pull request needs a branch to merge into; better said now than after an hour's work.
fn check_mergeable(repository: &RepositoryName, order: &Order, checkout: &Checkout) -> anyhow::Result<()> {
    if checkout.base_commit().is_none() {
        bail!("{repository} is empty, so there is no branch to merge into. Push a first commit, or add --dry-run");
    }
    if checkout.base_branch().is_none() {
        let base = order.base.as_deref().unwrap_or("HEAD");
        bail!("`{base}` is no branch, so there is nothing to merge into. Give a branch as --base, or add --dry-run");
    }
    Ok(())
}
