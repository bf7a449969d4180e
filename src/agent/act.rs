//! Acting on a reply: its calls are carried out in order, and each is answered.
//!
//! Behind a call that failed nothing more is run, and nothing is finished, for what was meant may rest on it; looking goes
//! on. Nor is anything changed where the calls stand in a text; those in the server's own form are made side by side, so
//! there each edit stands alone. `finish` ends the reply. A reply with good calls and then a broken one is acted on up to
//! there, and told of the rest.

use serde_json::{Map, Value};

use super::perform::{Acted, Done};
use super::protocol::json_call::arguments_of;
use super::protocol::{Protocol, Said, read_text, without_repeated, without_thinking};
use super::state::hash_of;
use super::stuck::{Advice, Deed, Nothing, Step};
use super::text::clip;
use super::tools::{self, FinishArguments, Tool};
use super::{Agent, AgentError, MOST_PLAN_BYTES, MOST_SUMMARY_BYTES, Pause, Pending, SinceFinish};
use crate::model::{Call, Message, Reply};
use crate::outcome::{Habit, StopReason};

/// Prose beside a call, or a thought before it, that is at least this long counts as the plan.
const SHORTEST_PLAN_BYTES: usize = 40;
/// The most of a thought that does.
const MOST_THOUGHT_BYTES: usize = 600;
/// The longest arguments of one call, in bytes.
const MOST_ARGUMENT_BYTES: usize = 1 << 20;
const AFTER_A_FAILURE: &str = "Not executed: a call before it failed.";

/// A call of a reply, before its arguments are known to fit.
pub(super) struct Wanted {
    pub(super) name: String,
    /// `Err`: the answer to the model.
    pub(super) arguments: Result<Map<String, Value>, String>,
    pub(super) repaired: bool,
}

/// What the calls of one reply came to.
#[derive(Default)]
struct Round {
    /// One for each call up to `finish`.
    answers: Vec<String>,
    deeds: Vec<Deed>,
    any_fits: bool,
    finished: Option<FinishArguments>,
    /// A `finish` that was not taken, since no file differs.
    done_for_nothing: Option<FinishArguments>,
}

impl Agent<'_> {
    /// Acts on a reply and appends it with the answers.
    pub(super) async fn act(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        if self.repairing.is_some() {
            return self.act_on_repair(reply).await;
        }
        if self.whole_file.is_some() {
            return self.act_on_whole_files(reply).await;
        }
        if self.protocol == Protocol::Native && !reply.calls.is_empty() {
            return self.act_on_native(reply).await;
        }
        self.act_on_text(reply).await
    }

    async fn act_on_native(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        let prose = without_thinking(without_repeated(&reply.content, &reply.reasoning)).to_owned();
        self.history.push_reply(prose.clone(), &reply.calls);
        self.note_plan(&prose, &reply.reasoning);
        let round = self.carry_out(reply.calls.iter().map(wanted).collect(), false).await?;
        let mut calls = reply.calls;
        let rest = calls.split_off(round.answers.len());
        let answers = calls.into_iter().zip(&round.answers);
        let answers = answers.map(|(call, content)| Message::Tool { call_id: call.id, content: content.clone() });
        let answers: Vec<Message> = answers.collect();
        let mut rest = rest.into_iter();
        if let (Some(arguments), Some(call)) = (round.finished.clone(), rest.next()) {
            answers.into_iter().for_each(|answer| self.history.push(answer));
            self.pending = Pending::Native { id: call.id, rest: rest.collect() };
            self.watch.reach(self.state.sum());
            return Ok(Some(self.finish(arguments)));
        }
        self.close_round(round, answers)
    }

    async fn act_on_text(&mut self, reply: Reply) -> Result<Option<Pause>, AgentError> {
        let was_cut = reply.finish_reason == "length";
        let (said, wanted) = self.read(&reply, was_cut);
        // Servers refuse a message without any text.
        let own = if said.own.is_empty() { "(no answer)".to_owned() } else { said.own };
        self.history.push_reply(own, &[]);
        let rest = match (&said.broken, was_cut) {
            (_, true) => Some(format!(
                "The reply was cut off at the limit of {} tokens. Say less: one short tool call.",
                self.budgets.answer_tokens
            )),
            (Some(reason), false) => Some(format!("Nothing was done: {reason}.")),
            (None, false) => None,
        };
        if wanted.is_empty() {
            let means_a_call = said.broken.is_some() || was_cut;
            let nudge = rest.map_or_else(|| self.prompts.no_call(&tools::names()), Ok)?;
            let nothing = Nothing { reply: hash_of((&reply.content, &reply.reasoning)), means_a_call };
            let step = Step { deeds: Vec::new(), nothing: Some(nothing), files: self.state.sum() };
            return self.follow(step, vec![Message::User { content: nudge }], None);
        }
        let names: Vec<String> = wanted.iter().map(|wanted| clip(&wanted.name, 60)).collect();
        self.note_plan(&said.prose, &reply.reasoning);
        let round = self.carry_out(wanted, true).await?;
        let answered = names.iter().zip(&round.answers).map(|(name, text)| format!("Result of {name}:\n{text}"));
        let mut content = answered.collect::<Vec<_>>().join("\n\n");
        if let Some(arguments) = round.finished.clone() {
            let before = if content.is_empty() { content } else { format!("{content}\n\n") };
            self.pending = Pending::Text { before };
            self.watch.reach(self.state.sum());
            return Ok(Some(self.finish(arguments)));
        }
        if let Some(rest) = rest {
            let rest = rest.replacen("Nothing was done", "What follows was not done", 1);
            content = format!("{content}\n\n{rest}");
        }
        self.close_round(round, vec![Message::User { content }])
    }

    /// What a reply says, and the calls in it.
    fn read(&self, reply: &Reply, was_cut: bool) -> (Said, Vec<Wanted>) {
        let content = without_repeated(&reply.content, &reply.reasoning);
        if !reply.calls.is_empty() {
            let names: Vec<&str> = reply.calls.iter().map(|call| call.name.as_str()).collect();
            let prose = without_thinking(content).to_owned();
            let own = if prose.is_empty() { format!("(calls {})", names.join(", ")) } else { prose.clone() };
            return (Said { prose, own, ..Said::default() }, reply.calls.iter().map(wanted).collect());
        }
        let mut said = self.protocol.read(content, was_cut);
        // A server that takes thoughts apart may take a call with them, where the model forgot to close them.
        if content.trim().is_empty() && !was_cut {
            said = read_text(&format!("<think>{}", reply.reasoning));
        }
        let calls = std::mem::take(&mut said.calls);
        let wanted = calls.into_iter().map(|call| Wanted {
            name: call.name,
            arguments: Ok(call.arguments),
            repaired: call.repaired,
        });
        let wanted = wanted.collect();
        (said, wanted)
    }

    /// Makes the calls of one reply; `in_turn`: they stand in a text.
    async fn carry_out(&mut self, wanted: Vec<Wanted>, in_turn: bool) -> Result<Round, AgentError> {
        let mut round = Round::default();
        let mut has_failed = false;
        for wanted in wanted {
            if has_failed && rests_on_what_came_before(&wanted, in_turn) {
                round.answers.push(AFTER_A_FAILURE.into());
                continue;
            }
            let Done { acted, call, fits, kind } = self.one_call(&wanted).await?;
            round.any_fits |= fits;
            match acted {
                Acted::Answered(answer) => {
                    if fits {
                        let answer: String = answer.text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
                        round.deeds.push(Deed { call, answer: hash_of(answer), kind });
                    }
                    has_failed |= !answer.ok;
                    round.answers.push(answer.text);
                }
                Acted::DoneForNothing(arguments, answer) => {
                    round.deeds.push(Deed { call, answer: hash_of(&answer.text), kind });
                    round.done_for_nothing = Some(arguments);
                    round.answers.push(answer.text);
                    has_failed = true;
                }
                Acted::Finished(arguments) => {
                    round.finished = Some(arguments);
                    break;
                }
            }
        }
        self.look_at_files(&round.deeds).await?;
        Ok(round)
    }

    fn close_round(&mut self, round: Round, answers: Vec<Message>) -> Result<Option<Pause>, AgentError> {
        let reply = hash_of(&round.answers);
        let nothing = (!round.any_fits).then_some(Nothing { reply, means_a_call: true });
        let step = Step { deeds: round.deeds, nothing, files: self.state.sum() };
        self.follow(step, answers, round.done_for_nothing)
    }

    /// Appends the answers, with what the watch has to say of the step.
    fn follow(
        &mut self,
        step: Step,
        mut answers: Vec<Message>,
        done_for_nothing: Option<FinishArguments>,
    ) -> Result<Option<Pause>, AgentError> {
        match self.watch.observe(&step) {
            Advice::GoOn => {}
            Advice::Nudge(habit) => {
                let nudge = self.prompts.nudge(habit, &self.last_call, &self.task)?;
                match answers.last_mut() {
                    Some(Message::Tool { content, .. } | Message::User { content }) => {
                        *content = format!("{content}\n\n{nudge}");
                    }
                    Some(Message::System { .. } | Message::Assistant { .. }) | None => {}
                }
            }
            Advice::BeginAgain(habit) => {
                self.begin_again(habit)?;
                return Ok(None);
            }
            Advice::End(habit) => {
                answers.into_iter().for_each(|answer| self.history.push(answer));
                // It is taken at its word: nothing was done.
                let done = done_for_nothing.filter(|_| habit == Habit::DoneWithoutChange);
                let pause = match done {
                    Some(arguments) => self.finish(arguments),
                    None => Pause::Stopped(self.ended_by(habit)),
                };
                return Ok(Some(pause));
            }
        }
        answers.into_iter().for_each(|answer| self.history.push(answer));
        Ok(None)
    }

    fn ended_by(&self, habit: Habit) -> StopReason {
        let last = if habit.is_of_form() { String::new() } else { format!(" (the last one: {})", self.last_call) };
        let reason = format!("the model {}{last} and did not stop when told", habit.describe());
        StopReason::Stuck { habit: Some(habit), reason }
    }

    fn finish(&mut self, arguments: FinishArguments) -> Pause {
        self.since_finish = SinceFinish::Nothing;
        let summary = clip(arguments.summary.trim(), MOST_SUMMARY_BYTES);
        self.summary = Some(summary.clone());
        Pause::Finish { summary, no_change_needed: arguments.no_change_needed.unwrap_or(false) }
    }

    /// Takes the first prose or thought beside a call as the plan, until the model calls `plan`.
    fn note_plan(&mut self, prose: &str, reasoning: &str) {
        if self.plan.is_some() {
            return;
        }
        let thought = clip(reasoning.trim(), MOST_THOUGHT_BYTES);
        let prose = clip(prose.trim(), MOST_PLAN_BYTES);
        self.plan = [prose, thought].into_iter().find(|text| text.len() >= SHORTEST_PLAN_BYTES);
    }
}

/// Whether a call is not to be made where one before it in the same reply failed.
fn rests_on_what_came_before(wanted: &Wanted, in_turn: bool) -> bool {
    let tool = wanted.arguments.as_ref().ok().and_then(|arguments| tools::meant(&wanted.name, arguments));
    match tool {
        Some(Tool::Run | Tool::Finish) => true,
        Some(Tool::Replace | Tool::Patch | Tool::Write | Tool::Delete) => in_turn,
        Some(Tool::Plan | Tool::Read | Tool::List | Tool::Search) | None => false,
    }
}

/// A call in the server's own form.
fn wanted(call: &Call) -> Wanted {
    let arguments = if call.arguments.len() > MOST_ARGUMENT_BYTES {
        Err(format!(
            "the arguments have {} bytes, more than {MOST_ARGUMENT_BYTES}; do less in one call",
            call.arguments.len()
        ))
    } else {
        arguments_of(&call.name, &call.arguments)
    };
    Wanted { name: call.name.clone(), arguments, repaired: false }
}
