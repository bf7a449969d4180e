//! Where a task stands, in one comment that is edited as it goes on, and on the commit.

use super::{LONGEST_LINE, Marker, agent_name, line, own_address};
use crate::outcome::{Conclusion, Outcome, Stage, Verdict};
use crate::task::TaskId;

/// GitHub's limit is 140 characters.
const LONGEST_DESCRIPTION: usize = 140;
/// The stages that every task passes; verify is within solve.
const STAGES: [Stage; 9] = [
    Stage::Intake,
    Stage::Checkout,
    Stage::Setup,
    Stage::Baseline,
    Stage::Solve,
    Stage::Commit,
    Stage::Push,
    Stage::PullRequest,
    Stage::Report,
];

/// Where a task stands.
#[derive(Debug, Clone, Copy)]
pub enum Standing<'a> {
    /// A worker has it.
    Claimed,
    /// `request`: of the model so far, 0 before the first; `most_requests`: its budget of them.
    Working { stage: Stage, request: u32, most_requests: u32 },
    /// It has ended, well or not.
    Ended(&'a Outcome),
    /// It failed for a reason that may pass.
    Again { at: jiff::Timestamp, cause: &'a str },
    /// What it needs is down, and it goes on as soon as that is back.
    Waiting { reason: &'a str },
    /// Somebody has stopped it.
    Stopped { reason: &'a str },
}

/// The status comment. `attempt` counts from 1.
pub fn status_comment(agent: &str, id: &TaskId, attempt: u32, standing: &Standing<'_>) -> String {
    let agent = agent_name(agent);
    let status = match standing {
        Standing::Claimed => format!("⏳ {agent} has claimed this task."),
        Standing::Working { stage, request, most_requests } => {
            format!("⏳ {agent} is {}.", working(*stage, *request, *most_requests))
        }
        Standing::Ended(outcome) => ended(outcome),
        Standing::Again { at, cause } => {
            let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("🔁 will be tried again at {at}: {}", line(cause, LONGEST_LINE))
        }
        Standing::Waiting { reason } => format!("⏸️ waiting: {}", line(reason, LONGEST_LINE)),
        Standing::Stopped { reason } => format!("⏹️ stopped: {}", line(reason, LONGEST_LINE)),
    };
    let attempt = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    format!("{status}\n\nTask `{id}`{attempt}. This comment is edited as the task goes on.\n\n{}", Marker::Status(id))
}

/// What a commit status says of a verdict, in its 140 characters.
pub fn verdict_description(verdict: &Verdict) -> String {
    let words = match verdict {
        Verdict::Verified => "The tests pass on exactly this tree".to_owned(),
        Verdict::Broken => "The tests fail with this change".to_owned(),
        Verdict::StillRed => "The tests fail; they failed on the base already".to_owned(),
        Verdict::Untested { reason } => format!("Not tested: {reason}"),
        Verdict::Inconclusive { reason } => format!("The tests did not get to say: {reason}"),
    };
    line(&words, LONGEST_DESCRIPTION)
}

fn working(stage: Stage, request: u32, most_requests: u32) -> String {
    let counted = if stage == Stage::Verify { Stage::Solve } else { stage };
    let number = STAGES.iter().position(|known| *known == counted).map_or(STAGES.len(), |index| index + 1);
    let step = format!("step {number} of {}", STAGES.len());
    if stage == Stage::Verify {
        return format!("testing the change, in {step}");
    }
    let working = format!("working on {step}: {}", stage.name());
    if stage == Stage::Solve && request > 0 {
        return format!("{working} (request {request} of at most {most_requests} to the model)");
    }
    working
}

fn ended(outcome: &Outcome) -> String {
    let failed = |stage: Stage, cause: &str| format!("❌ failed in `{}`: {}", stage.name(), line(cause, LONGEST_LINE));
    let status = match &outcome.conclusion {
        Conclusion::Verified => "✅ done, and the tests pass.".to_owned(),
        Conclusion::NeedsReview => "✅ done, and the tests pass; a person has to look at the change.".to_owned(),
        Conclusion::Unverified => "✅ done, but not verified.".to_owned(),
        Conclusion::NoChange => "✅ done: nothing had to be changed.".to_owned(),
        Conclusion::BudgetRanOut { budget } => {
            failed(Stage::Solve, &format!("the {} ran out before the task was done", budget.describe()))
        }
        Conclusion::Failed { stage, cause, .. } => failed(*stage, cause),
    };
    match &outcome.pull_request {
        Some(pull_request) => format!("{status}\n\nPull request: {}", own_address(&pull_request.url)),
        None => status,
    }
}
