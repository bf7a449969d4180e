//! Carrying out one call.

use std::time::Instant;

use serde_json::{Map, Value};

use super::act::Wanted;
use super::protocol::Protocol;
use super::state::hash_of;
use super::stuck::{Deed, Kind};
use super::text::clip;
use super::tools::{self, Action, Answer, FinishArguments, PlanArguments};
use super::{Agent, AgentError, MOST_COMPARED_FILES, MOST_PLAN_BYTES, SinceFinish};
use crate::event::Event;
use crate::outcome::TestEnding;

/// The most of what a call was about that a nudge repeats.
const MOST_TOPIC_BYTES: usize = 100;

/// What one call came to.
pub(super) enum Acted {
    Answered(Answer),
    Finished(FinishArguments),
    /// It says that all is done, but no file differs.
    DoneForNothing(FinishArguments, Answer),
}

/// One call, carried out.
pub(super) struct Done {
    pub(super) acted: Acted,
    /// A hash of its name and arguments.
    pub(super) call: u64,
    /// It was a proper call.
    pub(super) fits: bool,
    pub(super) kind: Kind,
}

impl Agent<'_> {
    /// Acts on one call.
    pub(super) async fn one_call(&mut self, wanted: &Wanted) -> Result<Done, AgentError> {
        let step = self.spent.steps;
        let tool = clip(&wanted.name, 60);
        let arguments = match &wanted.arguments {
            Ok(arguments) => Value::Object(arguments.clone()),
            Err(_) => Value::Null,
        };
        let call = hash_of((&tool, arguments.to_string()));
        let topic = wanted.arguments.as_ref().map(topic_of).unwrap_or_default();
        self.events.emit(Event::Call { step, tool: tool.clone(), arguments });
        let begun = Instant::now();
        let action = parse(wanted);
        let fits = action.is_ok();
        let (acted, kind) = match action {
            Err(reason) => (Acted::Answered(Answer::error(reason)), Kind::Talks),
            Ok(action) => self.perform(action).await?,
        };
        let (ok, result) = match &acted {
            Acted::Answered(answer) | Acted::DoneForNothing(_, answer) => (answer.ok, answer.text.clone()),
            Acted::Finished(_) => (true, String::new()),
        };
        self.last_call = format!("{tool} {topic}").trim().to_owned();
        let milliseconds = milliseconds_since(begun);
        self.events.emit(Event::CallResult { step, tool, ok, result, milliseconds });
        Ok(Done { acted, call, fits, kind })
    }

    async fn perform(&mut self, action: Action) -> Result<(Acted, Kind), AgentError> {
        let (answer, kind) = match action {
            Action::Plan(plan) => (self.take_plan(&plan)?, Kind::Talks),
            Action::Run(arguments) => self.run_command(&arguments).await?,
            Action::Finish(arguments) => return self.take_finish(arguments).await,
            Action::Read(ref read) => match self.outputs.read(read, self.page()) {
                Some(answer) => (answer, Kind::Looks),
                None => {
                    let path = read.path.clone();
                    let answer = self.on_files(action).await?;
                    if answer.ok {
                        self.seen.insert(tools::normal(&path));
                    }
                    (answer, Kind::Looks)
                }
            },
            Action::Write(ref edit) if self.seen.insert(tools::normal(&edit.path)) => {
                match tools::protect_unseen(&self.files, edit, self.page())? {
                    Some(protected) => (protected, Kind::Looks),
                    None => (self.edit(tools::normal(&edit.path), action.clone()).await?, Kind::Edits),
                }
            }
            Action::Write(ref edit) => (self.edit(tools::normal(&edit.path), action.clone()).await?, Kind::Edits),
            Action::Replace(ref edit) => (self.edit(tools::normal(&edit.path), action.clone()).await?, Kind::Edits),
            Action::Delete(ref edit) => (self.edit(tools::normal(&edit.path), action.clone()).await?, Kind::Edits),
            Action::Patch(ref patch) => {
                let paths = tools::patched_paths(patch);
                let answer = self.on_files(action).await?;
                if answer.changed {
                    self.seen.extend(paths.iter().cloned());
                    self.written.extend(paths);
                    self.since_finish = SinceFinish::Work;
                }
                (answer, Kind::Edits)
            }
            Action::List(_) | Action::Search(_) => (self.on_files(action).await?, Kind::Looks),
        };
        Ok((Acted::Answered(answer), kind))
    }

    /// Runs a command, unless it did not end the last time on the very same files.
    async fn run_command(&mut self, arguments: &tools::RunArguments) -> Result<(Answer, Kind), AgentError> {
        let state = self.state.sum();
        if self.endless.get(arguments.command.trim()) == Some(&state) {
            let text = "not run: this very command did not end the last time, and no file has changed since. Run \
                        something that ends by itself";
            return Ok((Answer::error(text), Kind::RunsForEver));
        }
        let answer = tools::run(self.sandbox, arguments, &self.budgets, &mut self.outputs).await?;
        if answer.ok {
            self.since_finish = SinceFinish::Work;
            self.see_in(&arguments.command);
        }
        if !tools::never_ended(&answer) {
            return Ok((answer, Kind::Runs));
        }
        self.endless.insert(arguments.command.trim().to_owned(), state);
        Ok((answer, Kind::RunsForEver))
    }

    /// Where commands are all there is to read by, a file that one names was seen.
    fn see_in(&mut self, command: &str) {
        if self.protocol == Protocol::Fenced {
            let words = command.split(|letter: char| letter.is_whitespace() || "'\"<>|;&()".contains(letter));
            self.seen.extend(words.filter(|word| !word.is_empty()).map(tools::normal));
        }
    }

    async fn take_finish(&mut self, arguments: FinishArguments) -> Result<(Acted, Kind), AgentError> {
        if self.since_finish == SinceFinish::Nothing {
            self.since_finish = SinceFinish::NothingAndTold;
            return Ok((Acted::Answered(Answer::error(self.prompts.unchanged()?)), Kind::Talks));
        }
        self.look_at_all_files().await?;
        let differs = self.state.has_changed();
        let claims_no_change = arguments.no_change_needed.unwrap_or(false);
        if claims_no_change && !differs && self.was_red() && !self.was_told_of_red {
            self.was_told_of_red = true;
            return Ok((Acted::Answered(Answer::error(self.prompts.still_red()?)), Kind::Talks));
        }
        // Files that no walk shows may have been written, and others that do not count: the snapshot tells in the end.
        if differs || !self.written.is_empty() || claims_no_change {
            return Ok((Acted::Finished(arguments), Kind::Talks));
        }
        self.was_told_unchanged = true;
        let answer = Answer::error(self.prompts.no_change()?);
        Ok((Acted::DoneForNothing(arguments, answer), Kind::DoneForNothing))
    }

    fn take_plan(&mut self, plan: &PlanArguments) -> Result<Answer, AgentError> {
        let steps = plan.steps.iter().map(|step| step.trim()).filter(|step| !step.is_empty());
        let numbered: Vec<String> = steps.enumerate().map(|(at, step)| format!("{}. {step}", at + 1)).collect();
        if numbered.is_empty() {
            return Ok(Answer::error("the plan has no steps; name at least one"));
        }
        self.plan = Some(clip(&numbered.join("\n"), MOST_PLAN_BYTES));
        let is_first = !std::mem::replace(&mut self.has_planned, true);
        let answer = if is_first { self.prompts.planned(&self.task)? } else { self.prompts.replanned(&self.task)? };
        Ok(Answer::ok(answer))
    }

    /// Whether the tests failed before any change.
    fn was_red(&self) -> bool {
        self.brief.baseline.as_ref().is_some_and(|run| matches!(run.ending, TestEnding::Failed { .. }))
    }

    /// The most that a page of a file may weigh, so that none of it is cut from the history.
    fn page(&self) -> u64 {
        self.profile.observation(self.window())
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
        let (files, page) = (self.files.clone(), self.page());
        let acted = tokio::task::spawn_blocking(move || tools::act_on_files(&files, &action, page)).await;
        Ok(acted.map_err(|error| AgentError::Broken(error.to_string()))??)
    }

    /// Takes in what the calls may have done to the files.
    pub(super) async fn look_at_files(&mut self, deeds: &[Deed]) -> Result<(), AgentError> {
        let did = |kinds: [Kind; 2]| deeds.iter().any(|deed| kinds.contains(&deed.kind));
        if did([Kind::Runs, Kind::RunsForEver]) {
            return self.look_at_all_files().await;
        }
        if did([Kind::Edits, Kind::Edits]) {
            for path in &self.written {
                self.state.update_one(&self.files, path)?;
            }
        }
        Ok(())
    }

    async fn look_at_all_files(&mut self) -> Result<(), AgentError> {
        let files = self.files.clone();
        let walked = tokio::task::spawn_blocking(move || files.walk(None, MOST_COMPARED_FILES)).await;
        match walked.map_err(|error| AgentError::Broken(error.to_string()))? {
            Ok(walk) => self.state.update(&self.files, &walk),
            // The snapshot tells what is wrong, when it comes to that; until then a command may mend it.
            Err(_) => self.state.is_unknown(),
        }
        Ok(())
    }
}

/// The action of a call; the error is the answer to the model.
fn parse(wanted: &Wanted) -> Result<Action, String> {
    let arguments = wanted.arguments.as_ref().map_err(Clone::clone)?;
    let action = Action::parse(&wanted.name, arguments)?;
    if wanted.repaired && action.tool().is_risky() {
        return Err(format!(
            "the call of {} is not written as it must be, so nothing was done. Make it again; inside of JSON texts write \
             line ends as \\n and quotes as \\\", and close each tag.",
            wanted.name
        ));
    }
    Ok(action)
}

/// What a call is about, in a few words.
fn topic_of(arguments: &Map<String, Value>) -> String {
    let keys = ["path", "command", "text"];
    let topic = keys.iter().find_map(|key| arguments.get(*key)?.as_str()).unwrap_or_default();
    clip(topic.trim().lines().next().unwrap_or_default(), MOST_TOPIC_BYTES)
}

pub(super) fn milliseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
