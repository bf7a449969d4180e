//! How a run begins: what the model is shown before its first reply, and which tools it gets.

use tokio::runtime::{Handle, RuntimeFlavor};

use super::failing::{self, Failing};
use super::instructions::{self, Instruction};
use super::interest::{Interest, Paths};
use super::map::{self, Index, Map};
use super::profile::{Allowance, Profile};
use super::prompt::{Prompts, top_folders};
use super::protocol::{Protocol, parameters_in, schema};
use super::repair::{self, Clues, Repairing, Suspect};
use super::tokens::weigh;
use super::whole_file::WholeFile;
use super::{AgentError, Brief, tools};
use crate::model::{Message, Model, ToolSpec};
use crate::outcome::{TestEnding, TestRun};
use crate::workspace::{Files, Walk};

/// What the frame of a tool weighs in a request.
const TOOL_FRAME: u64 = 14;

/// The beginning of a run.
pub(super) struct Opening {
    pub(super) profile: Profile,
    pub(super) prompts: Prompts,
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<ToolSpec>,
    /// What the server is to hold each reply to.
    pub(super) schema: Option<serde_json::Value>,
    pub(super) tool_weight: u64,
    /// The most that an observation may weigh; `None`: it is never cut.
    pub(super) most_observed: Option<u64>,
    /// `None`: the model acts by calls.
    pub(super) whole_file: Option<WholeFile>,
    /// The series of questions that the run begins with; `None`: with the whole task.
    pub(super) repairing: Option<Repairing>,
}

/// What a conversation begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A series of questions for single files, where the task is a repair and something points to them.
    Repair,
    /// The task, in the run's protocol.
    Task,
}

/// What is known of the repository in the light of the task.
#[derive(Debug)]
pub(super) struct View {
    pub(super) interest: Interest,
    pub(super) map: Map,
    pub(super) failing: Failing,
    pub(super) instructions: Vec<Instruction>,
    /// The files that may be wrong, the likeliest one first.
    pub(super) suspects: Vec<Suspect>,
    pub(super) allowance: Allowance,
}

/// Looks at the repository, and writes the first two messages. `window`: of the model, as far as it is known by now.
pub(super) fn begin(
    files: &Files,
    walk: &Walk,
    brief: &Brief,
    model: &dyn Model,
    protocol: Protocol,
    beginning: Beginning,
    window: Option<u64>,
) -> Result<Opening, AgentError> {
    let card = model.card();
    let profile = brief.profile.pick(card.parameters.or_else(|| parameters_in(&card.name)), window);
    let prompts = Prompts::load(brief.prompts.as_deref(), profile, protocol, card)?;
    let view = look(files, walk, brief, profile.allowance(window));
    let repairing = match beginning {
        Beginning::Repair => Repairing::new(files, walk, brief, &view, protocol, window),
        Beginning::Task => None,
    };
    if let Some(repairing) = repairing {
        let system = Message::System { content: prompts.repair_system()? };
        let question = Message::User { content: repairing.question(&prompts, brief)? };
        return Ok(Opening {
            profile,
            prompts,
            messages: vec![system, question],
            tools: Vec::new(),
            schema: None,
            tool_weight: 0,
            most_observed: None,
            whole_file: None,
            repairing: Some(repairing),
        });
    }
    let conversation = |system: String| -> Result<[Message; 2], AgentError> {
        Ok([Message::System { content: system }, Message::User { content: prompts.task(brief, &view)? }])
    };
    let offered = || offered(tools::specifications(), profile);
    let (messages, tools, schema, whole_file) = match protocol {
        Protocol::Native => (conversation(prompts.system()?)?, offered(), None, None),
        Protocol::Schema => {
            let tools = offered();
            let system = prompts.schema_system(&schema::in_words(&tools))?;
            (conversation(system)?, Vec::new(), Some(schema::of_one_action(&tools)), None)
        }
        Protocol::Fenced => (conversation(prompts.fenced_system()?)?, Vec::new(), None, None),
        Protocol::WholeFile => {
            let (whole_file, messages) = WholeFile::begin(&prompts, files, walk, brief, &view)?;
            (messages, Vec::new(), None, Some(whole_file))
        }
    };
    Ok(Opening {
        profile,
        prompts,
        messages: messages.into(),
        tool_weight: weight_of(&tools),
        tools,
        schema,
        most_observed: whole_file.is_none().then(|| profile.observation(window)),
        whole_file,
        repairing: None,
    })
}

/// What a request's tools weigh.
pub(super) fn weight_of(tools: &[ToolSpec]) -> u64 {
    let weight = |tool: &ToolSpec| weigh(tool.name) + weigh(&tool.description) + weigh(&tool.parameters.to_string());
    tools.iter().map(|tool| weight(tool) + TOOL_FRAME).sum()
}

fn offered(tools: Vec<ToolSpec>, profile: Profile) -> Vec<ToolSpec> {
    tools
        .into_iter()
        .filter(|tool| tools::Tool::ALL.iter().any(|own| own.name() == tool.name && profile.offers(*own)))
        .collect()
}

/// Reads what the first message shows.
pub(super) fn look(files: &Files, walk: &Walk, brief: &Brief, allowance: Allowance) -> View {
    off_the_runtime(|| look_at(files, walk, brief, allowance))
}

fn look_at(files: &Files, walk: &Walk, brief: &Brief, allowance: Allowance) -> View {
    let failing = brief.baseline.as_ref().filter(|run| run.ending != TestEnding::Passed);
    let is_red = failing.is_some_and(|run| matches!(run.ending, TestEnding::Failed { .. }));
    let task = format!("{}\n{}", brief.title, brief.instruction);
    let interest = Interest::of(&task, failing.map(telling).as_deref());
    let paths = Paths::of(walk);
    let index = Index::read(files, walk, &paths, &interest);
    let map = map::render(&top_folders(files), walk, &paths, &index, &interest, allowance.map);
    let failing = failing::code(files, walk, &paths, &index, &interest.mentions, allowance.code);
    let instructions = match &brief.base {
        Some(base) => instructions::collect(base, walk, &paths, &interest, allowance.instructions),
        None => Vec::new(),
    };
    let clues = Clues { index: &index, interest: &interest, map: &map, failing: &failing, is_red };
    let suspects = repair::suspects(clues);
    View { map, failing, instructions, suspects, interest, allowance }
}

/// What a failing run printed, with its first failure in front: an excerpt may be without it.
fn telling(run: &TestRun) -> String {
    let first = run.digest.as_ref().and_then(|digest| digest.first_failure.as_deref()).unwrap_or_default();
    format!("{first}\n{}", run.excerpt)
}

/// Runs what blocks for up to seconds where it holds nobody else up.
fn off_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    let is_shared = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_shared { tokio::task::block_in_place(work) } else { work() }
}
