//! Publish: exactly the tested tree becomes a commit, a branch and one pull request.

use anyhow::{Context, bail};

use super::effect::effect;
use super::guard::{self, Cleared};
use super::resume::Memory;
use super::solve::Solution;
use super::{Order, Services, UnverifiedPolicy, elapsed_milliseconds};
use crate::forge::{NewPullRequest, render};
use crate::outcome::{Conclusion, Outcome, PullRequest, Stage, Verdict};
use crate::pipeline::Delivery;
use crate::policy::Level;
use crate::secrets::Place;
use crate::store::{Effect, StoreError};
use crate::task::{IssueReference, RepositoryName, TaskId};
use crate::workspace::{Checkout, CommitId, PushExpectation};

/// The label of a pull request that a person has to look at.
const NEEDS_REVIEW: &str = "needs-review";

/// A pull request that another run of this task has opened, and what that came to.
pub(super) struct Published {
    pull_request: PullRequest,
    conclusion: Conclusion,
    branch: String,
    /// The commit that the branch holds.
    head: Option<String>,
}

/// Where the push has led.
pub(super) enum Pushed {
    /// The branch holds our commit.
    Branch(String),
    /// Another run was faster.
    Published(Published),
}

/// Looks for the pull request that an earlier run of this task has opened, in any state.
pub(super) async fn find(services: &Services, order: &Order) -> anyhow::Result<Option<Published>> {
    let Delivery::PullRequest(repository) = &order.delivery else { return Ok(None) };
    for branch in branch_names(&order.task.id) {
        if let Some(pull_request) = services.forge.pull_request_of(&order.task.id, repository, &branch).await? {
            let head = services.forge.branch(repository, &branch).await?;
            let has =
                |trailer: &str| head.as_ref().is_some_and(|head| head.message.lines().any(|line| line == trailer));
            let passed = has(&format!("Patchwright-Verdict: {}", Verdict::Verified.name()));
            let conclusion = match (passed, pull_request.draft) {
                // If it needed review, a person has marked it as ready.
                (true, false) => Conclusion::Verified,
                (true, true) if has(render::REVIEW_TRAILER) => Conclusion::NeedsReview,
                (true, true) | (false, _) => Conclusion::Unverified,
            };
            return Ok(Some(Published { pull_request, conclusion, branch, head: head.map(|head| head.commit) }));
        }
    }
    Ok(None)
}

/// Before any work is done: the pull request that there is already, or the certainty that one can be opened.
pub(super) async fn find_or_check(services: &Services, order: &Order) -> anyhow::Result<Option<Published>> {
    let found = find(services, order).await?;
    if found.is_none() {
        check_target(services, order).await?;
    }
    Ok(found)
}

async fn check_target(services: &Services, order: &Order) -> anyhow::Result<()> {
    let Delivery::PullRequest(name) = &order.delivery else { return Ok(()) };
    let repository = services.forge.repository(name).await?;
    if repository.archived {
        bail!("{name} is archived, so nothing can be pushed to it. Unarchive it, or add --dry-run for the diff");
    }
    if repository.permissions.is_some_and(|permissions| !permissions.push) {
        bail!("the token may not push to {name}. Give it write access to contents, or add --dry-run for the diff");
    }
    Ok(())
}

/// What the pull request of another run says of the task. It is ours if it holds the very commit that this task's
/// journal tells of: then all that was known of it holds again.
pub(super) fn conclude_from(
    services: &Services,
    memory: &Memory,
    found: Published,
    outcome: &mut Outcome,
) -> Conclusion {
    if let Some(known) = memory.published(found.head.as_deref()) {
        *outcome = Outcome {
            commit: found.head,
            branch: Some(found.branch),
            pull_request: Some(PullRequest { existed: false, ..found.pull_request }),
            ..known.clone()
        };
        return outcome.conclusion.clone();
    }
    let number = found.pull_request.number;
    let note =
        format!("pull request {number} of this task exists already, so nothing was done; --task-id makes a new task");
    services.events.note(&note);
    outcome.notes.push(note);
    outcome.pull_request = Some(PullRequest { existed: true, ..found.pull_request });
    found.conclusion
}

/// Whether the operator wants no pull request for such a conclusion.
pub(super) fn is_withheld(services: &Services, conclusion: &Conclusion) -> bool {
    services.settings.publish.unverified == UnverifiedPolicy::None
        && !matches!(conclusion, Conclusion::Verified | Conclusion::NeedsReview)
}

/// What becomes of a change that is not published. A budget that ran out is still the first thing to say.
pub(super) fn withhold(conclusion: Conclusion, outcome: &Outcome) -> Conclusion {
    if conclusion != Conclusion::Unverified {
        return conclusion;
    }
    let tests = outcome.verdict.as_ref().map_or("unknown", Verdict::name);
    Conclusion::Failed {
        stage: Stage::Verify,
        cause: format!("the change is not verified (tests: {tests}), and the config publishes no drafts"),
        remedy: "Set publish.unverified = \"draft\" to see such changes".into(),
        transient: false,
    }
}

/// Commits the candidate's tree, as it was tested, if none of the texts that go with it holds a secret.
pub(super) async fn commit(
    services: &Services,
    order: &Order,
    checkout: &Checkout,
    candidate: &Cleared,
    solution: &Solution,
    outcome: &mut Outcome,
) -> anyhow::Result<CommitId> {
    let author = &services.settings.author;
    let message = render::commit_message(&order.task, outcome.verdict.as_ref(), &solution.conclusion);
    let mut texts = vec![(Place::CommitMessage, format!("{}\n{}\n{message}", author.name, author.email))];
    match &order.delivery {
        Delivery::Diff => {}
        Delivery::LocalBranch(name) => texts.push((Place::Branch, name.clone())),
        Delivery::PullRequest(_) => {
            texts.extend(branch_names(&order.task.id).map(|name| (Place::Branch, name)));
            texts.push((Place::Title, render::pull_request_title(&order.task)));
            texts.push((Place::Body, render::pull_request_body(&order.task, outcome)));
        }
    }
    guard::check_texts(texts)?;
    let commit = checkout.commit(candidate.snapshot(), &message, author, Some(solution.at)).await?;
    outcome.commit = Some(commit.to_string());
    Ok(commit)
}

/// Brings the commit into the user's own repository as a new branch.
pub(super) async fn create_local_branch(
    checkout: &Checkout,
    commit: CommitId,
    name: &str,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    checkout.create_local_branch(&commit, name).await?;
    outcome.branch = Some(name.to_owned());
    Ok(())
}

/// Pushes the commit to the task's branch, unless another run of the task has published.
pub(super) async fn push(
    services: &Services,
    order: &Order,
    repository: &RepositoryName,
    checkout: &mut Checkout,
    commit: CommitId,
    outcome: &mut Outcome,
) -> anyhow::Result<Pushed> {
    // Work takes long: another run may have published meanwhile, and its pull request must keep what it was tested on.
    if let Some(found) = find(services, order).await? {
        return Ok(Pushed::Published(found));
    }
    let (branch, expectation) = choose_branch(services, &order.task.id, repository).await?;
    let is_current = base_is_current(services, repository, checkout).await;
    checkout.set_token(services.forge.git_token().await?);
    let push = async {
        match is_current {
            true => checkout.push_beside_base(&commit, &branch, &expectation).await,
            false => checkout.push(&commit, &branch, &expectation).await,
        }
    };
    let pushed = effect(order.claim.as_ref(), Effect::Push, commit.as_str(), push, |()| branch.clone()).await;
    if let Err(error) = pushed {
        if error.is::<StoreError>() {
            return Err(error);
        }
        return match find(services, order).await {
            Ok(Some(found)) => Ok(Pushed::Published(found)),
            Ok(None) | Err(_) => Err(error),
        };
    }
    outcome.branch = Some(branch.clone());
    Ok(Pushed::Branch(branch))
}

/// Opens the pull request, complete at once: what the dispatching system reads of it is read when it is opened.
pub(super) async fn open(
    services: &Services,
    order: &Order,
    repository: &RepositoryName,
    checkout: &Checkout,
    branch: String,
    conclusion: &Conclusion,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(base) = checkout.base_branch() else {
        bail!(
            "the base `{}` is no branch, so there is nothing to merge into. Give a branch as --base",
            order.base.as_deref().unwrap_or("HEAD")
        );
    };
    outcome.conclusion = conclusion.clone();
    outcome.milliseconds = elapsed_milliseconds(order.started);
    let new = NewPullRequest {
        title: render::pull_request_title(&order.task),
        body: render::pull_request_body(&order.task, outcome),
        head: branch,
        base: base.to_owned(),
        draft: *conclusion != Conclusion::Verified,
    };
    guard::check_texts(vec![(Place::Title, new.title.clone()), (Place::Body, new.body.clone())])?;
    let open = services.forge.open_pull_request(&order.task.id, repository, &new);
    let opened = effect(order.claim.as_ref(), Effect::PullRequest, &new.head, open, |opened| opened.url.clone());
    outcome.pull_request = Some(opened.await?);
    Ok(())
}

/// Puts the label on a pull request that a person has to look at. One that a person has marked as ready is left alone.
pub(super) async fn label(services: &Services, order: &Order, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(issue) = needs_label(order, outcome) else { return Ok(()) };
    let change = services.forge.change_labels(&issue, &[NEEDS_REVIEW], &[]);
    let labelled = effect(order.claim.as_ref(), Effect::ReviewLabel, NEEDS_REVIEW, change, |()| String::new()).await;
    labelled.with_context(|| format!("pull request {} could not be labelled `{NEEDS_REVIEW}`", issue.number))
}

/// The pull request, as the issue that it also is, if it wants the label.
pub(super) fn needs_label(order: &Order, outcome: &Outcome) -> Option<IssueReference> {
    let Delivery::PullRequest(repository) = &order.delivery else { return None };
    let pull_request = outcome.pull_request.as_ref().filter(|pull_request| pull_request.draft)?;
    let is_seen = outcome.policy.as_ref().is_some_and(|report| report.level() == Level::Review);
    let wants = is_seen || outcome.conclusion == Conclusion::NeedsReview;
    wants.then(|| IssueReference { repository: repository.clone(), number: pull_request.number })
}

/// The branches that may be this task's: the short name that tools look for, and one that no other task can share.
fn branch_names(task: &TaskId) -> [String; 2] {
    [crate::task::branch_name(task), format!("patchwright/{task}")]
}

/// Whether the base is still what its branch holds. Where that cannot be told, it counts as no.
async fn base_is_current(services: &Services, repository: &RepositoryName, checkout: &Checkout) -> bool {
    let (Some(branch), Some(base)) = (checkout.base_branch(), checkout.base_commit()) else { return false };
    let found = services.forge.branch(repository, branch).await;
    found.is_ok_and(|found| found.is_some_and(|found| found.commit == base.as_str()))
}

/// Takes the first name that is free, or that an earlier run of this very task has pushed.
async fn choose_branch(
    services: &Services,
    task: &TaskId,
    repository: &RepositoryName,
) -> anyhow::Result<(String, PushExpectation)> {
    let trailer = format!("Task-Id: {task}");
    for name in branch_names(task) {
        match services.forge.branch(repository, &name).await? {
            None => return Ok((name, PushExpectation::Absent)),
            Some(found) if found.message.lines().any(|line| line == trailer) => {
                let commit = CommitId::parse(&found.commit).context("the forge named no valid commit id")?;
                return Ok((name, PushExpectation::At(commit)));
            }
            Some(_) => {}
        }
    }
    bail!(
        "both branches that this task could use belong to others in {repository}. Delete one of {}",
        branch_names(task).join(", ")
    )
}
