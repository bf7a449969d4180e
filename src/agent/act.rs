//! Acting on one call of a reply.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use serde_json::{Map, Value};

use super::stuck::Sign;
use super::text::clip;
use super::tools::{self, Action, Answer, FinishArguments, PlanArguments};
use super::{Agent, AgentError, MOST_COMPARED_FILES, MOST_PLAN_BYTES, SinceFinish};
use crate::event::Event;
use crate::outcome::StopReason;
use crate::workspace::Walk;

/// A call of a reply, before its arguments are known to fit.
pub(super) struct Wanted {
    pub(super) name: String,
    /// `Err`: the answer to the model.
    pub(super) arguments: Result<Map<String, Value>, String>,
    pub(super) repaired: bool,
}

/// What one call came to.
pub(super) enum Acted {
    Answered(Answer),
    Finished(FinishArguments),
}

impl Agent<'_> {
    /// Acts on one call: what it came to, whether it was a proper call, and whether the run goes round in circles.
    pub(super) async fn one_call(
        &mut self,
        wanted: &Wanted,
        refusal: Option<&str>,
    ) -> Result<(Acted, bool, Option<StopReason>), AgentError> {
        let step = self.spent.steps;
        let tool = clip(&wanted.name, 60);
        let arguments = match &wanted.arguments {
            Ok(arguments) => Value::Object(arguments.clone()),
            Err(_) => Value::Null,
        };
        let fingerprint = format!("{tool} {arguments}");
        self.events.emit(Event::Call { step, tool: tool.clone(), arguments });
        let begun = Instant::now();
        let action = parse(wanted);
        let fits = action.is_ok();
        let acted = match (action, refusal) {
            (Err(reason), _) => Acted::Answered(Answer::error(reason)),
            (Ok(_), Some(refusal)) => Acted::Answered(Answer::error(refusal)),
            (Ok(action), None) => self.perform(action).await?,
        };
        let mut stop = None;
        let acted = match acted {
            Acted::Answered(mut answer) if refusal.is_none() => {
                match self.circles.observe(fingerprint, &answer.text) {
                    Sign::Progress => {}
                    Sign::Nudge(what) => {
                        let nudge = self.prompts.repeated(what, &self.task)?;
                        answer.text = format!("{}\n\n{nudge}", answer.text);
                    }
                    Sign::Stuck(what) => {
                        let reason =
                            format!("the model made the same call of {tool} {what} and did not stop when told");
                        stop = Some(StopReason::Stuck { reason });
                    }
                }
                Acted::Answered(answer)
            }
            acted => acted,
        };
        let (ok, result) = match &acted {
            Acted::Answered(answer) => (answer.ok, answer.text.clone()),
            Acted::Finished(_) => (true, String::new()),
        };
        let milliseconds = milliseconds_since(begun);
        self.events.emit(Event::CallResult { step, tool, ok, result, milliseconds });
        Ok((acted, fits, stop))
    }

    async fn perform(&mut self, action: Action) -> Result<Acted, AgentError> {
        let answer = match action {
            Action::Plan(plan) => self.take_plan(&plan)?,
            Action::Run(arguments) => {
                let answer = tools::run(self.sandbox, &arguments, &self.budgets, &mut self.outputs).await?;
                if answer.ok {
                    self.since_finish = SinceFinish::Work;
                }
                answer
            }
            Action::Finish(arguments) => {
                if self.since_finish == SinceFinish::Nothing {
                    self.since_finish = SinceFinish::NothingAndTold;
                    return Ok(Acted::Answered(Answer::error(self.prompts.unchanged()?)));
                }
                let changed = self.has_changed().await?;
                let claims_no_change = arguments.no_change_needed.unwrap_or(false);
                if changed || claims_no_change || self.told_of_no_change {
                    // A claim that the tree contradicts is none.
                    let no_change_needed = Some(claims_no_change && !changed);
                    return Ok(Acted::Finished(FinishArguments { no_change_needed, ..arguments }));
                }
                self.told_of_no_change = true;
                Answer::error(self.prompts.no_change()?)
            }
            Action::Read(ref read) => match self.outputs.read(read) {
                Some(answer) => answer,
                None => {
                    let path = read.path.clone();
                    let answer = self.on_files(action).await?;
                    if answer.ok {
                        self.seen.insert(tools::normal(&path));
                    }
                    answer
                }
            },
            Action::Write(ref edit) if self.seen.insert(tools::normal(&edit.path)) => {
                match tools::protect_unseen(&self.files, edit)? {
                    Some(protected) => protected,
                    None => self.edit(tools::normal(&edit.path), action.clone()).await?,
                }
            }
            Action::Write(ref edit) => self.edit(tools::normal(&edit.path), action.clone()).await?,
            Action::Replace(ref edit) => self.edit(tools::normal(&edit.path), action.clone()).await?,
            Action::Delete(ref edit) => self.edit(tools::normal(&edit.path), action.clone()).await?,
            Action::Patch(ref patch) => {
                let paths = tools::patched_paths(patch);
                let answer = self.on_files(action).await?;
                if answer.changed {
                    self.seen.extend(paths.iter().cloned());
                    self.written.extend(paths);
                    self.since_finish = SinceFinish::Work;
                }
                answer
            }
            Action::List(_) | Action::Search(_) => self.on_files(action).await?,
        };
        Ok(Acted::Answered(answer))
    }

    fn take_plan(&mut self, plan: &PlanArguments) -> Result<Answer, AgentError> {
        let steps = plan.steps.iter().map(|step| step.trim()).filter(|step| !step.is_empty());
        let numbered: Vec<String> = steps.enumerate().map(|(at, step)| format!("{}. {step}", at + 1)).collect();
        if numbered.is_empty() {
            return Ok(Answer::error("the plan has no steps; name at least one"));
        }
        let is_first = self.plan.replace(clip(&numbered.join("\n"), MOST_PLAN_BYTES)).is_none();
        let answer = if is_first { self.prompts.planned(&self.task)? } else { self.prompts.replanned(&self.task)? };
        Ok(Answer { ok: is_first, text: answer, changed: false })
    }

    pub(super) async fn edit(&mut self, path: String, action: Action) -> Result<Answer, AgentError> {
        let answer = self.on_files(action).await?;
        if answer.changed {
            self.seen.insert(path.clone());
            self.written.insert(path);
            self.since_finish = SinceFinish::Work;
        }
        Ok(answer)
    }

    async fn on_files(&self, action: Action) -> Result<Answer, AgentError> {
        let files = self.files.clone();
        let acted = tokio::task::spawn_blocking(move || tools::act_on_files(&files, &action)).await;
        Ok(acted.map_err(|error| AgentError::Broken(error.to_string()))??)
    }

    /// Whether the tree differs from the one at the beginning, as far as paths and lengths show it.
    async fn has_changed(&self) -> Result<bool, AgentError> {
        if !self.written.is_empty() {
            return Ok(true);
        }
        let files = self.files.clone();
        let walked = tokio::task::spawn_blocking(move || files.walk(None, MOST_COMPARED_FILES)).await;
        let walk = walked.map_err(|error| AgentError::Broken(error.to_string()))??;
        Ok(fingerprint(&walk) != self.fingerprint)
    }
}

/// The action of a call; the error is the answer to the model.
fn parse(wanted: &Wanted) -> Result<Action, String> {
    let arguments = wanted.arguments.as_ref().map_err(Clone::clone)?;
    let action = Action::parse(&wanted.name, arguments)?;
    if wanted.repaired && action.tool().is_risky() {
        return Err(format!(
            "the call of {} is no strict JSON, so nothing was done. Make it again; inside of texts write line ends as \
             \\n and quotes as \\\", and no comma before a closing bracket.",
            wanted.name
        ));
    }
    Ok(action)
}

pub(super) fn fingerprint(walk: &Walk) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in &walk.files {
        (file.path.as_str(), file.length).hash(&mut hasher);
    }
    hasher.finish()
}

pub(super) fn milliseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
