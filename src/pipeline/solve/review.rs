//! Review before publishing, where the operator wants it: the model looks at a change whose tests pass. What it finds goes
//! back to the agent once; what it finds then is told, and a person has to look.

use super::{Judged, Judgement, Work};
use crate::agent::Agent;
use crate::outcome::{Outcome, StopReason, Verdict};
use crate::pipeline::ReviewPolicy;
use crate::workspace::TreeId;

/// What was looked at so far.
#[derive(Default)]
pub(super) struct Review {
    /// The change that went back to the agent, and why.
    sent_back: Option<(Judged, Vec<String>)>,
}

/// What follows a look.
pub(super) enum Looked {
    /// The agent works on.
    SentBack,
    Done(Option<Judged>),
}

impl Review {
    /// Looks at what an agent has finished with, if its tests pass.
    pub(super) async fn look(
        &mut self,
        work: Work<'_>,
        agent: &mut Agent<'_>,
        stop: &StopReason,
        judged: Option<Judged>,
        outcome: &mut Outcome,
    ) -> anyhow::Result<Looked> {
        let policy = work.services.settings.publish.review;
        outcome.review.clear();
        let judged = match judged {
            Some(judged) if policy != ReviewPolicy::Off && *stop == StopReason::Finished && is_green(&judged) => judged,
            judged => return Ok(Looked::Done(judged)),
        };
        if let Some((before, findings)) = &self.sent_back
            && is_same(before, judged.snapshot.tree())
        {
            outcome.review.clone_from(findings);
            return Ok(Looked::Done(Some(judged)));
        }
        let diff = work.checkout.diff(&judged.snapshot).await?.patch;
        let Some(findings) = agent.review(&String::from_utf8_lossy(&diff)).await? else {
            work.services.events.note("the change was not reviewed: the model gave no answer to it");
            return Ok(Looked::Done(Some(judged)));
        };
        work.services.events.note(format!("the review of the change has {} findings", findings.len()));
        if policy == ReviewPolicy::SendBack && self.sent_back.is_none() && !findings.is_empty() {
            agent.hand_back(&findings)?;
            self.sent_back = Some((judged, findings));
            return Ok(Looked::SentBack);
        }
        outcome.review = findings;
        Ok(Looked::Done(Some(judged)))
    }

    /// The last word: where what came after the findings does not pass the tests, the change that they were about, with
    /// them.
    pub(super) fn settle(self, judged: Option<Judged>, outcome: &mut Outcome) -> Option<Judged> {
        match self.sent_back {
            Some((before, findings)) if !judged.as_ref().is_some_and(is_green) => {
                outcome.stop = Some(StopReason::Finished);
                outcome.review = findings;
                Some(before)
            }
            Some(_) | None => judged,
        }
    }
}

fn is_green(judged: &Judged) -> bool {
    matches!(judged.judgement, Judgement::Tested { verdict: Verdict::Verified, .. })
}

fn is_same(judged: &Judged, tree: &TreeId) -> bool {
    judged.snapshot.tree() == tree
}
